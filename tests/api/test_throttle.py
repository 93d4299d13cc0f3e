"""Refusing calls of the EBS direct APIs that come too fast."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ebsim.api.dispatch import Desk
from ebsim.api.throttle import Throttle
from ebsim.clock import ManualClock
from ebsim.engine.access_keys import AccessKeys
from ebsim.ids import AccountId
from tests.api.clients import Credentials, code_of, connect, make_client, status_of
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT
from tests.api.direct_clients import BLOCK_SIZE, checksum_of

Slow = Callable[..., Any]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def slow(desk: Desk, keys: AccessKeys, clock: ManualClock) -> Slow:
    """Makes clients of a desk that throttles: EBS's, by account and region."""

    def make(factor: float, *accounts: AccountId, region: str = "us-east-1") -> list[Any]:
        throttling = replace(desk, throttle=Throttle(clock, factor))
        made = [keys.create_key(account) for account in accounts]
        credentials = [Credentials(key.key_id, key.secret) for key in made]
        return [connect(make_client("ebs", one, region=region), throttling) for one in credentials]

    return make


def refusals(call: Callable[[], object], count: int) -> list[tuple[str, int, str | None]]:
    """What *count* calls are refused with."""
    found = []
    for _ in range(count):
        try:
            call()
        except ClientError as error:
            found.append((code_of(error), status_of(error), error.response.get("Reason")))
    return found


def test_an_account_that_starts_too_fast_is_throttled(slow: Slow, clock: ManualClock) -> None:
    mine, other = slow(0.3, ACCOUNT, OTHER_ACCOUNT)

    def start(client: Any, count: int) -> list[tuple[str, int, str | None]]:
        return refusals(lambda: client.start_snapshot(VolumeSize=1), count)

    assert start(mine, 5) == [("ThrottlingException", 400, None)] * 2
    assert start(other, 3) == []
    clock.advance(0.4)
    assert len(start(mine, 2)) == 1


@pytest.mark.parametrize(
    ("region", "refusal"),
    [
        # An account may do five times what one snapshot may.
        ("us-east-1", ("RequestThrottledException", 400, "RESOURCE_LEVEL_THROTTLE")),
        ("eu-north-1", ("ThrottlingException", 400, None)),
    ],
)
def test_puts_that_come_too_fast_are_throttled(
    slow: Slow, region: str, refusal: tuple[str, int, str | None]
) -> None:
    (ebs,) = slow(0.002, ACCOUNT, region=region)
    snapshot_id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    data = bytes(BLOCK_SIZE)

    def put() -> None:
        ebs.put_snapshot_block(
            SnapshotId=snapshot_id,
            BlockIndex=0,
            BlockData=data,
            DataLength=BLOCK_SIZE,
            Checksum=checksum_of(data),
            ChecksumAlgorithm="SHA256",
        )

    assert refusals(put, 4) == [refusal] * 2


def test_what_waits_long_enough_is_never_refused(slow: Slow, clock: ManualClock) -> None:
    (ebs,) = slow(1, ACCOUNT)

    def list_unhurriedly() -> None:
        clock.advance(0.021)
        ebs.list_snapshot_blocks(SnapshotId="snap-0123456789abcdef0")

    assert {code for code, _, _ in refusals(list_unhurriedly, 60)} == {"ResourceNotFoundException"}
