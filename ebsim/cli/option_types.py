"""The forms in which options are written: tags, sizes, filters, shares."""

import csv
import re
from datetime import UTC, datetime
from typing import NoReturn

import click

from ebsim.catalog.snapshot_filter import Filter
from ebsim.clock import SystemClock, from_iso8601
from ebsim.errors import InvalidRequest
from ebsim.units import parse_size

FORMATS = ("raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi")


class TagType(click.ParamType[tuple[str, str]]):
    """``KEY=VALUE``; the value may be empty and may hold more equals signs."""

    name = "KEY=VALUE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"'{value}' is not a tag. Write KEY=VALUE, such as env=test.", param, ctx)
        return key, text


class SizeType(click.ParamType[int]):
    """Bytes, or a number with K, M, G or T."""

    name = "SIZE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(str(value))
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)


class TimeType(click.ParamType[int]):
    """A time in ISO 8601, or an age such as ``90m``, ``12h`` or ``7d``: nanoseconds since 1970."""

    name = "TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        text = str(value)
        age = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
        if age is not None:
            seconds = int(age[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[age[2]]
            return max(0, SystemClock().now_ns() - seconds * 10**9)
        try:
            return from_iso8601(text)
        except ValueError:
            self.fail(
                f"'{text}' is not a time. Write 2026-11-22T16:58:03Z, or an age such as 12h.",
                param,
                ctx,
            )


class DateTimeType(click.ParamType[datetime]):
    """A date, or a date and time, in ISO 8601; UTC unless it says otherwise."""

    name = "TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"'{value}' is not a time. Write it as 2027-01-31 or 2027-01-31T12:00:00Z.",
                param,
                ctx,
            )
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


class RangeType(click.ParamType[tuple[int, int]]):
    """``START-STOP`` in bytes, or with K, M, G or T; the end is not in it."""

    name = "START-STOP"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, dash, last = str(value).partition("-")
        try:
            start, stop = (parse_size(first or "0"), parse_size(last)) if dash else (0, 0)
        except InvalidRequest as error:
            self.fail(str(error), param, ctx)
        if start < stop:
            return start, stop
        return self.fail(f"'{value}' is not a range. Write START-STOP, such as 0-64M.", param, ctx)


class FilterType(click.ParamType[Filter]):
    """``Name=...,Values=a,b`` as the AWS CLI writes it.

    A value with a comma goes between double quotes: ``Name=description,Values="a, b",c``.
    """

    name = "FILTER"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Filter:
        if isinstance(value, Filter):
            return value
        head, found, tail = str(value).partition(",Values=")
        label, equals, name = head.partition("=")
        if label != "Name" or not equals or not name or not found or not tail:
            self._refuse(value, param, ctx)
        try:
            (values,) = csv.reader([tail], strict=True)
        except (csv.Error, ValueError):
            self._refuse(value, param, ctx)
        return Filter(name, tuple(values))

    def _refuse(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> NoReturn:
        self.fail(
            f"'{value}' is not a filter. Write Name=NAME,Values=VALUE[,VALUE...], "
            "such as Name=tag:env,Values=test,prod.",
            param,
            ctx,
        )


class FormatType(click.Choice[str]):
    """An image format, in any case; qemu's ``vpc`` is a ``vhd``."""

    def __init__(self) -> None:
        super().__init__(FORMATS, case_sensitive=False)

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = str(value)
        return super().convert("vhd" if text.lower() == "vpc" else text, param, ctx)


class ShareType(click.ParamType[float]):
    """``5%`` or ``0.05``: more than nothing, at most all."""

    name = "SHARE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value)
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = 0.0
        # Written so that NaN is refused as well.
        if not 0 < share <= 1:
            self.fail(
                f"'{text}' is not a share. Write a percentage above 0%, such as 5%.", param, ctx
            )
        return share


def exactly(name: str, value: str) -> Filter:
    """The filter that lets *value* through and nothing else, whatever characters it has."""
    return Filter(name, (re.sub(r"([*?\\])", r"\\\1", value),))


def tags_by_key(
    ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    """The tags as a mapping; a key given twice is a slip, and Amazon refuses it as well."""
    tags = dict(value)
    if len(tags) < len(value):
        keys = [key for key, _ in value]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise click.BadParameter(f"The tag '{twice}' is given twice.", ctx, param)
    return tags
