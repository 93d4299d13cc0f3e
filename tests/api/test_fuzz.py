"""Whatever is asked, the answer is Amazon's: no bug, no 500, and readable by a client."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ebsim.api.dispatch import Desk, answer
from ebsim.api.http_messages import Request, Response
from ebsim.api.identity import Auth
from ebsim.api.registry import ACTIONS
from ebsim.api.service_models import Wire, service
from ebsim.engine.create_snapshot import create_snapshot
from ebsim.engine.region import Region
from tests.api.conftest import ACCOUNT
from tests.api.fuzzed_requests import fuzzed

SEEDS = range(30)
EVERY_ACTION = [(of, name) for of, actions in ACTIONS.items() for name in actions]


@pytest.fixture
def known(ec2: Any, region: Region, tmp_path: Path) -> list[str]:
    """Ids of things that there are, and of things that there are not."""
    image = tmp_path / "disk.img"
    image.write_bytes(Random(3).randbytes(1 << 16))
    snapshot = create_snapshot(replace(region, account_id=ACCOUNT), str(image))
    volume = ec2.create_volume(AvailabilityZone="us-east-1a", Size=1)["VolumeId"]
    instance = ec2.run_instances(ImageId="a", MinCount=1, MaxCount=1)["Instances"][0]
    missing = [f"{kind}-{7:017x}" for kind in ("snap", "vol", "i")]
    ids = [snapshot.snapshot_id, volume, instance["InstanceId"], *missing, "snap-", "vol-x"]
    return [str(one) for one in ids]


def check_readable(found: Response, wire: Wire) -> None:
    assert found.status != 500, found.body
    if wire in {Wire.EC2, Wire.QUERY}:
        ET.fromstring(found.body)
    elif dict(found.headers)["Content-Type"] != "application/octet-stream":
        assert isinstance(json.loads(found.body), dict)


@pytest.mark.slow
def test_requests_made_up_from_the_models_meet_no_bug(desk: Desk, known: list[str]) -> None:
    """The fixture of the desk fails the test for every bug that was told."""
    believing = replace(desk, auth=Auth.NONE)
    carried_out = 0
    for of, name in EVERY_ACTION:
        served = service(of)
        for seed in SEEDS:
            random = Random(f"{of} {name} {seed}")
            request = fuzzed(served, served.operation(name), random, known)
            found = answer(believing, request)
            check_readable(found, served.wire)
            carried_out += found.status < 300
    # Else they would only show that nothing gets past the parser.
    assert carried_out > len(EVERY_ACTION)


PATHS = (
    "/", "", "//", "/..", "/snapshots/../x", "/snapshots/%2e%2e/blocks", "/snapshots/%ff",
    "/rules/", "/policies/x/y", "/tags/%00", "/snapshots/a/blocks/1e9", "/snapshots",
)  # fmt: skip
BODIES = (
    b"", b"[" * 100_000, b'{"a":' * 5000, b"Action=" + b"a." * 5000, b'{"a":"\\ud800"}', b"\xff",
    b"Action=DescribeSnapshots&" + b"Filter.1.Value.1.1=2&" * 2, b"&" * 50_000, b"=", b"null",
    b"Action=DescribeSnapshots&" + b"&".join(b"a%d=" % n for n in range(20_001)),
    b'{"VolumeSize":1e400}', b'{"VolumeSize":"1"}', b'{"Tags":[null]}',
    b'{"Description":"\\ud800"}',
)  # fmt: skip
HEADERS = (
    "x-amz-target", "authorization", "x-amz-date", "x-amz-content-sha256", "content-encoding",
    "x-amz-data-length", "x-amz-checksum", "x-amz-security-token",
)  # fmt: skip
SCOPE = "us-east-1/ec2/aws4_request"
TEXTS = (
    "",
    "x",
    "\0",
    "20260101T000000Z",
    "TrentService.",
    "aws-chunked",
    "UNSIGNED-PAYLOAD",
    "9" * 5000,
    "AWS4-HMAC-SHA256 Credential=a/b/c/ebs/aws4_request, SignedHeaders=host, Signature=0",
    f"AWS4-HMAC-SHA256 Credential=AKIA../20260101/{SCOPE},SignedHeaders=,Signature=",
    f"AWS4-HMAC-SHA256 Credential=AKIA../20260101/{SCOPE},SignedHeaders=;host,Signature=\xff",
)


@pytest.mark.parametrize("auth", Auth)
def test_requests_that_make_no_sense_meet_no_bug(desk: Desk, auth: Auth) -> None:
    """The fixture of the desk fails the test for every bug that was told."""
    hosts = ["x", "", *(f"{of}.us-east-1.amazonaws.com" for of in ACTIONS)]
    random = Random(auth)
    for _ in range(400):
        named = random.sample(HEADERS, random.choice([0, 0, 1, 2, 3]))
        request = Request(
            random.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "X"]),
            random.choice(PATHS),
            tuple(
                (random.choice(TEXTS), random.choice(TEXTS)) for _ in range(random.choice([0, 2]))
            ),
            {"host": random.choice(hosts)} | {name: random.choice(TEXTS) for name in named},
            random.choice(BODIES),
        )
        found = answer(replace(desk, auth=auth), request)
        assert found.status < 500, (request, found.body)
