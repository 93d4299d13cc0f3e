"""Repairing a region after a survey: nothing is destroyed that might still help.

The order matters.  Packs that lost their rows come back first, then digests that lead
astray, so that everything which exists can be found.  Only then are damaged chunks looked
for elsewhere, rows of edges written again, the catalog mended and the counts, which all
of that changes, made to fit.  Packs in which nothing is left that anybody needs, and that
could not be read whole, are moved to ``quarantine/`` and never deleted.

A chunk that nothing could heal is noted as damaged: the next snapshot that meets its
content stores it again.
"""

from array import array
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from ebsim.blockmap.geometry import FAN_OUT
from ebsim.blockmap.node_format import Leaf, Node, decode_node
from ebsim.chunkstore.chunk_index import (
    find_locations,
    find_node_rows,
    find_numbers,
    find_packs,
    set_packs,
)
from ebsim.chunkstore.dead_space import forget_pack
from ebsim.chunkstore.ledger import digests_of, located_numbers
from ebsim.chunkstore.ledger_repair import (
    correct_accounts,
    forget_overlaps,
    is_empty_pack,
    mend_index,
    mend_rows,
)
from ebsim.chunkstore.node_commit import location_of
from ebsim.chunkstore.number_set import NumberSet
from ebsim.chunkstore.pack_check import WRONG_DIGEST
from ebsim.chunkstore.pack_format import HEADER_SIZE, Kind, PackDamaged, Record, decode_header
from ebsim.chunkstore.pack_scan import read_pack
from ebsim.chunkstore.rows import NodeRow, PackRow, encode_node_row, number_key, pack_key
from ebsim.chunkstore.sessions import Session
from ebsim.engine.check_catalog import check_catalog
from ebsim.engine.heal_chunks import BlockPlace, heal_chunks
from ebsim.engine.region import Region
from ebsim.engine.repair_catalog import repair_catalog
from ebsim.engine.survey import Survey
from ebsim.errors import IntegrityError
from ebsim.ids import Digest
from ebsim.metadata.transactions import Reader, Table, Transaction

_QUARANTINE = "quarantine"


def repair_region(
    region: Region, survey: Survey, sources: Mapping[int, Sequence[BlockPlace]]
) -> list[str]:
    """Mend what *survey* found; return what was done, a sentence each.

    *sources* says where blocks that are damaged were once read.
    """
    with region.session() as session:
        done = _restore_pack_rows(region, survey)
        done += _lead_digests_right(region, survey)
        for pack in survey.packs:
            starts = [start for start, _ in pack.overlaps]
            region.metadata.run(partial(_forget_overlaps, pack.pack_number, starts))
        done += region.metadata.run(correct_accounts)
        done += _heal(region, session, survey, sources)
        done += _rewrite_nodes(region, survey)
        done += repair_catalog(region)
        # While a node, or a snapshot's row or manifest, is missing, what it held must stay.
        damaged = region.metadata.read(lambda reader: reader.scan(Table.DAMAGED, limit=1))
        may_free = not check_catalog(region)[1] and not damaged
        done += region.metadata.run(lambda txn: mend_rows(txn, may_free=may_free))
        done += region.metadata.run(correct_accounts)
    region.reclaimer().run()
    return done + _clear_orphans(region, survey)


def _forget_overlaps(pack_number: int, starts: Collection[int], txn: Transaction) -> None:
    forget_overlaps(txn, pack_number, starts)


def _restore_pack_rows(region: Region, survey: Survey) -> list[str]:
    """Give packs that chunks lie in, and that have no row, their rows back."""
    done = []
    for pack_number in sorted(survey.ledger.packless):
        for name in survey.orphans:
            contents = read_pack(region.backend, name)
            restore = partial(
                _restore_pack_row, pack_number, name, contents.size_bytes, contents.records
            )
            if region.metadata.run(restore):
                done.append(f"{name} is pack number {pack_number} again")
                survey.orphans.remove(name)
                break
    return done


def _restore_pack_row(
    pack_number: int, name: str, size_bytes: int, records: Sequence[Record], txn: Transaction
) -> bool:
    """Name the pack, if chunks of that pack number lie where its records do."""
    numbers = find_numbers(txn, [record.digest for record in records])
    locations = find_locations(txn, numbers.values())
    is_it = any(
        locations.get(numbers.get(record.digest, 0)) == location_of(record, pack_number)
        for record in records
    )
    if is_it and not find_packs(txn, [pack_number]):
        # What is alive in it is counted by mend_rows.
        set_packs(txn, {pack_number: PackRow(size_bytes, 0, 0, name)})
    return is_it


def _lead_digests_right(region: Region, survey: Survey) -> list[str]:
    """Correct index rows by what the records say of themselves."""
    wrong = [n for n, bad in survey.bad_chunks.items() if bad.complaint == WRONG_DIGEST]
    for number in wrong:
        del survey.bad_chunks[number]
    digests = _digests_in_headers(region, {*wrong, *survey.ledger.nameless})
    if not digests:
        return []
    count = region.metadata.run(lambda txn: mend_index(txn, digests))
    return [f"corrected {count} index rows by their records"]


def _digests_in_headers(region: Region, numbers: Collection[int]) -> dict[int, Digest]:
    found = {}
    locations = region.metadata.read(lambda reader: find_locations(reader, numbers))
    packs = {location.pack_number for location in locations.values()}
    rows = region.metadata.read(lambda reader: find_packs(reader, packs))
    for number, location in locations.items():
        row = rows.get(location.pack_number)
        if row is None:
            continue
        try:
            header = region.backend.read(row.name, location.offset, HEADER_SIZE)
            record, _ = decode_header(header, location.offset)
        except (PackDamaged, FileNotFoundError):
            continue
        if location_of(record, location.pack_number) == location:
            found[number] = record.digest
    return found


