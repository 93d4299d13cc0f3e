"""A server that is slow, throttles and fails on purpose, as its file says."""

import json
from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ebsim.api.chaos import Chaos, read_chaos
from ebsim.api.dispatch import Desk
from ebsim.clock import ManualClock
from ebsim.engine.access_keys import AccessKeys
from ebsim.errors import InvalidRequest
from tests.api.clients import Credentials, connect, make_client
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT

Troubled = Callable[..., Any]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def troubled(desk: Desk, keys: AccessKeys, clock: ManualClock) -> Troubled:
    """Makes a client of a desk with these rules: by service and account."""

    def make(service: str, rules: dict[str, Any], *accounts: str) -> Any:
        chaotic = replace(desk, chaos=Chaos(read_chaos(json.dumps(rules).encode()), clock))
        made = [keys.create_key(account) for account in accounts or (ACCOUNT,)]  # type: ignore[arg-type]
        clients = [
            connect(make_client(service, Credentials(key.key_id, key.secret)), chaotic)
            for key in made
        ]
        return clients if accounts else clients[0]

    return make


def codes(call: Callable[[], object], count: int) -> list[tuple[str, int] | None]:
    """What *count* calls are refused with; ``None`` for one that is not."""
    found: list[tuple[str, int] | None] = []
    for _ in range(count):
        try:
            call()
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            found.append((error.response["Error"]["Code"], status))
        else:
            found.append(None)
    return found


def error(action: str, **rule: Any) -> dict[str, Any]:
    return {"errors": [{"action": action, **rule}]}


def test_an_action_fails_as_it_is_told_to_and_others_do_not(troubled: Troubled) -> None:
    ec2 = troubled("ec2", error("ec2:DescribeVolumes", code="Unavailable", status=503))
    assert codes(ec2.describe_volumes, 2) == [("Unavailable", 503)] * 2
    assert codes(ec2.describe_snapshots, 2) == [None] * 2


@pytest.mark.parametrize(
    ("service", "method", "expected"),
    [
        ("ec2", "describe_volumes", ("InternalError", 500)),
        ("dlm", "get_lifecycle_policies", ("InternalServerException", 500)),
        ("sts", "get_caller_identity", ("InternalFailure", 500)),
    ],
)
def test_a_failure_has_the_service_s_own_code(
    troubled: Troubled, service: str, method: str, expected: tuple[str, int]
) -> None:
    client = troubled(service, error("*"))
    assert codes(getattr(client, method), 1) == [expected]


def test_a_rate_lets_some_through_and_a_seed_the_same_ones(troubled: Troubled) -> None:
    rules = {**error("ec2:*", rate=0.5), "seed": 3}
    first = codes(troubled("ec2", rules).describe_regions, 20)
    assert first == codes(troubled("ec2", rules).describe_regions, 20)
    assert 3 < first.count(None) < 17


def test_before_nothing_is_done_and_after_all_of_it(troubled: Troubled, ec2: Any) -> None:
    volume = {"AvailabilityZone": "us-east-1a", "Size": 1}
    for after in (False, True):
        client = troubled("ec2", error("ec2:CreateVolume", after=after))
        assert codes(lambda: client.create_volume(**volume), 1) == [("InternalError", 500)]  # noqa: B023 (called at once)
        assert len(ec2.describe_volumes()["Volumes"]) == after


def test_a_quota_is_an_account_s_and_fills_again(troubled: Troubled, clock: ManualClock) -> None:
    rules = {"throttling": [{"action": "ec2:Describe*", "calls_per_second": 2}]}
    mine, other = troubled("ec2", rules, ACCOUNT, OTHER_ACCOUNT)
    limit = ("RequestLimitExceeded", 503)
    assert codes(mine.describe_volumes, 3) == [None, None, limit]
    assert codes(other.describe_volumes, 1) == [None]
    clock.advance(0.5)
    assert codes(mine.describe_volumes, 2) == [None, limit]


def test_other_services_are_throttled_in_their_own_words(troubled: Troubled) -> None:
    dlm = troubled("dlm", {"throttling": [{"action": "dlm:*", "calls_per_second": 1}]})
    assert codes(dlm.get_lifecycle_policies, 2) == [None, ("ThrottlingException", 400)]


def test_latency_adds_up(troubled: Troubled) -> None:
    rule = {"action": "ec2:*", "seconds": 0.1}
    ec2 = troubled("ec2", {"latency": [rule, rule]})
    began = monotonic()
    ec2.describe_regions()
    assert monotonic() - began >= 0.2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "no object"),
        ('{"error": []}', "'error', which means nothing"),
        ('{"errors": [{"rate": 0.5}]}', "no 'action'"),
        ('{"errors": [{"action": "CreateVolume"}]}', "SERVICE:ACTION"),
        ('{"errors": [{"action": "*", "rate": 2}]}', "'rate'"),
        ('{"errors": [{"action": "*", "rate": true}]}', "'rate'"),
        ('{"errors": [{"action": "*", "status": 200}]}', "400 to 599"),
        ('{"errors": [{"action": "*", "after": 1}]}', "'after'"),
        ('{"latency": {}}', "no list"),
        ('{"latency": [{"action": "*", "second": 1}]}', "'second'"),
        ('{"throttling": [{"action": "*", "calls_per_second": -1}]}', "from 0 on"),
        ('{"pending_seconds": "1"}', "'pending_seconds'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read_chaos(text.encode())
