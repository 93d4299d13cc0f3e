"""Encryption by default and the key it would take: ebsim encrypts nothing yet, and says so."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params

DEFAULT_KEY = "alias/aws/ebs"


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
    """The name of the key that Amazon takes when nobody chose one."""
    del call, params
    return {"KmsKeyId": DEFAULT_KEY}


def choose_key(call: Call, params: Params) -> Answer:
    """Refuse a key of the account's own: there are none."""
    del call
    wanted = params["KmsKeyId"]
    if wanted != DEFAULT_KEY:
        raise ApiError(
            "InvalidKmsKey.NotFound",
            f"The key '{wanted}' does not exist: ebsim encrypts nothing and has no keys.",
        )
    return {"KmsKeyId": DEFAULT_KEY}


ACTIONS = (
    action("EnableEbsEncryptionByDefault", enable),
    action("DisableEbsEncryptionByDefault", is_enabled),
    action("GetEbsEncryptionByDefault", is_enabled),
    action("GetEbsDefaultKmsKeyId", default_key),
    action("ModifyEbsDefaultKmsKeyId", choose_key, "KmsKeyId"),
    action("ResetEbsDefaultKmsKeyId", default_key),
)
