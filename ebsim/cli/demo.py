"""``ebsim demo``: the main job on a small disk, from snapshot to proven restore."""

import contextlib
import hashlib
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from ebsim.cli.demo_disk import DemoDisk, demo_disk
from ebsim.cli.main import ebsim
from ebsim.cli.opened_region import opened_region
from ebsim.cli.settings import DEFAULT_ACCOUNT, DEFAULT_REGION, OutputFormat, Settings
from ebsim.engine.list_snapshots import list_snapshots
from ebsim.errors import IntegrityError
from ebsim.units import MIB

_IMAGE = "disk.img"
_RESTORED = "restored.img"
_STORE = "store"


@click.command()
@click.option("--remove", is_flag=True, help="Leave nothing behind to try commands on.")
@click.pass_obj
def demo(settings: Settings, *, remove: bool) -> None:
    """Show the main job on a small disk.

    Makes a disk image, takes three snapshots with changes between, compares two, deletes
    the first, restores the last and proves it byte for byte.  Disk and store are in a new
    temporary directory, which stays for you to try commands on; your own snapshots are
    not touched.

    \b
    Example:
        ebsim demo
    """
    folder = Path(tempfile.mkdtemp(prefix="ebsim-demo-"))
    keep = False
    try:
        # From inside, the commands shown are short, and work as they are.
        with contextlib.chdir(folder):
            last_id = _Demo(folder, settings).run(demo_disk(folder / _IMAGE))
        keep = not remove
    finally:
        if not keep:
            shutil.rmtree(folder)
    if keep:
        _show_next(folder, settings, last_id)


class _Demo:
    """The steps, each a real command: what is printed is what is run."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._home = folder / _STORE
        self._settings = settings

    def run(self, disk: DemoDisk) -> str:
        """Go through all steps; return the id of the last snapshot."""
        click.echo(f"A disk to keep safe: {_IMAGE}, {disk.make()}.")
        self._step("The first snapshot stores all data of the disk once, compressed.")
        first_id = self._snapshot("as made")
        self._step(f"A change: {disk.change()}. The second stores only the blocks that differ.")
        second_id = self._snapshot("small change")
        self._step(f"Another: {disk.change_again()}.")
        third_id = self._snapshot("larger change")
        self._step("Where the last two differ, in bytes:")
        self._ebsim("snapshot", "diff", second_id, third_id)
        self._step("Deleting the first frees only what no other snapshot needs.")
        self._ebsim("snapshot", "rm", first_id)
        self._step("The last is whole all the same: restored, and read back block by block.")
        self._ebsim("restore", third_id, _RESTORED, "--verify")
        self._prove()
        return third_id

    def _step(self, sentence: str) -> None:
        click.echo(f"\n{sentence}")

    def _snapshot(self, description: str) -> str:
        self._ebsim("snapshot", "create", _IMAGE, "--description", description)
        with opened_region(self._settings_here()) as region:
            return list_snapshots(region).snapshots[-1].snapshot_id

    def _prove(self) -> None:
        """Compare disk and restored disk, as ``sha256sum`` would."""
        self._step("Both disks, by their SHA-256:")
        digests = [_sha256(Path(name)) for name in (_IMAGE, _RESTORED)]
        for name, digest in zip((_IMAGE, _RESTORED), digests, strict=True):
            click.echo(f"{digest}  {name}")
        if digests[0] != digests[1]:
            raise IntegrityError("the restored disk is not the disk: this is a bug in ebsim.")
        click.echo("The same, byte for byte.")

    def _settings_here(self) -> Settings:
        return Settings(
            home=self._home,
            region_name=self._settings.region_name,
            account_id=self._settings.account_id,
            output=OutputFormat.TABLE,
            is_quiet=False,
        )

    def _ebsim(self, *arguments: str) -> None:
        """Show a command and run it."""
        here = self._settings_here()
        options = ["--home", str(here.home), "--region", here.region_name]
        options += ["--account", here.account_id, "--output", here.output.value]
        click.secho(f"$ {shlex.join(['ebsim', *arguments])}", bold=True)
        with ebsim.make_context("ebsim", [*options, *arguments]) as ctx:
            ebsim.invoke(ctx)


def _show_next(folder: Path, settings: Settings, snapshot_id: str) -> None:
    """Print commands that work when they are pasted, on what the demo left behind."""
    program = shlex.join(_own_command())
    place = shlex.quote(str(folder))
    variables = {"EBSIM_HOME": f"{place}/{_STORE}"}
    if settings.region_name != DEFAULT_REGION:
        variables["EBSIM_REGION"] = shlex.quote(settings.region_name)
    if settings.account_id != DEFAULT_ACCOUNT:
        variables["EBSIM_ACCOUNT"] = settings.account_id
    exported = " ".join(f"{name}={value}" for name, value in variables.items())
    click.echo("\nTry next, on the disk and the store of this demo:\n")
    for line in (
        f"cd {place} && export {exported}",
        f"{program} snapshot ls --unique",
        f"{program} snapshot create {_IMAGE} --tag try=again",
        f"{program} restore {snapshot_id} - | cmp - {_IMAGE}",
        f"{program} store check --read-data",
        f"cd - && rm -r {place} && unset {' '.join(variables)}",
    ):
        click.echo(f"  {line}")
    click.echo(f"\nThen on a disk of yours: {program} snapshot create IMAGE")


def _own_command() -> Sequence[str]:
    """What starts this ebsim from any directory."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return [sys.executable, "-m", "ebsim"]
    found = shutil.which(started.name)
    if found is not None and Path(found).resolve() == started.resolve():
        return [started.name]
    return [str(started.absolute())]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(MIB):
            digest.update(data)
    return digest.hexdigest()
