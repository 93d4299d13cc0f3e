"""A small Linux that qemu boots: Debian's cloud kernel, busybox and scripts of a few lines.

The kernel is looked for where its package installs it, or under ``EBSIM_TEST_KERNEL``, a
folder into which the package was only unpacked: installing it would build an initramfs
that nobody boots.
"""

import lzma
import os
import subprocess
from pathlib import Path

from tests.tools import lacking, require_tool, run

_MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
    "virtio_blk",
)  # fmt: skip
"""What the cloud kernel needs to see a virtio disk, in the order in which it needs them.

What is not there as a module is built in.
"""

_FIRST_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
for name in {modules}; do /bin/busybox insmod /$name.ko; done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
"""


class SmallLinux:
    """What is booted: a kernel, and an initramfs that goes on to the disk's own ``/sbin/init``.

    Without one of the programs, or the kernel, the test skips.
    """

    def __init__(self, folder: Path) -> None:
        self._qemu = require_tool("qemu-system-x86_64", package="qemu-system-x86")
        self._cpio = require_tool("cpio", package="cpio")
        self.busybox = _static_busybox()
        self._kernel, modules = _kernel()
        self._initramfs = self._make_initramfs(folder, modules)

    def _make_initramfs(self, folder: Path, modules: Path) -> Path:
        tree = folder / "initramfs"
        for name in ("bin", "dev", "root"):
            (tree / name).mkdir(parents=True)
        (tree / "bin" / "busybox").write_bytes(self.busybox.read_bytes())
        (tree / "bin" / "busybox").chmod(0o755)
        loaded = [(name, path) for name in _MODULES for path in modules.glob(f"**/{name}.ko*")]
        for name, path in loaded:
            (tree / f"{name}.ko").write_bytes(_module_bytes(path))
        init = tree / "init"
        init.write_text(_FIRST_INIT.format(modules=" ".join(name for name, _ in loaded)))
        init.chmod(0o755)
        names = "".join(f"{path.relative_to(tree)}\n" for path in sorted(tree.rglob("*")))
        packed = subprocess.run(
            [self._cpio, "--quiet", "-o", "-H", "newc"],
            cwd=tree, input=names.encode(), stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        image = folder / "initramfs.cpio"
        image.write_bytes(packed.stdout)
        return image

    def boot(self, disk_uri: str) -> str:
        """Boot the disk that an NBD server has at *disk_uri*; its console, until it is off."""
        done = subprocess.run(
            [
                self._qemu, "-accel", "tcg", "-nodefaults", "-no-user-config", "-no-reboot",
                "-display", "none", "-serial", "stdio", "-m", "128", "-kernel", self._kernel,
                "-initrd", self._initramfs,
                "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
                "-drive", f"file={disk_uri},format=raw,if=virtio,cache=none,discard=unmap",
            ],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def make_disk(path: Path, tree: Path, size_mib: int) -> None:
    """Make *path* an ext4 disk of the files in *tree*."""
    mke2fs = require_tool("mke2fs", package="e2fsprogs")
    run(mke2fs, "-q", "-t", "ext4", "-d", tree, path, f"{size_mib}M")


def file_on_disk(disk: Path, name: str, target: Path) -> bytes:
    """What the file *name* of an ext4 disk holds; *target* is where it is put meanwhile."""
    debugfs = require_tool("debugfs", package="e2fsprogs")
    run(debugfs, "-R", f"dump {name} {target}", disk)
    return target.read_bytes()


def _static_busybox() -> Path:
    """A busybox that needs no libraries: there are none where it runs."""
    busybox = Path(require_tool("busybox", package="busybox-static"))
    if subprocess.run(["ldd", busybox], capture_output=True, check=False).returncode == 0:
        lacking(f"{busybox} is not static: apt-get install busybox-static")
    return busybox


def _kernel() -> tuple[Path, Path]:
    """The newest cloud kernel, and the folder of its modules."""
    root = Path(os.environ.get("EBSIM_TEST_KERNEL") or "/")
    kernels = [
        (kernel, root / "lib" / "modules" / kernel.name.removeprefix("vmlinuz-"))
        for kernel in sorted((root / "boot").glob("vmlinuz-*-cloud-amd64"))
    ]
    found = [(kernel, modules) for kernel, modules in kernels if modules.is_dir()]
    if not found:
        lacking(f"no cloud kernel under {root}: apt-get install linux-image-cloud-amd64")
    return found[-1]


def _module_bytes(path: Path) -> bytes:
    """A module's bytes; newer kernels have them compressed."""
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content
