"""The command ``ebsim``: its options, and how it ends.

Whatever goes wrong ends in one line on standard error and a documented exit code.  Only
a bug in ebsim shows a traceback, and its exit code is 1.
"""

import errno
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from ebsim import __version__
from ebsim.cli.exit_codes import ExitCode, exit_code_of
from ebsim.cli.lazy_commands import COMMANDS, LazyGroup
from ebsim.cli.messages import say
from ebsim.cli.settings import (
    DEFAULT_ACCOUNT,
    DEFAULT_REGION,
    OutputFormat,
    Settings,
    default_home,
    parse_account_id,
)
from ebsim.errors import EbsimError
from ebsim.ids import AccountId


@click.group(
    cls=LazyGroup,
    places=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99},
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="EBSIM_HOME",
    show_envvar=True,
    metavar="DIR",
    help="Where the stores are.  [default: ebsim in your data directory]",
)
@click.option(
    "--region",
    "region_name",
    envvar="EBSIM_REGION",
    show_envvar=True,
    default=DEFAULT_REGION,
    show_default=True,
    metavar="NAME",
    help="The store to use; each has its own snapshots and bytes.",
)
@click.option(
    "--account",
    "account_id",
    envvar="EBSIM_ACCOUNT",
    show_envvar=True,
    default=DEFAULT_ACCOUNT,
    show_default=True,
    metavar="ID",
    callback=parse_account_id,
    help="Whose snapshots: 12 digits.",
)
@click.option(
    "--output",
    type=click.Choice([form.value for form in OutputFormat]),
    envvar="EBSIM_OUTPUT",
    show_envvar=True,
    default=OutputFormat.TABLE.value,
    show_default=True,
    help="How data is printed.",
)
@click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Show no progress.")
@click.version_option(__version__, prog_name="ebsim")
@click.pass_context
def ebsim(
    ctx: click.Context,
    *,
    home: Path | None,
    region_name: str,
    account_id: AccountId,
    output: str,
    is_quiet: bool,
) -> None:
    """Point-in-time snapshots of disk images, with the semantics of Amazon EBS.

    \b
    Example:
        ebsim snapshot create disk.img
    """
    ctx.obj = Settings(
        home=(home or default_home()).absolute(),
        region_name=region_name,
        account_id=account_id,
        output=OutputFormat(output),
        is_quiet=is_quiet,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    if not __debug__:
        return _fail("assertions guard your data: run without 'python -O'.", ExitCode.USAGE)
    if "_EBSIM_COMPLETE" in os.environ:
        # A shell asks for completions; click speaks that protocol and exits.
        ebsim.main(prog_name="ebsim")
    _make_signals_unwind()
    _make_output_printable()
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return _fail("interrupted.", ExitCode.INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        return _fail(_usage_message(error), ExitCode.USAGE)
    except EbsimError as error:
        return _fail(str(error), exit_code_of(error))
    except OSError as error:
        is_nobody_reading = isinstance(error, BrokenPipeError) and _output_is_closed()
        _settle_output()
        if is_nobody_reading:
            return ExitCode.OUTPUT_CLOSED
        is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return _fail(
            _os_message(error), ExitCode.STORAGE_FULL if is_full else ExitCode.STORAGE_UNAVAILABLE
        )


def _run(arguments: list[str]) -> int:
    try:
        with ebsim.make_context("ebsim", arguments) as ctx:
            ebsim.invoke(ctx)
    except click.exceptions.Exit as ending:
        code = ending.exit_code
    except click.Abort as error:
        # A question on the terminal was answered with Ctrl-C or the end of input.
        raise KeyboardInterrupt from error
    else:
        code = ExitCode.OK
    # Here, where a failure to write still has an exit code.
    sys.stdout.flush()
    return code


def _fail(message: str, code: ExitCode) -> ExitCode:
    """Say *message* on one line of standard error and return *code*."""
    say(f"ebsim: error: {' '.join(message.split())}")
    return code


def _usage_message(error: click.ClickException) -> str:
    message = error.format_message()
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return message
    return f"{message} Try '{context.command_path} --help'."


def _os_message(error: OSError) -> str:
    """What the system says, and of which file."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}." if error.filename is not None else f"{reason}."


def _make_signals_unwind() -> None:
    """Let SIGTERM and SIGHUP run the ``finally`` blocks, as Ctrl-C does.

    Nothing durable needs it, but helper programs and temporary files then go at once.
    A signal that the parent had ignored, as under ``nohup``, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _unwind)


def _unwind(number: int, frame: FrameType | None) -> None:
    del frame
    raise SystemExit(128 + number)


def _make_output_printable() -> None:
    """Print names that are no text of the terminal's encoding escaped, rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _output_is_closed() -> bool:
    """Whether nobody reads standard output any more, as after ``| head``.

    A pipe to a helper program or a socket may break as well, and that is an error.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    watcher = select.poll()
    watcher.register(descriptor, 0)
    return any(events & select.POLLERR for _, events in watcher.poll(0))


def _settle_output() -> None:
    """Write what standard output still holds, or drop it: the interpreter must end in peace."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
