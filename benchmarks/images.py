"""The real images that the benchmarks measure on, made once and kept.

    python -m benchmarks.images [--dir DIR] [--small]

    root-1.img    an ext4 root file system of 3 GiB: Debian, minimal, by debootstrap
    root-2.img    the same file system after more packages were installed in it
    root-2.qcow2  root-2.img as a compressed qcow2 image
    data-1.img    an ext4 volume of 2.4 GB with a PostgreSQL database (SQLite where there is
                  none)
    data-2.img    the same volume after a workload
    disk.img      several parts of the above one after the other, at least 8 GiB of data

Needs root (loop devices, chroot) and the packages debootstrap, e2fsprogs, qemu-utils and,
better, postgresql.  Packages and databases bring times of day with them, so two machines'
images are alike and not equal: a run names their digests.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from benchmarks.database import make_database, run_workload
from ebsim.units import GIB, MIB

DEFAULT_FOLDER = Path("/var/tmp/ebsim-bench")

# Any fixed one: it makes the file system's directories come out in the same order.
_FILE_SYSTEM_ID = "5f0e2b1c-6d7a-4c3e-9b58-1a2d3c4e5f60"
_SUITE = "bookworm"
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = ["build-essential", "git", "python3", "vim", "perl", "curl", "postgresql-client"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the images are made."""

    root_bytes: int = 3 * GIB
    data_bytes: int = 2_400_002_048
    database_scale: int = 100
    disk_data_bytes: int = 8 * GIB
    packages: tuple[str, ...] = tuple(_PACKAGES)


SMALL = Sizes(512 * MIB, 200 * MIB, 3, 600 * MIB, ("nano",))


@dataclass(frozen=True, slots=True)
class Images:
    """Where the images are."""

    folder: Path

    @property
    def root_before(self) -> Path:
        return self.folder / "root-1.img"

    @property
    def root_after(self) -> Path:
        return self.folder / "root-2.img"

    @property
    def qcow2(self) -> Path:
        return self.folder / "root-2.qcow2"

    @property
    def data_before(self) -> Path:
        return self.folder / "data-1.img"

    @property
    def data_after(self) -> Path:
        return self.folder / "data-2.img"

    @property
    def disk(self) -> Path:
        return self.folder / "disk.img"


def make_images(folder: Path, sizes: Sizes) -> Images:
    """Make what is missing in *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    images = Images(folder)
    with unfinished(images.root_before) as path:
        if path is not None:
            _make_root(path, sizes)
    with unfinished(images.root_after) as path:
        if path is not None:
            copy_sparse(images.root_before, path)
            with mounted(path, folder / "mount") as root:
                install_packages(root, sizes.packages)
    with unfinished(images.data_before) as path:
        if path is not None:
            _make_file_system(path, sizes.data_bytes)
            with mounted(path, folder / "mount") as volume:
                make_database(volume, sizes.database_scale)
    with unfinished(images.data_after) as path:
        if path is not None:
            copy_sparse(images.data_before, path)
            with mounted(path, folder / "mount") as volume:
                run_workload(volume)
    with unfinished(images.qcow2) as path:
        if path is not None:
            run("qemu-img", "convert", "-c", "-O", "qcow2", images.root_after, path)
    with unfinished(images.disk) as path:
        if path is not None:
            join_images(images, path, sizes.disk_data_bytes)
    return images


@contextmanager
def unfinished(path: Path) -> Iterator[Path | None]:
    """Where to make *path*, ``None`` if it is there; it gets its name when it is whole."""
    if path.exists():
        yield None
        return
    print(f"making {path.name}", file=sys.stderr)
    temporary = path.with_name(f"{path.name}.unfinished")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def run(*command: str | Path, **options: object) -> None:
    """Run a command quietly; what it printed is shown when it fails."""
    done = subprocess.run(  # type: ignore[call-overload] # options are those of run
        [str(word) for word in command],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-4000:]}")


def copy_sparse(source: Path, target: Path) -> None:
    """Copy *source*, its holes as holes, with no blocks shared."""
    run("cp", "--sparse=always", "--reflink=never", source, target)


@contextmanager
def mounted(image: Path, point: Path) -> Iterator[Path]:
    """Mount *image* at *point*, and take it off again whatever happens."""
    point.mkdir(exist_ok=True)
    run("mount", "-o", "loop", image, point)
    try:
        yield point
    finally:
        run("umount", point)
        point.rmdir()


def _make_file_system(path: Path, size_bytes: int, content: Path | None = None) -> None:
    path.touch()
    os.truncate(path, size_bytes)
    options = f"lazy_itable_init=0,lazy_journal_init=0,hash_seed={_FILE_SYSTEM_ID}"
    words: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", _FILE_SYSTEM_ID]
    words += ["-E", options]
    words += ["-d", content] if content else []
    run(*words, path)


def _make_root(path: Path, sizes: Sizes) -> None:
    """A root file system as an installer leaves it."""
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        sys.exit("needs root and debootstrap: apt-get install debootstrap")
    tree = path.with_name("root.tree")
    try:
        run("debootstrap", "--variant=minbase", _SUITE, tree, _MIRROR)
        _make_file_system(path, sizes.root_bytes, tree)
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def install_packages(root: Path, packages: Sequence[str]) -> None:
    """Install *packages* with the system's own apt, inside the mounted file system."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    # No service may start: it would keep the file system busy.
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy("/etc/hosts", root / "etc/hosts")
    run("mount", "--bind", "/dev", root / "dev")
    run("mount", "-t", "proc", "proc", root / "proc")
    try:
        run("chroot", root, "apt-get", "update", env=environment)
        run("chroot", root, "apt-get", "install", "-y", *packages, env=environment)
    finally:
        run("umount", root / "proc")
        run("umount", root / "dev")


def join_images(images: Images, target: Path, data_bytes: int) -> None:
    """Lay images one after the other, and again, until *data_bytes* bytes of them are data."""
    parts = [images.root_before, images.root_after, images.data_before, images.data_after]
    target.touch()
    start, found, turn = 0, 0, 0
    while found < data_bytes:
        part = parts[turn % len(parts)]
        run("dd", f"if={part}", f"of={target}", "bs=1M", f"seek={start // MIB}",
            "conv=sparse,notrunc", "status=none")  # fmt: skip
        # Whole mebibytes, so that dd can seek there.
        start = -(-(start + part.stat().st_size) // MIB) * MIB
        found = target.stat().st_blocks * 512
        turn += 1
    os.truncate(target, start)


def describe_image(path: Path) -> dict[str, float | int | str]:
    """What a run says about the image that it measured."""
    digest = blake3()
    digest.update_mmap(path)
    return {
        "size_bytes": path.stat().st_size,
        "allocated_bytes": path.stat().st_blocks * 512,
        "blake3": digest.hexdigest()[:16],
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Make the benchmarks' images.")
    parser.add_argument("--dir", type=Path, default=DEFAULT_FOLDER, help="where they are kept")
    parser.add_argument("--small", action="store_true", help="a tenth of the size, for trying")
    options = parser.parse_args(arguments)
    images = make_images(options.dir, SMALL if options.small else Sizes())
    for path in sorted(images.folder.iterdir()):
        size, allocated = path.stat().st_size, path.stat().st_blocks * 512
        print(f"{path.name:14} {size:>14,} bytes, {allocated:>14,} allocated")


if __name__ == "__main__":
    main(sys.argv[1:])
