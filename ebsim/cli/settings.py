"""What the options before the command say: which store, whose, and how to print."""

import re
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path

import click
from platformdirs import user_data_path

from ebsim.ids import AccountId, is_account_id
from ebsim.progress import Progress, Unwatched

DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT = "123456789012"

# A region is a folder of the home, so the name must not be able to leave it.
_REGION_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class OutputFormat(StrEnum):
    """How data is printed on standard output."""

    TABLE = "table"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options before the command, resolved."""

    home: Path
    region_name: str
    account_id: AccountId
    output: OutputFormat
    is_quiet: bool

    @property
    def wants_json(self) -> bool:
        return self.output is OutputFormat.JSON

    def watching(self) -> AbstractContextManager[Progress]:
        """Somebody to watch long work: a bar on standard error, or nobody.

        The bar's module is loaded only where it is shown: rich takes longer to import
        than most commands take to run.
        """
        if self.is_quiet or not sys.stderr.isatty():
            return nullcontext(Unwatched())
        module = import_module("ebsim.cli.progress_bar")
        bar: AbstractContextManager[Progress] = vars(module)["ProgressBar"]()
        return bar


def default_home() -> Path:
    """Where the stores are when nobody says otherwise: ``~/.local/share/ebsim`` on Linux."""
    return user_data_path("ebsim")


def parse_region_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Refuse what cannot be the name of a region."""
    if _REGION_NAME.fullmatch(value) is None:
        raise click.BadParameter(
            f"'{value}' is not a region's name. "
            "Write lower-case letters, digits and dashes, such as us-east-1.",
            ctx,
            param,
        )
    return value


def parse_account_id(ctx: click.Context, param: click.Parameter, value: str) -> AccountId:
    """Refuse what cannot be an account."""
    if not is_account_id(value):
        raise click.BadParameter(f"'{value}' is not an account. Write its 12 digits.", ctx, param)
    return AccountId(value)
