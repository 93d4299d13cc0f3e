"""Event patterns do what Amazon's documentation says of each operator."""

import fnmatch
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.event_pattern import SIZE_MAX, EventPattern
from ebsim.errors import InvalidRequest, UnsupportedParameter

EVENT = {
    "source": "aws.ec2",
    "detail-type": "EBS Snapshot Notification",
    "resources": ["arn:aws:ec2::us-east-1:snapshot/snap-1", "second"],
    "detail": {
        "event": "createSnapshot",
        "result": "succeeded",
        "cause": "",
        "count": 5,
        "flag": True,
        "nothing": None,
        "snapshots": [{"status": "completed"}, {"status": "error"}],
    },
}


def fits(pattern: Any, event: Any = EVENT) -> bool:
    return EventPattern(json.dumps(pattern)).fits(event)


def of(value: Any) -> dict[str, Any]:
    """An event whose one field has *value*."""
    return {"f": value}


@pytest.mark.parametrize(
    "pattern",
    [
        {"source": ["aws.ec2"]},
        {"source": ["other", "aws.ec2"]},
        {"source": ["aws.ec2"], "detail": {"event": ["createSnapshot", "copySnapshot"]}},
        {"detail": {"cause": [""]}},
        {"detail": {"flag": [True]}},
        {"detail": {"nothing": [None]}},
        {"detail": {"count": [5.0]}},
        {"resources": ["second"]},
        {"resources": [{"prefix": "arn:aws:ec2::us-east-1"}]},
        {"detail": {"event": [{"suffix": "Snapshot"}]}},
        {"detail": {"event": [{"prefix": {"equals-ignore-case": "CREATE"}}]}},
        {"detail": {"event": [{"equals-ignore-case": "CREATESNAPSHOT"}]}},
        {"detail": {"event": [{"wildcard": "create*shot"}]}},
        {"detail": {"event": [{"anything-but": "copySnapshot"}]}},
        {"detail": {"event": [{"anything-but": ["a", "b"]}]}},
        {"detail": {"event": [{"anything-but": {"prefix": "copy"}}]}},
        {"detail": {"event": [{"anything-but": {"suffix": ["Volume", "Volumes"]}}]}},
        {"detail": {"event": [{"anything-but": {"wildcard": "copy*"}}]}},
        {"detail": {"count": [{"numeric": [">", 4, "<=", 5]}]}},
        {"detail": {"count": [{"numeric": ["=", 5]}]}},
        {"detail": {"event": [{"exists": True}]}},
        {"detail": {"other": [{"exists": False}]}},
        {"detail": {"other": ["x", {"exists": False}]}},
        {"other": {"deep": [{"exists": False}]}},
        {"detail": {"snapshots": {"status": ["error"]}}},
        {"$or": [{"source": ["x"]}, {"detail": {"count": [5]}}]},
        {"detail": {"$or": [{"count": [1]}, {"event": [{"prefix": "create"}]}]}},
    ],
    ids=json.dumps,
)
def test_an_event_that_fits(pattern: Any) -> None:
    assert fits(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        {"source": ["aws.ebs"]},
        {"source": ["aws.ec2"], "detail": {"event": ["copySnapshot"]}},
        {"detail": {"flag": [1]}},
        {"detail": {"count": [True]}},
        {"detail": {"count": ["5"]}},
        {"detail": {"nothing": [""]}},
        {"detail": {"event": [{"prefix": "Create"}]}},
        {"detail": {"event": [{"suffix": "shots"}]}},
        {"detail": {"event": [{"wildcard": "create*shots"}]}},
        {"detail": {"event": [{"anything-but": "createSnapshot"}]}},
        {"detail": {"event": [{"anything-but": {"prefix": "create"}}]}},
        {"detail": {"count": [{"numeric": [">", 5]}]}},
        {"detail": {"flag": [{"numeric": [">", 0]}]}},
        {"detail": {"event": [{"exists": False}]}},
        {"detail": {"other": [{"exists": True}]}},
        {"detail": {"other": [{"anything-but": "x"}]}},
        {"detail": {"other": ["x"]}},
        {"detail": {"snapshots": {"status": ["pending"]}}},
        {"$or": [{"source": ["x"]}, {"detail": {"count": [6]}}]},
        {"source": ["aws.ebs"], "$or": [{"source": ["aws.ec2"]}, {"detail": {"count": [5]}}]},
    ],
    ids=json.dumps,
)
def test_an_event_that_does_not(pattern: Any) -> None:
    assert not fits(pattern)


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ({}, "at least one field"),
        ([], "at least one field"),
        ({"source": "aws.ec2"}, '"source" must be an object or an array'),
        ({"source": []}, "empty array"),
        ({"source": [["a"]]}, "array in its array"),
        ({"detail": {}}, "at least one field"),
        ({"source": [{"prefix": "a", "suffix": "b"}]}, "2 operators"),
        ({"source": [{"prefix": 1}]}, "takes a string"),
        ({"source": [{"suffix": ""}]}, "not empty"),
        ({"source": [{"like": "a"}]}, "unrecognized match type like"),
        ({"source": [{"exists": "yes"}]}, "true or false"),
        ({"source": [{"anything-but": []}]}, "anything-but"),
        ({"source": [{"anything-but": {"exists": True}}]}, "anything-but"),
        ({"source": [{"wildcard": "a**"}]}, "consecutive"),
        ({"source": [{"wildcard": "a\\b"}]}, "backslash"),
        ({"count": [{"numeric": [">"]}]}, "operator and a number"),
        ({"count": [{"numeric": ["~", 1]}]}, "operator ~"),
        ({"count": [{"numeric": [">", "1"]}]}, "must be a number"),
        ({"count": [{"numeric": ["<", 5, ">", 1]}]}, "lower bound first"),
        ({"count": [{"numeric": [">", 5, "<", 5]}]}, "one number at least"),
        ({"$or": [{"source": ["a"]}]}, "at least two"),
    ],
    ids=str,
)
def test_what_is_no_pattern_is_refused_and_why_is_said(pattern: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        EventPattern(json.dumps(pattern))


@pytest.mark.parametrize(
    "text", ["", "{", '{"a": ["b"], "a": ["c"]}', "[" * 4000, "x" * (SIZE_MAX + 1), '{"a":' * 600]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="Event pattern is not valid"):
        EventPattern(text)


def test_an_operator_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedParameter, match="'cidr'"):
        EventPattern('{"detail": {"ip": [{"cidr": "10.0.0.0/24"}]}}')


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5))


