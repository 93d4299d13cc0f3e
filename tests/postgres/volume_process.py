"""A process that serves live volumes by FUSE and cuts them when it is told to.

    python -m tests.postgres.volume_process FOLDER MOUNT SIZE_MIB NAME...

Makes an empty volume of each name in FOLDER and mounts them at MOUNT.  Told on standard
input, a line each::

    cut SET NAME...    freeze all of these, cut all, thaw; then copy them as they were at
                       the cut to FOLDER/SET/NAME.img, while writes go on

and answers ``cut SET`` when it has thawed and ``copied SET`` when the copies are there.
"""

import sys
from collections.abc import Iterable
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Thread

from ebsim.attach.fuse_mount import mount_shelf
from ebsim.attach.fuse_shelf import Image
from ebsim.durable_files import Files
from ebsim.errors import EbsimError
from ebsim.units import KIB, MIB
from ebsim.volumes.block_device import BlockDevice
from ebsim.volumes.cut import CutReader
from ebsim.volumes.live_volume import LiveVolume
from ebsim.volumes.overlay import Overlay
from ebsim.volumes.volume_folder import (
    NEVER_COMPARED,
    VolumeFolder,
    VolumeState,
    current_boot,
)

BLOCK_SIZE = 512 * KIB
FREEZE_SECONDS = 10


class LiveVolumes:
    """Open volumes, which are the images of a mount and can be cut together."""

    folders = ()

    def __init__(self, folder: Path, names: Iterable[str], size_bytes: int) -> None:
        self._folder = folder
        self._folders = {name: VolumeFolder(Files(), folder / name) for name in names}
        self._volumes: dict[str, LiveVolume] = {}
        for name, place in self._folders.items():
            place.begin()  # its lock is kept until the process ends
            place.create(VolumeState(size_bytes, BLOCK_SIZE, None, NEVER_COMPARED))
            overlay = Overlay(place, current_boot(), is_completed=lambda _snapshot_id: False)
            self._volumes[name] = LiveVolume(overlay, origin=None)

    def names(self, _folder: str) -> Iterable[str]:
        return self._volumes

    def find(self, _folder: str, name: str) -> Image | None:
        volume = self._volumes.get(name)
        return None if volume is None else Image(volume.size_bytes, 0, is_writable=True)

    def open(self, _folder: str, name: str) -> BlockDevice:
        return self._volumes[name]

    def release(self, _folder: str, _name: str, _device: BlockDevice) -> None:
        """They stay open until the process ends."""

    def cut(self, set_name: str, names: list[str]) -> None:
        """Cut the volumes *names* at one moment; all are frozen before any is cut."""
        volumes = [self._volumes[name] for name in names]
        for volume in volumes:
            volume.prepare_cut(set_name, None)
        with ExitStack() as thawed:
            for volume in volumes:
                volume.freeze(FREEZE_SECONDS)
                thawed.callback(volume.thaw)
            for volume in volumes:
                volume.make_cut(set_name, dirty_only=False)

    def copy(self, set_name: str, names: list[str]) -> None:
        """Write what the volumes held at the cut to files, and let the cut go."""
        (self._folder / set_name).mkdir()
        for name in names:
            with closing(CutReader(self._folders[name], set_name)) as reader:
                copy_cut(reader, self._folder / set_name / f"{name}.img")
            self._volumes[name].settle_cut(set_name)

    def close(self) -> None:
        for volume in self._volumes.values():
            volume.close()


def copy_cut(reader: CutReader, target: Path) -> None:
    with target.open("wb") as file:
        file.truncate(reader.size_bytes)
        for index in range(reader.block_count):
            offset_bytes = index * reader.block_size
            block = bytearray(min(reader.block_size, reader.size_bytes - offset_bytes))
            reader.read(memoryview(block), offset_bytes)
            if any(block):
                file.seek(offset_bytes)
                file.write(block)


def obey(volumes: LiveVolumes) -> None:
    """Do what standard input says, until it ends."""
    for line in sys.stdin:
        _, set_name, *names = line.split()
        try:
            volumes.cut(set_name, names)
            print("cut", set_name, flush=True)
            volumes.copy(set_name, names)
            print("copied", set_name, flush=True)
        except EbsimError as error:
            print("failed", set_name, error, flush=True)


def main(folder: str, mount_point: str, size_mib: str, *names: str) -> None:
    with closing(LiveVolumes(Path(folder), names, int(size_mib) * MIB)) as volumes:
        mount_shelf(
            volumes,
            Path(mount_point),
            on_ready=lambda: start_obeying(volumes),
            on_failure=lambda error: print("failure:", error, flush=True),
        )


def start_obeying(volumes: LiveVolumes) -> None:
    Thread(target=obey, args=(volumes,), daemon=True).start()
    print("ready", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
