"""Commands that are parsed already and refused until the engine can do them."""

from typing import NoReturn

import click

from ebsim.errors import UnsupportedParameter


def refuse(*arguments: object) -> NoReturn:
    """Refuse the running command by name, whatever its *arguments*."""
    del arguments
    name = click.get_current_context().command_path
    raise UnsupportedParameter(f"'{name}' is not built yet. Nothing was changed.")
