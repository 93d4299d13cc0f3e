"""What is answered to requests that boto3 makes, in this process."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.dispatch import Desk, answer
from ebsim.api.http_messages import Request
from ebsim.api.identity import Auth
from ebsim.api.registry import ACTIONS
from ebsim.api.service_models import Kind, Shape, service
from ebsim.engine.create_snapshot import create_snapshot
from tests.api.clients import code_of, message_of, status_of
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, ClientMaker
from tests.api.refusals import refused


def test_an_action_that_is_not_served_is_no_action(ec2: Any) -> None:
    error = refused(ec2.describe_vpcs)
    assert (status_of(error), code_of(error)) == (400, "InvalidAction")
    assert message_of(error) == "The action DescribeVpcs is not valid for this web service."


def test_a_parameter_that_is_not_heeded_is_refused_by_name(ec2: Any) -> None:
    error = refused(ec2.create_snapshot, VolumeId=f"vol-{0:017x}", OutpostArn="arn:aws:x")
    assert code_of(error) == "UnsupportedParameter"
    assert "The parameter OutpostArn is not supported" in message_of(error)


def test_a_dry_run_does_nothing(ec2: Any, home: Path) -> None:
    error = refused(ec2.create_snapshot, VolumeId=f"vol-{0:017x}", DryRun=True)
    assert (status_of(error), code_of(error)) == (412, "DryRunOperation")
    assert not (home / "regions").exists()


def test_reading_makes_no_region(client: ClientMaker, home: Path) -> None:
    assert client("ec2", region="eu-west-1").describe_snapshots()["Snapshots"] == []
    assert not (home / "regions").exists()


def test_a_region_that_is_nowhere_is_refused(client: ClientMaker) -> None:
    error = refused(client("sts", region="mars-north-1").get_caller_identity)
    assert code_of(error) == "SignatureDoesNotMatch"
    assert "mars-north-1" in message_of(error)


def test_zones_are_those_of_the_region_asked(client: ClientMaker) -> None:
    zones = client("ec2", region="eu-west-1").describe_availability_zones()["AvailabilityZones"]
    assert [zone["ZoneName"] for zone in zones] == ["eu-west-1a", "eu-west-1b", "eu-west-1c"]


def test_missing_parameters_are_named(desk: Desk) -> None:
    unverified = replace_auth(desk)
    body = b"Action=DeleteSnapshot&Version=2016-11-15"
    found = answer(unverified, Request("POST", "/", headers={"host": "ec2"}, body=body))
    assert found.status == 400
    assert b"<Code>MissingParameter</Code>" in found.body
    assert b"The request must contain the parameter snapshotId" in found.body


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"Action=DescribeSnapshots&Nonsense=1", b"UnknownParameter"),
        (b"Action=DescribeSnapshots&Filter.x.Name=1", b"UnknownParameter"),
        (b"Action=DescribeSnapshots&Filter.1=1", b"UnknownParameter"),
        (b"Action=DescribeSnapshots&MaxResults=many", b"InvalidParameterValue"),
        (b"Action=DescribeSnapshots&MaxResults=4", b"InvalidParameterValue"),
        (b"Action=DescribeSnapshots&MaxResults=5&MaxResults=6", b"MalformedQueryString"),
        (b"Action=DescribeSnapshots&a=%ff", b"MalformedQueryString"),
        (b"Action=DescribeSnapshots&a=\xff", b"MalformedQueryString"),
        (b"Action=", b"InvalidAction"),
        (b"", b"MissingAction"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(desk: Desk, body: bytes, code: bytes) -> None:
    found = answer(replace_auth(desk), Request("POST", "/", headers={"host": "ec2"}, body=body))
    assert found.status == 400
    assert b"<Code>" + code + b"</Code>" in found.body


def replace_auth(desk: Desk) -> Desk:
    """*desk*, believing everybody."""
    return replace(desk, auth=Auth.NONE)


def test_the_answer_in_ec2_s_xml_is_as_amazon_writes_it(desk: Desk) -> None:
    body = b"Action=DescribeRegions&RegionName.1=eu-west-1"
    found = answer(replace_auth(desk), Request("POST", "/", headers={"host": "ec2"}, body=body))
    request_id = dict(found.headers)["x-amzn-RequestId"]
    assert found.body.decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<DescribeRegionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>{request_id}</requestId><regionInfo><item>"
        "<optInStatus>opt-in-not-required</optInStatus><regionName>eu-west-1</regionName>"
        "<regionEndpoint>ec2.eu-west-1.amazonaws.com</regionEndpoint>"
        "</item></regionInfo></DescribeRegionsResponse>"
    )


def test_an_error_in_ec2_s_xml_is_as_amazon_writes_it(desk: Desk) -> None:
    body = f"Action=DeleteSnapshot&SnapshotId=snap-{1:017x}".encode()
    found = answer(replace_auth(desk), Request("POST", "/", headers={"host": "ec2"}, body=body))
    request_id = dict(found.headers)["x-amzn-RequestId"]
    assert found.body.decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        "<Response><Errors><Error><Code>InvalidSnapshot.NotFound</Code>"
        f"<Message>The snapshot 'snap-{1:017x}' does not exist.</Message></Error></Errors>"
        f"<RequestID>{request_id}</RequestID></Response>"
    )


def test_the_answer_in_sts_s_xml_is_as_amazon_writes_it(desk: Desk) -> None:
    body = b"Action=GetCallerIdentity&Version=2011-06-15"
    found = answer(replace_auth(desk), Request("POST", "/", headers={"host": "x"}, body=body))
    request_id = dict(found.headers)["x-amzn-RequestId"]
    assert found.body.decode() == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        "<GetCallerIdentityResult><UserId>123456789012</UserId><Account>123456789012</Account>"
        "<Arn>arn:aws:iam::123456789012:root</Arn></GetCallerIdentityResult>"
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        "</GetCallerIdentityResponse>"
    )


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("disk", "InvalidParameterValue"),
        ("snap-xyz", "InvalidSnapshotID.Malformed"),
        ("snap-0123abcd", "InvalidSnapshot.NotFound"),
        (f"snap-{5:017x}", "InvalidSnapshot.NotFound"),
    ],
)
def test_a_snapshot_that_is_not_there_is_refused_as_amazon_does(
    ec2: Any, name: str, code: str
) -> None:
    for call, params in (
        (ec2.delete_snapshot, {"SnapshotId": name}),
        (ec2.describe_snapshots, {"SnapshotIds": [name]}),
    ):
        assert code_of(refused(call, **params)) == code


def test_another_account_s_snapshot_does_not_exist(
    client: ClientMaker, region: Any, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(Random(1).randbytes(1 << 16))
    made = create_snapshot(replace(region, account_id=OTHER_ACCOUNT), str(image))
    ec2 = client("ec2")

    assert ec2.describe_snapshots()["Snapshots"] == []
    for call, params in (
        (ec2.describe_snapshots, {"SnapshotIds": [made.snapshot_id]}),
        (ec2.delete_snapshot, {"SnapshotId": made.snapshot_id}),
        (ec2.create_tags, {"Resources": [made.snapshot_id], "Tags": [{"Key": "a"}]}),
    ):
        assert code_of(refused(call, **params)) == "InvalidSnapshot.NotFound"
    assert (
        code_of(refused(ec2.create_snapshot, VolumeId=made.volume_id)) == "InvalidVolume.NotFound"
    )
    other = client("ec2", OTHER_ACCOUNT)
    assert len(other.describe_snapshots()["Snapshots"]) == 1


@pytest.mark.parametrize(
    ("of", "name"), [(of, name) for of, actions in ACTIONS.items() for name in actions]
)
def test_an_action_is_amazon_s_and_so_is_every_parameter_that_it_supports(
    of: str, name: str
) -> None:
    operation = service(of).operation(name)
    for path in ACTIONS[of][name].supported:
        shape: Shape | None = operation.input
        for word in path.split("."):
            while shape is not None and shape.kind is Kind.LIST:
                shape = shape.element
            assert shape is not None
            assert word in shape.members, f"{name} has no {path}"
            shape = shape.members[word].shape


def test_nothing_is_encrypted_and_that_is_said(ec2: Any) -> None:
    assert ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    assert ec2.disable_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    assert code_of(refused(ec2.enable_ebs_encryption_by_default)) == "UnsupportedOperation"


def test_tags_are_set_found_and_removed(client: ClientMaker, region: Any, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(Random(1).randbytes(1 << 16))
    made = create_snapshot(replace(region, account_id=ACCOUNT), str(image))
    ec2 = client("ec2")
    both = [made.snapshot_id, made.volume_id]

    ec2.create_tags(Resources=both, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    pages = ec2.get_paginator("describe_tags").paginate(PaginationConfig={"PageSize": 5})
    rows = [row for page in pages for row in page["Tags"]]
    assert [(row["ResourceId"], row["Key"], row["Value"]) for row in rows] == [
        (made.snapshot_id, "a", "1"),
        (made.snapshot_id, "b", "2"),
        (made.volume_id, "a", "1"),
        (made.volume_id, "b", "2"),
    ]
    ec2.delete_tags(Resources=both, Tags=[{"Key": "a", "Value": "other"}, {"Key": "b"}])
    left = ec2.describe_tags(Filters=[{"Name": "tag:a", "Values": ["1"]}])["Tags"]
    assert [row["ResourceId"] for row in left] == both
    assert ec2.describe_tags(Filters=[{"Name": "key", "Values": ["b"]}])["Tags"] == []
