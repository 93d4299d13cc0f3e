"""Images that do not hold a whole disk by themselves: told in one line, nothing changed."""

from pathlib import Path
from random import Random

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.cli.conftest import MIB, Store
from tests.cli.processes import run_ebsim
from tests.cli.refusals import assert_refused, listed_ids, unchanged
from tests.tools import require_tool, run

IMPORT = ("import",)
CREATE = ("snapshot", "create")


@pytest.fixture
def qcow2(store: Store) -> Path:
    """The store's disk as a qcow2."""
    for program in ("qemu-img", "qemu-nbd"):
        require_tool(program, package="qemu-utils")
    image = store.work / "disk.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", store.image, image)
    return image


@pytest.fixture
def overlay(store: Store, qcow2: Path) -> Path:
    image = store.work / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", qcow2, image)
    return image


both = pytest.mark.parametrize("words", [IMPORT, CREATE], ids=" ".join)


@both
def test_a_qcow2_that_names_a_backing_file_is_read_only_when_told_to(
    words: tuple[str, ...], overlay: Path, store: Store
) -> None:
    with unchanged(store.home):
        done = run_ebsim(*words, str(overlay), home=store.home)
    assert_refused(done, ExitCode.SOURCE_UNUSABLE, "disk.qcow2", "--allow-backing-file")

    allowed = run_ebsim(*words, str(overlay), "--allow-backing-file", home=store.home)

    assert allowed.returncode == 0, allowed.stderr
    target = store.work / "restored"
    run_ebsim("restore", allowed.stdout.strip(), str(target), home=store.home)
    assert target.read_bytes() == store.image.read_bytes()


@both
def test_a_truncated_image_is_refused(words: tuple[str, ...], qcow2: Path, store: Store) -> None:
    qcow2.write_bytes(qcow2.read_bytes()[: MIB + 512])
    with unchanged(store.home):
        done = run_ebsim(*words, str(qcow2), home=store.home)
    assert_refused(done, ExitCode.SOURCE_UNUSABLE, str(qcow2), "truncated")


@both
@pytest.mark.parametrize("name", ["disk.qcow2", "disk.vmdk", "disk.vhdx", "disk.vdi", "disk.vhd"])
def test_an_image_that_only_claims_its_format_is_refused(
    name: str, words: tuple[str, ...], store: Store
) -> None:
    image = store.work / name
    image.write_bytes(Random(1).randbytes(MIB))
    with unchanged(store.home):
        claimed = run_ebsim(*words, str(image), home=store.home)
        asked = run_ebsim(*words, str(image), "--format", image.suffix[1:], home=store.home)
    assert_refused(claimed, ExitCode.SOURCE_UNUSABLE, "claims by its name", "--format raw")
    assert_refused(asked, ExitCode.SOURCE_UNUSABLE, "its bytes are those of raw")
    assert run_ebsim(*words, str(image), "--format", "raw", home=store.home).returncode == 0


@both
def test_an_image_without_qemu_nbd_names_the_package(
    words: tuple[str, ...], qcow2: Path, store: Store
) -> None:
    with unchanged(store.home):
        done = run_ebsim(*words, str(qcow2), home=store.home, PATH="/nonexistent")
    assert_refused(done, ExitCode.MISSING_TOOL, "'qemu-nbd'", "apt-get install qemu-utils")


@both
def test_a_second_image_that_is_refused_leaves_the_first_snapshot(
    words: tuple[str, ...], overlay: Path, qcow2: Path, store: Store
) -> None:
    if words == IMPORT:
        run_ebsim(*words, str(qcow2), home=store.home)
        run_ebsim(*words, str(overlay), home=store.home)
    else:
        done = run_ebsim(*words, str(qcow2), str(overlay), home=store.home)
        assert done.returncode == ExitCode.SOURCE_UNUSABLE
    assert len(listed_ids(store.home)) == 2


@pytest.mark.parametrize("image_format", ["raw", "qcow2", "vmdk", "vpc", "vhdx", "vdi"])
def test_what_is_exported_is_imported_as_the_same_disk(
    image_format: str, qcow2: Path, store: Store
) -> None:
    """The blocks are all known: the second snapshot stores no more than its map."""
    del qcow2
    target = store.work / f"exported.{image_format}"
    exported = run_ebsim(
        "export", store.snapshot_id, str(target), "--format", image_format, home=store.home
    )
    assert exported.returncode == 0, exported.stderr
    assert sorted(path.name for path in store.work.iterdir()) == ["disk.qcow2", target.name]

    imported = run_ebsim("import", str(target), home=store.home)

    assert imported.returncode == 0, imported.stderr
    done = run_ebsim(
        "snapshot", "diff", store.snapshot_id, imported.stdout.strip(), home=store.home
    )
    assert (done.returncode, done.stdout.split()) == (0, ["OffsetBytes", "SizeBytes"])


def test_an_export_replaces_a_file_only_by_force(qcow2: Path, store: Store) -> None:
    before = qcow2.read_bytes()
    words = ("export", store.snapshot_id, str(qcow2), "--format", "vdi")
    refused = run_ebsim(*words, home=store.home)
    assert_refused(refused, ExitCode.TARGET_UNUSABLE, "exists")
    assert qcow2.read_bytes() == before
    assert run_ebsim(*words, "--force", home=store.home).returncode == 0
    assert qcow2.read_bytes()[:9] == b"<<< QEMU "
