"""Keys of KMS and the key that EBS takes, through boto3's ``kms`` and ``ec2``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ebsim.api.dispatch import Desk, answer
from ebsim.api.http_messages import Request
from ebsim.api.identity import Auth
from tests.api.clients import code_of, message_of
from tests.api.conftest import ACCOUNT, OTHER_ACCOUNT, REGION, ClientMaker
from tests.api.refusals import code, refused

NOBODYS = "12345678-1234-4123-8123-123456789012"


@pytest.fixture
def kms(client: ClientMaker) -> Any:
    return client("kms")


def arn(resource: str, account_id: str = ACCOUNT, region: str = REGION) -> str:
    return f"arn:aws:kms:{region}:{account_id}:{resource}"


def test_a_key_is_found_by_its_id_its_arn_and_its_aliases(kms: Any) -> None:
    made = kms.create_key(Description="é")["KeyMetadata"]
    key_id = made["KeyId"]
    kms.create_alias(AliasName="alias/disks", TargetKeyId=key_id)
    kms.create_alias(AliasName="alias/more/disks", TargetKeyId=made["Arn"])
    for name in (key_id, arn(f"key/{key_id}"), "alias/disks", arn("alias/more/disks")):
        assert kms.describe_key(KeyId=name)["KeyMetadata"] == made
    del made["CreationDate"]
    assert made == {
        "AWSAccountId": ACCOUNT, "KeyId": key_id, "Arn": arn(f"key/{key_id}"), "Enabled": True,
        "Description": "é", "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": "Enabled",
        "Origin": "AWS_KMS", "KeyManager": "CUSTOMER", "KeySpec": "SYMMETRIC_DEFAULT",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT", "MultiRegion": False,
        "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
    }  # fmt: skip


def test_amazon_s_key_for_ebs_is_always_there_and_makes_no_region(kms: Any, home: Path) -> None:
    (alias,) = kms.list_aliases()["Aliases"]
    key = kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]
    assert (key["KeyId"], key["KeyManager"]) == (alias["TargetKeyId"], "AWS")
    assert alias["AliasArn"] == arn("alias/aws/ebs")
    assert kms.describe_key(KeyId=key["Arn"])["KeyMetadata"] == key
    assert not (home / "regions").exists()
    kms.create_key()
    assert kms.describe_key(KeyId=alias["AliasArn"])["KeyMetadata"] == key


def test_aliases_are_paged_by_name_and_found_by_their_key(kms: Any) -> None:
    first, second = (kms.create_key()["KeyMetadata"]["KeyId"] for _ in range(2))
    for number in (3, 1, 2):
        kms.create_alias(AliasName=f"alias/{number}", TargetKeyId=first)
    kms.create_alias(AliasName="alias/z", TargetKeyId=second)
    names = ["alias/1", "alias/2", "alias/3", "alias/aws/ebs", "alias/z"]
    assert [one["AliasName"] for one in kms.list_aliases()["Aliases"]] == names
    pages = [
        [one["AliasName"] for one in page["Aliases"]]
        for page in kms.get_paginator("list_aliases").paginate(PaginationConfig={"PageSize": 2})
    ]
    assert pages == [names[:2], names[2:4], names[4:]]
    of_first = kms.list_aliases(KeyId=arn(f"key/{first}"))["Aliases"]
    assert [one["AliasName"] for one in of_first] == names[:3]
    assert {one["TargetKeyId"] for one in of_first} == {first}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (NOBODYS, "NotFoundException", f"Key '{arn('key/' + NOBODYS)}' does not exist"),
        (f"{arn('key/alias/x')}", "NotFoundException", "Invalid keyId alias/x"),
        ("mine", "NotFoundException", "Invalid keyId mine"),
        ("alias/no", "NotFoundException", f"Alias {arn('alias/no')} is not found."),
        (arn("alias/no"), "NotFoundException", f"Alias {arn('alias/no')} is not found."),
        (arn("alias/no", region="eu-west-1"), "NotFoundException", "Invalid arn eu-west-1"),
        ("arn:aws:s3:::bucket", "InvalidArnException", "Invalid arn arn:aws:s3:::bucket"),
    ],
)
def test_a_name_that_leads_to_no_key_is_refused_as_amazon_does(
    kms: Any, ec2: Any, name: str, error: str, message: str
) -> None:
    found = refused(kms.describe_key, KeyId=name)
    assert (code_of(found), message_of(found)) == (error, message)
    chosen = refused(ec2.modify_ebs_default_kms_key_id, KmsKeyId=name)
    assert (code_of(chosen), message_of(chosen)) == ("InvalidKmsKey.NotFound", message)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("disks", "ValidationException"),
        ("alias/a:b", "ValidationException"),
        ("alias/a b", "ValidationException"),
        ("alias/", "InvalidAliasNameException"),
        ("alias/aws/mine", "NotAuthorizedException"),
        ("alias/taken", "AlreadyExistsException"),
    ],
)
def test_an_alias_that_cannot_be_called_so_is_refused(kms: Any, name: str, error: str) -> None:
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/taken", TargetKeyId=key_id)
    before = kms.list_aliases()["Aliases"]
    assert code(kms.create_alias, AliasName=name, TargetKeyId=key_id) == error
    assert kms.list_aliases()["Aliases"] == before


def test_an_alias_leads_to_a_key_of_the_account_s_own_and_to_nothing_else(kms: Any) -> None:
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/one", TargetKeyId=key_id)
    amazons = kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]["KeyId"]
    for target, error in (
        ("alias/one", "ValidationException"),
        (arn("alias/one"), "ValidationException"),
        (NOBODYS, "NotFoundException"),
        (amazons, "NotAuthorizedException"),
    ):
        assert code(kms.create_alias, AliasName="alias/new", TargetKeyId=target) == error
    for number in range(49):
        kms.create_alias(AliasName=f"alias/{number}", TargetKeyId=key_id)
    found = code(kms.create_alias, AliasName="alias/new", TargetKeyId=key_id)
    assert found == "LimitExceededException"


@pytest.mark.parametrize(
    "asked",
    [
        {"KeyUsage": "SIGN_VERIFY"},
        {"KeySpec": "RSA_2048"},
        {"Origin": "EXTERNAL"},
        {"MultiRegion": True},
        {"Policy": "{}"},
        {"Tags": [{"TagKey": "a", "TagValue": "b"}]},
    ],
)
def test_a_key_that_ebs_could_not_use_is_refused_by_name(kms: Any, asked: dict[str, Any]) -> None:
    error = refused(kms.create_key, **asked)
    assert code_of(error) == "UnsupportedOperationException"
    assert next(iter(asked)) in message_of(error)
    assert len(kms.list_aliases()["Aliases"]) == 1


def test_markers_and_limits_that_are_none_are_refused(kms: Any) -> None:
    assert code(kms.list_aliases, Marker="x") == "InvalidMarkerException"
    assert code(kms.list_aliases, Limit=101) == "ValidationException"
    assert code(kms.list_aliases, KeyId="alias/aws/ebs") == "ValidationException"


def test_the_key_that_ebs_takes_is_amazon_s_until_another_is_chosen(
    kms: Any, ec2: Any, client: ClientMaker
) -> None:
    amazons = kms.describe_key(KeyId="alias/aws/ebs")["KeyMetadata"]["Arn"]
    mine = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/disks", TargetKeyId=mine["KeyId"])
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == amazons
    for name in (mine["KeyId"], mine["Arn"], "alias/disks", arn("alias/disks")):
        assert ec2.modify_ebs_default_kms_key_id(KmsKeyId=name)["KmsKeyId"] == mine["Arn"]
        assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == mine["Arn"]
        assert ec2.reset_ebs_default_kms_key_id()["KmsKeyId"] == amazons
        assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == amazons
    ec2.modify_ebs_default_kms_key_id(KmsKeyId=mine["Arn"])
    for other in (client("ec2", OTHER_ACCOUNT), client("ec2", region="eu-west-1")):
        assert other.get_ebs_default_kms_key_id()["KmsKeyId"] not in (amazons, mine["Arn"])
    assert ec2.modify_ebs_default_kms_key_id(KmsKeyId="alias/aws/ebs")["KmsKeyId"] == amazons


def test_another_account_s_keys_are_refused_whether_they_are_there_or_not(
    kms: Any, client: ClientMaker
) -> None:
    key_id = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.create_alias(AliasName="alias/disks", TargetKeyId=key_id)
    other, ec2 = client("kms", OTHER_ACCOUNT), client("ec2", OTHER_ACCOUNT)
    for there, nowhere in (
        (arn(f"key/{key_id}"), arn(f"key/{NOBODYS}")),
        (arn("alias/disks"), arn("alias/no")),
    ):
        for call, argument in (
            (other.describe_key, "KeyId"),
            (ec2.modify_ebs_default_kms_key_id, "KmsKeyId"),
        ):
            told = [refused(call, **{argument: name}) for name in (there, nowhere)]
            assert message_of(told[0]).replace(there, nowhere) == message_of(told[1])
            assert code_of(told[0]) == code_of(told[1])
    for name in (key_id, "alias/disks"):
        assert code(other.describe_key, KeyId=name) == "NotFoundException"
    assert [one["AliasName"] for one in other.list_aliases()["Aliases"]] == ["alias/aws/ebs"]
    mine = other.create_key()["KeyMetadata"]["KeyId"]
    other.create_alias(AliasName="alias/disks", TargetKeyId=mine)
    assert other.describe_key(KeyId="alias/disks")["KeyMetadata"]["KeyId"] == mine
    assert kms.describe_key(KeyId="alias/disks")["KeyMetadata"]["KeyId"] == key_id


def test_an_unsigned_request_is_told_by_its_target(desk: Desk) -> None:
    headers = {"host": "127.0.0.1", "x-amz-target": "TrentService.ListAliases"}
    found = answer(
        replace(desk, auth=Auth.NONE), Request("POST", "/", headers=headers, body=b"{}")
    )
    assert (found.status, dict(found.headers)["Content-Type"]) == (
        200, "application/x-amz-json-1.1",
    )  # fmt: skip
    assert b'"AliasName":"alias/aws/ebs"' in found.body
