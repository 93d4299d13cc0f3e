"""Checking a region: packs, index, counts, nodes, manifests and catalog against each other.

What it proves, and what it leaves out:

1. The metadata file is sound and each row passes its checksum (``lmdb_check.py``).
2. Rows agree among themselves, reference counts included (``ledger.py``).
3. Each pack is what its row says, and each chunk lies where the index says.
4. Each node is read and proved by its digest, and its edges are those of its row.
5. With *read_data* every live record is proved by its checksums and one in 16 by its
   digest (``scrub.py``); a sampled share of the blocks otherwise chosen.
6. Each snapshot has its root, its volume, its index rows, and a manifest that agrees.
7. Each volume whose bytes are here has its folder, and holds what it was made from.

Bytes that nothing references are not read: what is wrong there harms nobody.

What a crash left is cleared up first and is no finding.  Snapshots may be taken and
deleted meanwhile.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ebsim.catalog.snapshot import Snapshot
from ebsim.engine.archive_check import ArchiveFault
from ebsim.engine.blast_radius import BlastRadius
from ebsim.engine.check_report import (
    AffectedSnapshot,
    BlockRange,
    Checked,
    CheckReport,
    Finding,
    FindingKind,
    merged_snapshots,
)
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.repair_store import repair_region
from ebsim.engine.survey import Survey, survey_region
from ebsim.ids import SnapshotId
from ebsim.metadata.lmdb_check import verify_rows
from ebsim.progress import Progress, Unwatched

_LISTED_MAX = 1000


def check_store(
    region: Region,
    *,
    read_data: bool = False,
    sample: float | None = None,
    repair: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Check the region, and mend what can be mended if *repair* says so.

    *sample* is the share of the blocks to read, from 0 to 1; all of them otherwise.  After
    a repair everything is looked at once more: what a finding says of being mended is
    what was seen then.

    Raises:
        Conflict: a rebuild has put the region's metadata aside meanwhile.
        StorageUnavailable: a disk failed in a way that is no damage.
    """
    progress = progress or Unwatched()
    complaints = verify_rows(region.path / "metadata").complaints
    if complaints:
        return _unreadable(complaints)
    recover(region)
    share = 1.0 if sample is None else sample
    survey = survey_region(region, read_data=read_data, sample=share, progress=progress)
    # Packs and manifests that came since are unknown to metadata that was put aside.
    region.refuse_old_metadata()
    radius = BlastRadius(region.metadata, survey.bad_chunks.keys())
    findings = list(findings_of(survey, radius.affects))
    repairs: list[str] = []
    if repair and (findings or survey.cleared):
        repairs = repair_region(region, survey, radius.sources)
        recover(region)
        after = survey_region(region, read_data=False, sample=0.0, progress=progress)
        # Archives are not repaired, and what is wrong with a block is not seen unread.
        after.archives = survey.archives
        left = list(findings_of(after, BlastRadius(region.metadata, after.bad_chunks).affects))
        findings = _with_outcome(findings, left)
    return CheckReport(
        checked=_checked(survey),
        findings=findings,
        notes=survey.notes,
        repairs=repairs,
        lost=merged_snapshots(
            [one for finding in findings if not finding.is_mended for one in finding.affects]
        ),
    )


def _unreadable(complaints: Sequence[str]) -> CheckReport:
    """The report about metadata that must not be relied on, nor read any further."""
    what = (
        "every snapshot of the region is affected until 'ebsim store rebuild' has made the "
        "metadata anew; no block is lost by it"
    )
    return CheckReport(
        checked=Checked(),
        findings=[
            Finding(FindingKind.METADATA, complaint, what)
            for complaint in complaints[:_LISTED_MAX]
        ],
    )


def _checked(survey: Survey) -> Checked:
    ledger = survey.ledger
    return Checked(
        pack_count=ledger.pack_count,
        chunk_count=ledger.chunk_count,
        node_count=ledger.node_count,
        snapshot_count=survey.snapshot_count,
        reference_count=ledger.reference_count,
        read_bytes=survey.read_bytes,
    )


def _with_outcome(findings: Sequence[Finding], left: Sequence[Finding]) -> list[Finding]:
    """*findings*, those that are not *left* as mended, and what came to light since."""
    still = {(finding.kind, finding.where): finding for finding in left}
    judged = [
        replace(finding, is_mended=(finding.kind, finding.where) not in still)
        for finding in findings
    ]
    before = {(finding.kind, finding.where) for finding in findings}
    return judged + [finding for finding in left if (finding.kind, finding.where) not in before]


