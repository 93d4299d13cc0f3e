"""Sharing snapshots: who sees which, what an account may do with another's, whose tags."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.audience import Audience
from ebsim.clock import ManualClock
from ebsim.engine.archive_snapshot import archive_snapshot
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.delete_snapshot import delete_snapshots
from ebsim.engine.list_snapshots import list_snapshots, show_snapshot
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.share_snapshot import (
    Grantees,
    reset_sharing,
    share_snapshot,
    shown_sharing,
    unshare_snapshot,
)
from ebsim.engine.tags import tag_snapshot, untag_snapshot
from ebsim.errors import (
    InvalidGrantee,
    InvalidRequest,
    NotPermitted,
    SnapshotArchived,
    SnapshotNotFound,
)
from ebsim.ids import AccountId
from tests.engine.stores import (
    ACCOUNT,
    BLOCK,
    OTHER_ACCOUNT,
    block_bytes,
    open_store,
    restored,
    take,
    write_disk,
)

THIRD = AccountId("000000000003")
WITH_OTHER = Grantees.of([OTHER_ACCOUNT])
PUBLIC = Grantees(everybody=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return write_disk(tmp_path / "disk.img", 4 * BLOCK, {0: block_bytes(1), 2: block_bytes(2)})


def as_account(region: Region, account_id: AccountId) -> Region:
    """The same store, as another account acts in it."""
    return replace(region, account_id=account_id)


def listed(region: Region, audience: Audience | None = None) -> list[str]:
    shown = list_snapshots(region, audience=audience or Audience.of(region.account_id))
    return [snapshot.snapshot_id for snapshot in shown.snapshots]


def test_a_snapshot_is_another_account_s_to_use_from_sharing_to_unsharing(
    region: Region, disk: Path, tmp_path: Path
) -> None:
    snapshot_id = take(region, disk)
    other = as_account(region, OTHER_ACCOUNT)
    with pytest.raises(SnapshotNotFound):
        show_snapshot(other, snapshot_id)
    share_snapshot(region, snapshot_id, WITH_OTHER)
    assert listed(other) == [snapshot_id]
    assert restored(other, snapshot_id, tmp_path) == disk.read_bytes()
    volume = create_volume(other, VolumeOptions(snapshot=snapshot_id))
    unshare_snapshot(region, snapshot_id, WITH_OTHER)
    assert listed(other) == []
    with pytest.raises(SnapshotNotFound):
        create_volume(other, VolumeOptions(snapshot=snapshot_id))
    remove_volume(other, volume.volume_id)


def test_only_its_owner_may_change_a_shared_snapshot(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    share_snapshot(region, snapshot_id, WITH_OTHER)
    other = as_account(region, OTHER_ACCOUNT)
    for change in (
        lambda: delete_snapshots(other, [snapshot_id]),
        lambda: share_snapshot(other, snapshot_id, PUBLIC),
        lambda: unshare_snapshot(other, snapshot_id, WITH_OTHER),
        lambda: reset_sharing(other, snapshot_id),
        lambda: shown_sharing(other, snapshot_id),
    ):
        with pytest.raises(NotPermitted, match=ACCOUNT):
            change()
    with pytest.raises(SnapshotNotFound):
        delete_snapshots(as_account(region, THIRD), [snapshot_id])
    assert shown_sharing(region, snapshot_id) == WITH_OTHER


def test_a_part_of_the_id_finds_own_snapshots_only(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    share_snapshot(region, snapshot_id, PUBLIC)
    with pytest.raises(SnapshotNotFound):
        show_snapshot(as_account(region, OTHER_ACCOUNT), snapshot_id[:12])


def test_each_account_has_tags_of_its_own(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    tag_snapshot(region, snapshot_id, {"whose": "owner"})
    share_snapshot(region, snapshot_id, PUBLIC)
    other, third = as_account(region, OTHER_ACCOUNT), as_account(region, THIRD)
    assert show_snapshot(other, snapshot_id).tags == {}
    assert tag_snapshot(other, snapshot_id, {"whose": "other", "x": ""}).tags == {
        "whose": "other", "x": "",
    }  # fmt: skip
    tag_snapshot(third, snapshot_id, {"whose": "third"})
    untag_snapshot(other, snapshot_id, ["x"])
    assert [show_snapshot(one, snapshot_id).tags["whose"] for one in (region, other, third)] == [
        "owner",
        "other",
        "third",
    ]
    assert show_snapshot(other, snapshot_id).foreign_tags == {}
    share_snapshot(region, snapshot_id, WITH_OTHER)
    unshare_snapshot(region, snapshot_id, PUBLIC)
    assert show_snapshot(region, snapshot_id).foreign_tags == {OTHER_ACCOUNT: {"whose": "other"}}


def test_the_owner_is_not_shared_with_and_what_is_shared_twice_is_shared_once(
    region: Region, disk: Path
) -> None:
    snapshot_id = take(region, disk)
    share_snapshot(region, snapshot_id, Grantees.of([ACCOUNT, OTHER_ACCOUNT]))
    shared = share_snapshot(region, snapshot_id, WITH_OTHER)
    assert (shared.shared_with, shared.is_public) == ((OTHER_ACCOUNT,), False)


def test_a_change_of_more_than_500_grantees_is_refused(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    accounts = [f"{number:012}" for number in range(501)]
    share_snapshot(region, snapshot_id, Grantees.of(accounts[:500]))
    for change in (share_snapshot, unshare_snapshot):
        with pytest.raises(
            InvalidRequest, match=r"^Modification size must not be greater than 500\.$"
        ):
            change(region, snapshot_id, Grantees.of(accounts[:500], everybody=True))
    assert shown_sharing(region, snapshot_id) == Grantees.of(accounts[:500])


def test_an_archived_snapshot_is_not_shared(region: Region, disk: Path) -> None:
    snapshot_id = take(region, disk)
    archive_snapshot(region, snapshot_id)
    with pytest.raises(SnapshotArchived):
        share_snapshot(region, snapshot_id, WITH_OTHER)
    assert shown_sharing(region, snapshot_id) == Grantees()


@pytest.mark.parametrize("account", ["", "1234", "all", "12345678901x"])
def test_a_grantee_that_is_no_account_is_refused(account: str) -> None:
    with pytest.raises(InvalidGrantee):
        Grantees.of([account])


def test_permissions_and_everybody_s_tags_come_back_with_a_rebuild(
    tmp_path: Path, disk: Path
) -> None:
    region = open_store(tmp_path / "home")
    snapshot_id = take(region, disk)
    share_snapshot(region, snapshot_id, WITH_OTHER)
    tag_snapshot(as_account(region, OTHER_ACCOUNT), snapshot_id, {"a": "b"})
    before = show_snapshot(region, snapshot_id)
    region.close()
    rebuild_store(tmp_path / "home", "test")
    region = open_store(tmp_path / "home")
    assert show_snapshot(region, snapshot_id) == before
    assert listed(as_account(region, OTHER_ACCOUNT)) == [snapshot_id]
    region.close()


ACCOUNTS = (ACCOUNT, OTHER_ACCOUNT, THIRD)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Region, list[str]]]:
    """24 snapshots of three accounts, shared in every way, a second or nothing apart."""
    folder = tmp_path_factory.mktemp("crowd")
    clock = ManualClock()
    region = open_store(folder / "home", clock=clock)
    ids = []
    for number in range(24):
        path = write_disk(folder / "disk.img", BLOCK, {0: block_bytes(number)})
        owner = as_account(region, ACCOUNTS[number % 3])
        ids.append(take(owner, path))
        grantees = [account for bit, account in enumerate(ACCOUNTS) if number >> bit & 1]
        share_snapshot(owner, ids[-1], Grantees.of(grantees, everybody=number % 5 == 0))
        clock.advance(number % 2)
    yield region, ids
    region.close()


@given(
    me=st.sampled_from(ACCOUNTS),
    owners=st.sets(st.sampled_from(["self", *ACCOUNTS])),
    restorable_by=st.sets(st.sampled_from(["self", "all", *ACCOUNTS])),
    page_size=st.none() | st.integers(1, 7),
)
def test_a_listing_shows_what_the_rules_of_describe_snapshots_let_through(
    crowd: tuple[Region, list[str]],
    me: AccountId,
    owners: set[str],
    restorable_by: set[str],
    page_size: int | None,
) -> None:
    region, ids = crowd
    expected = set()
    for number, snapshot_id in enumerate(ids):
        owner = ACCOUNTS[number % 3]
        named = {a for bit, a in enumerate(ACCOUNTS) if number >> bit & 1} - {owner}
        public = number % 5 == 0
        if not (me == owner or me in named or public):
            continue
        if owners and owner not in {me if one == "self" else one for one in owners}:
            continue
        fitting = {
            "all": public,
            "self": me == owner or me in named,
            **{a: owner == me and a in named for a in ACCOUNTS if a != me},
        }
        fitting[me] = fitting["self"]
        if not restorable_by or any(fitting[one] for one in restorable_by):
            expected.add(snapshot_id)
    audience = Audience.of(me, owners=owners, restorable_by=restorable_by)
    found: list[str] = []
    token = None
    while True:
        page = list_snapshots(
            as_account(region, me), audience=audience, max_results=page_size, next_token=token
        )
        found += [snapshot.snapshot_id for snapshot in page.snapshots]
        token = page.next_token
        if token is None:
            break
    assert sorted(found) == sorted(expected)


def test_a_token_of_another_listing_is_refused(crowd: tuple[Region, list[str]]) -> None:
    region, _ = crowd
    token = list_snapshots(region, max_results=1).next_token
    with pytest.raises(InvalidRequest, match="no token"):
        list_snapshots(region, audience=Audience.of(ACCOUNT), next_token=token)
