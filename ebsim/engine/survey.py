"""A survey of a region: everything that a check looks at, once, and what was wrong.

Writers go on meanwhile.  The rows are audited in one read transaction; packs are read
without any, and what fails there is looked at again, where the index says it lies then,
before it counts as a fault.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ebsim.catalog.records import find_snapshot
from ebsim.catalog.snapshot import Snapshot
from ebsim.catalog.storage_tier import ARCHIVE_FOLDER
from ebsim.chunkstore.chunk_index import find_locations
from ebsim.chunkstore.ledger import Ledger, audit_rows, located_numbers, scan_all
from ebsim.chunkstore.number_set import NumberSet
from ebsim.chunkstore.pack_check import BadChunk, PackChecker, PackFindings, Reading
from ebsim.chunkstore.reclaim import session_of
from ebsim.chunkstore.rows import decode_pack
from ebsim.engine.archive_check import ArchiveFault, archive_faults
from ebsim.engine.check_catalog import CatalogFault, check_catalog
from ebsim.engine.check_nodes import ChunkComparison
from ebsim.engine.region import Region
from ebsim.engine.storage_tiers import unneeded_archives
from ebsim.ids import SnapshotId
from ebsim.metadata.transactions import Reader, Table
from ebsim.progress import Progress

_SUSPECTS_MAX = 1 << 22


@dataclass(slots=True)
class Survey:
    """What a survey found.

    Attributes:
        packs: Those with something wrong as a whole.
        bad_chunks: Chunks that cannot be read as the index says, by number.
        wrong_nodes: Nodes whose rows are wrong, and how.
        wrong_fingerprints: Leaves in whose rows a fingerprint is wrong.
        orphans: Packs that no row names and no session is writing.
        archives: What is wrong with the archives of snapshots.
        archive_orphans: Packs of archives that no snapshot has and no session is writing.
        cleared: Numbers known as damaged that were found whole.
    """

    ledger: Ledger
    packs: list[PackFindings] = field(default_factory=list)
    bad_chunks: dict[int, BadChunk] = field(default_factory=dict)
    wrong_nodes: dict[int, str] = field(default_factory=dict)
    wrong_fingerprints: list[int] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    archives: list[tuple[Snapshot, ArchiveFault]] = field(default_factory=list)
    archive_orphans: list[str] = field(default_factory=list)
    cleared: list[int] = field(default_factory=list)
    catalog: list[CatalogFault] = field(default_factory=list)
    snapshot_count: int = 0
    read_bytes: int = 0
    notes: list[str] = field(default_factory=list)


def survey_region(region: Region, *, read_data: bool, sample: float, progress: Progress) -> Survey:
    """Look at everything; of the blocks at the share *sample* if *read_data* says so."""
    survey = Survey(region.metadata.read(audit_rows))
    reading = Reading(read_data, sample, region.random, frozenset(survey.ledger.damaged))
    checker = PackChecker(region.backend, region.metadata, reading)
    comparison = ChunkComparison(region.metadata, region.seed)
    proven, suspects = _check_packs(region, checker, comparison, survey, progress)
    _recheck(region, checker, survey, proven, suspects, whole=read_data)
    survey.wrong_nodes = {
        number: what
        for number, what in comparison.wrong_nodes.items()
        if number not in survey.bad_chunks
    }
    survey.wrong_fingerprints = list(comparison.wrong_fingerprints())
    survey.orphans = _find_orphans(region, survey)
    share = sample if read_data else 0.0
    for archived in _archived_snapshots(region):
        survey.archives += _archive_faults(region, archived, share)
    survey.archive_orphans = _find_archive_orphans(region)
    survey.snapshot_count, survey.catalog, notes = check_catalog(region)
    survey.notes += notes
    return survey


def _check_packs(
    region: Region,
    checker: PackChecker,
    comparison: ChunkComparison,
    survey: Survey,
    progress: Progress,
) -> tuple[NumberSet, set[int]]:
    """Check every pack that has a row; return the numbers proven, and those that failed."""
    proven = NumberSet()
    suspects: set[int] = set()
    rows = region.metadata.read(
        lambda reader: [
            (int.from_bytes(key, "big"), decode_pack(value))
            for key, value in scan_all(reader, Table.PACKS)
        ]
    )
    progress.begin("check", sum(row.size_bytes for _, row in rows))
    try:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "check") as pool:
            checks = pool.map(
                lambda one: (one[1], checker.check(one[0], one[1].name, comparison.take)), rows
            )
            for row, found in checks:
                for number in found.proven:
                    proven.add(number)
                if len(suspects) < _SUSPECTS_MAX:
                    suspects.update(found.suspects)
                survey.read_bytes += found.read_bytes
                if found.complaint or found.overlaps:
                    survey.packs.append(found)
                progress.advance(row.size_bytes)
        comparison.finish()
    finally:
        progress.end()
    gone = {pack.pack_number for pack in survey.packs} - {
        number for number, _ in region.metadata.read(lambda reader: list(_pack_names(reader)))
    }
    survey.packs = [pack for pack in survey.packs if pack.pack_number not in gone]
    return proven, suspects


def _recheck(
    region: Region,
    checker: PackChecker,
    survey: Survey,
    proven: NumberSet,
    suspects: set[int],
    *,
    whole: bool,
) -> None:
    """Look again at what failed, and at what no pack that was read had."""
    for bad in checker.recheck(suspects | survey.ledger.damaged.keys(), whole=True):
        survey.bad_chunks[bad.number] = bad
    known = survey.ledger.damaged.keys() - survey.bad_chunks.keys()
    located = region.metadata.read(lambda reader: find_locations(reader, known))
    survey.cleared = sorted(located)
    unproven = [
        number
        for number in region.metadata.read(located_numbers)
        if number not in proven and number not in survey.bad_chunks
    ]
    for bad in checker.recheck(unproven, whole=whole):
        survey.bad_chunks[bad.number] = bad


def _pack_names(reader: Reader) -> Iterator[tuple[int, str]]:
    for key, value in scan_all(reader, Table.PACKS):
        yield int.from_bytes(key, "big"), decode_pack(value).name


def _find_orphans(region: Region, survey: Survey) -> list[str]:
    """Packs without a row whose session is over.

    Asked in this order: what exists, whose session is over, what then still has no row.
    A session's last act is to give its packs their rows.
    """
    orphans = []
    for name in sorted(region.backend.names("packs")):
        if not name.endswith(".pack"):
            survey.notes.append(f"{name} is not a name that ebsim gives; it was left alone")
        elif not region.sessions.is_alive(session_of(name)):
            orphans.append(name)
    known = region.metadata.read(lambda reader: {name for _, name in _pack_names(reader)})
    return [
        name
        for name in orphans
        if name not in known and region.backend.size_bytes(name) is not None
    ]


def _archived_snapshots(region: Region) -> list[Snapshot]:
    """The snapshots that have an archive."""

    def look(reader: Reader) -> list[Snapshot]:
        keys = (key.decode() for key, _ in scan_all(reader, Table.ARCHIVES))
        found = (find_snapshot(reader, SnapshotId(key.partition("/")[2])) for key in keys)
        return [snapshot for snapshot in found if snapshot is not None]

    return region.metadata.read(look)


def _archive_faults(
    region: Region, snapshot: Snapshot, share: float
) -> list[tuple[Snapshot, ArchiveFault]]:
    """What is wrong with the snapshot's archive; nothing if it was given up meanwhile."""
    if snapshot.archive is None:
        return []
    faults = list(archive_faults(region.backend, snapshot.archive, share, region.random))
    now = region.metadata.read(lambda reader: find_snapshot(reader, snapshot.snapshot_id))
    if now is None or now.archive != snapshot.archive:
        return []
    return [(snapshot, fault) for fault in faults]


def _find_archive_orphans(region: Region) -> list[str]:
    """Packs of archives that no snapshot has; asked in the order of :func:`_find_orphans`."""
    over = [
        name
        for name in sorted(region.backend.names(ARCHIVE_FOLDER))
        if not region.sessions.is_alive(session_of(name))
    ]
    ids = {session_of(name) for name in over}
    unneeded = region.metadata.read(lambda reader: unneeded_archives(reader, ids))
    return [name for name in over if session_of(name) in unneeded]
