"""The forms in which tags, sizes, filters and shares are written."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.snapshot_filter import Filter
from ebsim.cli.option_types import FilterType, ShareType, SizeType, TagType, exactly

keys = st.text(min_size=1).filter(lambda text: "=" not in text)


def converted(kind: click.ParamType, text: object) -> object:
    return kind.convert(text, None, None)


@given(key=keys, value=st.text())
def test_a_tag_is_cut_at_its_first_equals_sign(key: str, value: str) -> None:
    assert converted(TagType(), f"{key}={value}") == (key, value)


@pytest.mark.parametrize("text", ["", "key", "=value", "="])
def test_a_tag_without_key_or_equals_sign_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="KEY=VALUE"):
        converted(TagType(), text)


def test_a_size_is_read_with_its_unit() -> None:
    assert converted(SizeType(), "512K") == 512 * 1024


@pytest.mark.parametrize("text", ["", "-1", "1.5M", "12X"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        converted(SizeType(), text)


def test_a_filter_is_read_as_the_aws_command_line_writes_it() -> None:
    given_filter = converted(FilterType(), "Name=tag:env,Values=test,prod=1")
    assert given_filter == Filter("tag:env", ("test", "prod=1"))


def test_a_quoted_value_of_a_filter_may_hold_a_comma() -> None:
    assert converted(FilterType(), 'Name=description,Values="a, b",c') == Filter(
        "description", ("a, b", "c")
    )


@pytest.mark.parametrize(
    "text",
    ["", "env=test", "Name=,Values=a", "Name=a", "Name=a,Values=", "Values=a,Name=b",
     'Name=a,Values="b', "Name=a,Values=b\nc"],
)  # fmt: skip
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="Name=NAME,Values=VALUE"):
        converted(FilterType(), text)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("100%", 1.0), ("0.25", 0.25)])
def test_a_share_is_a_percentage_or_a_fraction(text: str, share: float) -> None:
    assert converted(ShareType(), text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0%", "101%", "-5%", "nan", "nan%", "inf", "", "%", "many"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a share"):
        converted(ShareType(), text)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(TagType(), ("a", "b")), (SizeType(), 4096), (FilterType(), Filter("a", ("b",)))],
)
def test_a_value_that_was_read_already_is_kept(kind: click.ParamType, value: object) -> None:
    """Click converts defaults, and may convert a value twice."""
    assert converted(kind, value) == value


def test_an_exact_filter_takes_wildcards_as_they_are() -> None:
    assert exactly("tag:a", "50%*?\\") == Filter("tag:a", ("50%\\*\\?\\\\",))
