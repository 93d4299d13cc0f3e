"""Who the caller is."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.params import Answer, Params


def get_caller_identity(call: Call, params: Params) -> Answer:
    """The caller's account, as its root user: ebsim has no others."""
    del params
    return {
        "UserId": call.account_id,
        "Account": call.account_id,
        "Arn": f"arn:aws:iam::{call.account_id}:root",
    }


ACTIONS = (action("GetCallerIdentity", get_caller_identity),)