def _heal(
    region: Region,
    session: Session,
    survey: Survey,
    sources: Mapping[int, Sequence[BlockPlace]],
) -> list[str]:
    """Heal damaged chunks, empty damaged packs, and note what stays damaged."""
    packs = {pack.pack_number: pack.name for pack in survey.packs if pack.complaint}
    bad = set(survey.bad_chunks)
    moved = region.metadata.read(lambda reader: _numbers_in(reader, set(packs)))
    wanted = bad | moved
    healed: set[int] = set()
    # A leaf that was healed may be what the next one is made again from.
    while wanted and (now := set(heal_chunks(region, session, wanted, sources))):
        healed |= now
        wanted -= now
    left = {number: survey.bad_chunks[number].complaint for number in bad - healed}
    region.metadata.run(lambda txn: _note_damaged(txn, left, survey.cleared))
    done = []
    if healed:
        done.append(f"wrote {len(healed)} chunks anew, {len(healed & bad)} of them damaged")
    if left:
        done.append(f"noted {len(left)} chunks as damaged: nothing here could heal them")
    for pack_number, name in packs.items():
        is_empty = region.metadata.run(partial(_forget_empty_pack, pack_number))
        if is_empty and region.backend.size_bytes(name) is not None:
            quarantine(region, name)
            done.append(f"moved {name} to {_QUARANTINE}/")
    return done


def _numbers_in(reader: Reader, pack_numbers: set[int]) -> set[int]:
    """The chunks that lie in some packs."""
    if not pack_numbers:
        return set()
    found: set[int] = set()
    numbers = located_numbers(reader)
    for first in range(0, len(numbers), 4096):
        batch = find_locations(reader, numbers[first : first + 4096])
        found.update(n for n, location in batch.items() if location.pack_number in pack_numbers)
    return found


def _note_damaged(txn: Transaction, left: Mapping[int, str], cleared: Sequence[int]) -> None:
    located = find_locations(txn, left)
    rows = [(number_key(number), left[number].encode()) for number in sorted(located)]
    txn.put_many(Table.DAMAGED, rows)
    txn.delete_many(Table.DAMAGED, [number_key(number) for number in cleared])


def _forget_empty_pack(pack_number: int, txn: Transaction) -> bool:
    if not is_empty_pack(txn, pack_number):
        return False
    txn.delete_many(Table.PACKS, [pack_key(pack_number)])
    forget_pack(txn, pack_number)
    return True


def quarantine(region: Region, name: str) -> None:
    """Move a pack out of the way, durably, so that nobody takes it for one in use."""
    folder = region.path / _QUARANTINE
    if region.files.status(folder) is None:
        region.files.make_directories(folder)
    source = region.path / name
    region.files.rename(source, folder / name.rpartition("/")[2])
    region.files.sync_directory(folder)
    region.files.sync_directory(source.parent)
    # It is not there any more; this lets go of its descriptor.
    region.backend.delete(name)


def _rewrite_nodes(region: Region, survey: Survey) -> list[str]:
    """Write rows of edges again from the nodes themselves."""
    numbers = {*survey.wrong_nodes, *survey.wrong_fingerprints, *survey.ledger.rowless}
    if not numbers:
        return []
    wanted = NumberSet(numbers)
    digests = region.metadata.read(lambda reader: digests_of(reader, wanted))
    count = 0
    for number, digest in digests.items():
        try:
            node = decode_node(bytes(region.chunks.read(digest)))
        except IntegrityError:
            continue
        keep = number not in survey.wrong_fingerprints
        count += region.metadata.run(partial(_rewrite_node, number, node, keep))
    return [f"wrote the edges of {count} nodes again"]


def _rewrite_node(number: int, node: Node, keep_fingerprints: bool, txn: Transaction) -> bool:
    children = node.children
    numbers = find_numbers(txn, children)
    if any(digest not in numbers for digest in children):
        return False
    edges = array("Q", [numbers[digest] for digest in children])
    (old,) = find_node_rows(txn, [number])
    fingerprints = old.fingerprints if old and keep_fingerprints else b""
    if old is None or old.children != edges:
        fingerprints = b""
    kind = Kind.LEAF if isinstance(node, Leaf) else Kind.INNER
    row = NodeRow(kind, node.bitmap.to_bytes(FAN_OUT // 8, "little"), edges, fingerprints)
    txn.put_many(Table.NODES, [(number_key(number), encode_node_row(row))])
    return True


def _clear_orphans(region: Region, survey: Survey) -> list[str]:
    """Remove packs that belong to nothing; keep them aside while any chunk is missing."""
    done = []
    is_anything_lost = bool(region.metadata.read(lambda r: r.scan(Table.DAMAGED, limit=1)))
    for name in survey.orphans:
        if is_anything_lost or read_pack(region.backend, name).complaint:
            quarantine(region, name)
            done.append(f"moved {name} to {_QUARANTINE}/")
        else:
            region.backend.delete(name)
            done.append(f"removed {name}, which belonged to nothing")
    # Never removed: the manifest that named it may be what was lost.
    for name in survey.archive_orphans:
        quarantine(region, name)
        done.append(f"moved {name} to {_QUARANTINE}/")
    return done