def findings_of(
    survey: Survey, affects: Mapping[int, Sequence[AffectedSnapshot]]
) -> Iterable[Finding]:
    """What *survey* found, in words; *affects* says whose blocks each bad chunk is."""
    yield from _pack_findings(survey, affects)
    for number, bad in sorted(survey.bad_chunks.items()):
        if not bad.complaint.endswith("the pack is not there"):
            where = f"chunk {number}, {bad.pack_name}, byte {bad.location.offset}"
            yield Finding(FindingKind.CHUNK, where, bad.complaint, affects.get(number, ()))
    yield from _index_findings(survey)
    yield from _count_findings(survey)
    for fault in survey.catalog:
        lost = [AffectedSnapshot(SnapshotId(fault.subject), (), is_whole=True)]
        yield Finding(fault.kind, fault.subject, fault.what, lost if fault.is_lost else ())
    for snapshot, damage in survey.archives:
        yield _archive_finding(snapshot, damage)
    for name in [*survey.orphans, *survey.archive_orphans]:
        yield Finding(FindingKind.ORPHAN, name, "no row names it and nobody is writing it")


def _archive_finding(snapshot: Snapshot, fault: ArchiveFault) -> Finding:
    """What is wrong with an archive, and which of its snapshot's blocks that costs."""
    where = f"archive of {snapshot.snapshot_id}, {fault.where}"
    if fault.lost is None:
        return Finding(FindingKind.PACK, where, fault.what)
    block_count = -(-snapshot.size_bytes // snapshot.block_size)
    start, stop = fault.lost.start, min(fault.lost.stop, block_count)
    is_whole = start == 0 and stop == block_count
    lost = AffectedSnapshot(snapshot.snapshot_id, [BlockRange(start, stop)], is_whole)
    return Finding(FindingKind.CHUNK, where, fault.what, [lost])


def _pack_findings(
    survey: Survey, affects: Mapping[int, Sequence[AffectedSnapshot]]
) -> Iterable[Finding]:
    """Packs that are wrong as a whole; a missing one stands for all of its chunks."""
    missing: defaultdict[str, list[AffectedSnapshot]] = defaultdict(list)
    for number, bad in survey.bad_chunks.items():
        if bad.complaint.endswith("the pack is not there"):
            missing[bad.pack_name] += affects.get(number, ())
    for pack in survey.packs:
        if pack.is_missing:
            missing.setdefault(pack.name, [])
        elif pack.complaint:
            yield Finding(FindingKind.PACK, pack.name, pack.complaint)
        for start, stop in pack.overlaps:
            where = f"{pack.name}, bytes {start}-{stop - 1}"
            yield Finding(FindingKind.ACCOUNT, where, "counted as dead, and in use")
    for name, affected in sorted(missing.items()):
        what = "the pack is not there"
        yield Finding(FindingKind.PACK, name, what, merged_snapshots(affected))


def _index_findings(survey: Survey) -> Iterable[Finding]:
    """Rows that lead nowhere."""
    ledger = survey.ledger
    for digest, number in ledger.stale[:_LISTED_MAX]:
        where = f"index row {digest.hex()}"
        yield Finding(FindingKind.INDEX, where, f"leads to chunk {number}, which is not its own")
    for number in ledger.nameless[:_LISTED_MAX]:
        yield Finding(FindingKind.INDEX, f"chunk {number}", "no digest leads to it")
    for node, child in ledger.dangling[:_LISTED_MAX]:
        where = f"node {node}, child {child}"
        yield Finding(FindingKind.INDEX, where, "the index has no place for the child")
    for number in sorted(ledger.packless):
        yield Finding(
            FindingKind.INDEX, f"pack number {number}", "chunks lie in it; it has no row"
        )
    for table, key in ledger.strays[:_LISTED_MAX]:
        where = f"table {table}, row {key.hex()}"
        yield Finding(FindingKind.INDEX, where, "it is about nothing that exists")


def _count_findings(survey: Survey) -> Iterable[Finding]:
    """Counts that do not fit, and nodes whose rows do not."""
    ledger = survey.ledger
    for account in ledger.accounts:
        what = (
            f"counted as live are {account.row.live_count} records of {account.row.live_bytes} "
            f"bytes; there are {account.live_count} of {account.live_bytes}"
        )
        yield Finding(FindingKind.ACCOUNT, account.row.name, what)
    for drift in ledger.drifted[:_LISTED_MAX]:
        what = f"its reference count is {drift.stored}; there are {drift.counted}"
        yield Finding(FindingKind.COUNT, f"chunk {drift.number}", what)
    for number in ledger.unqueued[:_LISTED_MAX]:
        what = "nothing references it, and the reclaimer does not know"
        yield Finding(FindingKind.COUNT, f"chunk {number}", what)
    for number in ledger.rowless[:_LISTED_MAX]:
        yield Finding(FindingKind.NODE, f"node {number}", "it has no row of edges")
    for number, what in sorted(survey.wrong_nodes.items()):
        yield Finding(FindingKind.NODE, f"node {number}", what)
    for number in survey.wrong_fingerprints[:_LISTED_MAX]:
        yield Finding(FindingKind.FINGERPRINT, f"leaf {number}", "a block has another fingerprint")