@given(LEAVES, st.lists(LEAVES, min_size=1, max_size=4))
def test_anything_but_is_the_contrary_of_the_values(value: Any, values: list[Any]) -> None:
    assert fits({"f": [{"anything-but": values}]}, of(value)) != fits({"f": values}, of(value))


@given(st.text("ab*", min_size=1, max_size=8), st.text("ab", max_size=12))
def test_wildcards_are_those_of_a_shell(pattern: str, text: str) -> None:
    while "**" in pattern:
        pattern = pattern.replace("**", "*")
    assert fits({"f": [{"wildcard": pattern}]}, of(text)) == fnmatch.fnmatchcase(text, pattern)


@given(st.text("ab*\\", max_size=8), st.text("ab*\\", min_size=1, max_size=8))
def test_an_escaped_wildcard_is_itself(text: str, wanted: str) -> None:
    escaped = wanted.replace("\\", "\\\\").replace("*", "\\*")
    assert fits({"f": [{"wildcard": escaped}]}, of(text)) == (text == wanted)


@given(
    st.recursive(
        st.one_of(LEAVES, st.sampled_from(["exists", "numeric", "prefix", "anything-but"])),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["source", "detail", "prefix", "numeric", "exists", "$or"]),
                inner,
                max_size=3,
            ),
        ),
        max_leaves=8,
    )
)
def test_any_json_is_a_pattern_or_is_refused(pattern: Any) -> None:
    try:
        found = EventPattern(json.dumps(pattern))
    except InvalidRequest:
        return
    assert found.fits(EVENT) in {True, False}
