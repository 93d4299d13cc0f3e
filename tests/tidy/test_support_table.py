"""The page of what the APIs support is what the code does."""

from ebsim.api.action import action
from ebsim.api.call import Call
from ebsim.api.params import Answer, Params
from tests.tidy.support_table import PAGE, parameters, support_page


def test_the_page_is_what_the_code_supports() -> None:
    assert PAGE.read_text("utf-8") == support_page(), (
        "write it again with: python -m tests.tidy.support_table"
    )


def test_a_member_of_which_only_a_part_is_supported_is_told_apart() -> None:
    def nothing(call: Call, params: Params) -> Answer:
        del call, params
        return {}

    one = action("CreateSnapshots", nothing, "InstanceSpecification.InstanceId", "Description")
    supported, refused = parameters("ec2", one)
    assert supported == ["Description", "InstanceSpecification.InstanceId"]
    assert "InstanceSpecification.ExcludeBootVolume" in refused
    assert "Location" in refused
