"""Writing a disk as an image file in another format, by ``qemu-img convert``.

The image is made whole under its own name in a folder beside the target, synced, and
renamed: the target is the old file or the new image, never a part of it.  (A folder,
since a VMDK repeats its own file's name inside.)
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ebsim.errors import MissingTool, TargetUnusable
from ebsim.sources.image_format import ImageFormat

_PROGRAM = "qemu-img"

# By default a VHD's disk grows to the next size that its geometry can express.
_OPTIONS = {ImageFormat.VHD: ["-o", "force_size=on"]}


def export_image(
    raw_path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    image_format: ImageFormat,
) -> None:
    """Write the raw disk at *raw_path* to *target* as an image, durably.

    A *target* that exists is replaced: whether it may be is the caller's to decide.
    Formats other than raw count in sectors, so a disk whose length is no multiple of 512
    bytes is filled up with zeros.

    Raises:
        MissingTool: there is no ``qemu-img``.
        TargetUnusable: the image cannot be written; *target* is as it was.
    """
    program = require_exporter(image_format)
    disk, path = Path(os.path.realpath(raw_path)), Path(os.path.realpath(target))
    if path.exists() and not path.is_file():
        raise TargetUnusable(f"{path} is not a regular file. Name a file for the image.")
    try:
        folder = Path(tempfile.mkdtemp(prefix=".ebsim-export-", dir=path.parent))
    except OSError as error:
        raise _failure(path, str(error.strerror)) from error
    try:
        made = folder / path.name
        _convert(program, disk, made, image_format, target=path)
        if image_format is ImageFormat.RAW:
            # qemu-img fills this one up to a sector as well, where nothing asks for it.
            os.truncate(made, disk.stat().st_size)
        _publish(made, path)
    finally:
        shutil.rmtree(folder)


def require_exporter(image_format: ImageFormat) -> str:
    """The path of the program that writes images.

    Raises:
        MissingTool: it is not installed.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        raise MissingTool(
            tool=_PROGRAM, package="qemu-utils", purpose=f"Writing a {image_format} image"
        )
    return program


def _convert(
    program: str, raw_path: Path, made: Path, image_format: ImageFormat, *, target: Path
) -> None:
    command = [program, "convert", "-f", "raw", "-O", image_format.driver]
    command += [*_OPTIONS.get(image_format, []), str(raw_path), str(made)]
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"LC_ALL": "C"},
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1] if said else f"it ended with {done.returncode}"
        raise _failure(
            target, reason.removeprefix(f"{_PROGRAM}: ").replace(str(made), str(target))
        )


def _publish(made: Path, target: Path) -> None:
    try:
        _sync(made)
        made.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise _failure(target, str(error.strerror)) from error


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _failure(target: Path, reason: str) -> TargetUnusable:
    return TargetUnusable(
        f"{target} cannot be written by {_PROGRAM}: {reason}. What was there before is unchanged."
    )
