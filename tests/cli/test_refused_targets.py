"""Places where a disk cannot be restored to: told in one line, and nothing is changed."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.cli.conftest import MIB, Store
from tests.cli.processes import run_ebsim
from tests.cli.refusals import assert_refused, assert_whole, run_unprivileged, unchanged
from tests.sources.conftest import loop_device, mount
from tests.tools import require_root, require_tool, run

devices = pytest.mark.xdist_group("loop_devices")


@pytest.fixture(params=["restore", "export"])
def write(request: pytest.FixtureRequest, store: Store) -> Callable[..., list[str]]:
    """The words of a command that writes the snapshot to a target."""
    if request.param == "restore":
        return lambda target, *options: ["restore", store.snapshot_id, str(target), *options]
    require_tool("qemu-img", package="qemu-utils")
    return lambda target, *options: [
        "export", store.snapshot_id, str(target), "--format", "qcow2", *options
    ]  # fmt: skip


def test_a_target_that_exists_is_not_overwritten(
    write: Callable[..., list[str]], store: Store
) -> None:
    target = store.work / "precious"
    target.write_text("precious")
    with unchanged(store.home, store.work):
        done = run_ebsim(*write(target), home=store.home)
    assert_refused(done, ExitCode.TARGET_UNUSABLE, f"{target} exists", "--force")


def test_a_target_that_is_the_source_says_so(
    write: Callable[..., list[str]], store: Store
) -> None:
    with unchanged(store.home, store.image.parent):
        done = run_ebsim(*write(store.image), home=store.home)
    assert_refused(done, ExitCode.TARGET_UNUSABLE, "what the snapshot was taken of", "--force")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        (".", "no file and no block device"),
        ("none/target", "No such file or directory"),
        ("/proc/target", "cannot be made"),
        ("/dev/null", "no file and no block device"),
        ("../disk.img/target", "Not a directory"),
    ],
)
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_a_target_that_cannot_be_a_disk_is_refused(
    name: str, part: str, force: tuple[str, ...], write: Callable[..., list[str]], store: Store
) -> None:
    with unchanged(store.home, store.work):
        done = run_ebsim(*write(store.work / name, *force), home=store.home)
    assert_refused(done, ExitCode.TARGET_UNUSABLE, part)


def test_a_target_in_a_folder_that_may_not_be_written_is_refused(
    write: Callable[..., list[str]], store: Store
) -> None:
    store.work.chmod(0o555)
    with unchanged(store.home, store.work):
        done = run_unprivileged(*write(store.work / "target"), home=store.home)
    assert_refused(done, ExitCode.TARGET_UNUSABLE, "Permission denied")


@pytest.mark.parametrize("place", ["target", "regions/us-east-1/packs/target", "ebsim.json"])
def test_a_target_in_a_store_is_refused_even_by_force(
    place: str, write: Callable[..., list[str]], store: Store
) -> None:
    with unchanged(store.home):
        done = run_ebsim(*write(store.home / place, "--force"), home=store.home)
    assert_refused(done, ExitCode.TARGET_UNUSABLE, f"would lie in the ebsim home {store.home}")


def device_over(stack: ExitStack, path: Path, size_bytes: int) -> Path:
    require_root()
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return loop_device(stack, path)


@devices
def test_a_device_that_is_too_small_is_refused(store: Store, stack: ExitStack) -> None:
    backing = store.work / "backing"
    device = device_over(stack, backing, MIB)
    with unchanged(store.home, store.work):
        done = run_ebsim("restore", store.snapshot_id, str(device), "--force", home=store.home)
    assert_refused(done, ExitCode.TARGET_UNUSABLE, f"{MIB} bytes", f"{2 * MIB}")


@devices
def test_a_device_is_not_overwritten_without_force(store: Store, stack: ExitStack) -> None:
    device = device_over(stack, store.work / "backing", 2 * MIB)
    with unchanged(store.home, store.work):
        done = run_ebsim("restore", store.snapshot_id, str(device), home=store.home)
    assert_refused(done, ExitCode.TARGET_UNUSABLE, f"{device} exists", "--force")


@devices
def test_no_image_is_exported_to_a_device(store: Store, stack: ExitStack) -> None:
    require_tool("qemu-img", package="qemu-utils")
    device = device_over(stack, store.work / "backing", 2 * MIB)
    with unchanged(store.home, store.work):
        done = run_ebsim(
            "export", store.snapshot_id, str(device), "--format", "qcow2", "--force",
            home=store.home,
        )  # fmt: skip
    assert_refused(done, ExitCode.TARGET_UNUSABLE, "ebsim restore")


@devices
@pytest.mark.parametrize("options", [(), ("-o", "ro")], ids=["writable", "read-only"])
@pytest.mark.parametrize("is_file", [False, True], ids=["device", "file behind it"])
def test_a_mounted_target_is_refused_even_by_force(
    options: tuple[str, ...], is_file: bool, store: Store, stack: ExitStack
) -> None:
    mke2fs = require_tool("mke2fs", package="e2fsprogs")
    backing = store.work / "backing"
    device = device_over(stack, backing, 8 * MIB)
    run(mke2fs, "-q", device)
    folder = mount(stack, device, store.home.parent / "mounted")
    if options:
        run("mount", "-o", "remount,ro", folder)
    target = backing if is_file else device
    with unchanged(store.home, folder):
        done = run_ebsim("restore", store.snapshot_id, str(target), "--force", home=store.home)
    part = f"mounted at {folder}" if is_file else "mounted or in use"
    assert_refused(done, ExitCode.TARGET_UNUSABLE, part)


def test_an_export_without_qemu_img_names_the_package(store: Store) -> None:
    with unchanged(store.home, store.work):
        done = run_ebsim(
            "export", store.snapshot_id, str(store.work / "x.qcow2"), "--format", "qcow2",
            home=store.home, PATH="/nonexistent",
        )  # fmt: skip
    assert_refused(done, ExitCode.MISSING_TOOL, "'qemu-img'", "apt-get install qemu-utils")


@devices
def test_a_full_disk_fails_a_restore_and_leaves_nothing_on_it(
    store: Store, stack: ExitStack
) -> None:
    require_root()
    run("mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", store.work)
    stack.callback(run, "umount", store.work)
    with unchanged(store.work):
        done = run_ebsim("restore", store.snapshot_id, str(store.work / "target"), home=store.home)
    assert_refused(done, ExitCode.STORAGE_FULL, "no room", "Nothing was left behind")
    assert_whole(store.home)
