"""What the options before the command say: which store, whose, and how to print."""

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path

import click

from ebsim.ids import AccountId, is_account_id
from ebsim.progress import Progress, Unwatched

DEFAULT_REGION = "us-east-1"
DEFAULT_ACCOUNT = "123456789012"


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
    # Loaded here, for neither --home nor --version has any use for it.
    home: Path = import_module("platformdirs").user_data_path("ebsim")
    return home


def parse_account_id(ctx: click.Context, param: click.Parameter, value: str) -> AccountId:
    """Refuse what cannot be an account."""
    if not is_account_id(value):
        raise click.BadParameter(f"'{value}' is not an account. Write its 12 digits.", ctx, param)
    return AccountId(value)
