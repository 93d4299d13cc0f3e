"""Encryption by default and the key it would take: ebsim encrypts nothing yet, and says so."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params
from ebsim.catalog.kms_key import key_arn
from ebsim.engine import kms_keys


def enable(call: Call, params: Params) -> Answer:
    """Refuse: what is made from then on would have to be encrypted."""
    del call, params
    raise ApiError(
        "UnsupportedOperation",
        "Encryption by default is not supported by ebsim, which encrypts nothing. Nothing was "
        "changed.",
    )


def is_enabled(call: Call, params: Params) -> Answer:
    """It never is; turning it off changes nothing."""
    del call, params
    return {"EbsEncryptionByDefault": False}


def default_key(call: Call, params: Params) -> Answer:
    """The ARN of the key that EBS would take: Amazon's, if the account chose no other."""
    del params
    return _told(call, kms_keys.default_key(call.region))


def choose_key(call: Call, params: Params) -> Answer:
    """Choose one of the account's own keys."""
    return _told(call, kms_keys.choose_default_key(call.region, params["KmsKeyId"]))


def reset_key(call: Call, params: Params) -> Answer:
    """Choose Amazon's again."""
    del params
    return _told(call, kms_keys.reset_default_key(call.region))


def _told(call: Call, key_id: str) -> Answer:
    return {"KmsKeyId": key_arn(call.region_name, call.account_id, key_id)}


ACTIONS = (
    action("EnableEbsEncryptionByDefault", enable),
    action("DisableEbsEncryptionByDefault", is_enabled),
    action("GetEbsEncryptionByDefault", is_enabled),
    action("GetEbsDefaultKmsKeyId", default_key),
    action("ModifyEbsDefaultKmsKeyId", choose_key, "KmsKeyId"),
    action("ResetEbsDefaultKmsKeyId", reset_key),
)
