"""What is known of a volume is right or refused, and its files are found."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.durable_files import Files
from ebsim.errors import MetadataCorrupt, UnsupportedFormat
from ebsim.ids import Digest
from ebsim.volumes.volume_folder import NEVER_COMPARED, VolumeFolder, VolumeState
from tests.crash.recorded_store import quick_directory

STATE = VolumeState(20 * 4096 + 17, 4096, Digest(bytes(range(32))), "snap-0a", "boot 1")


@pytest.fixture
def folder() -> Iterator[VolumeFolder]:
    with quick_directory() as path:
        made = VolumeFolder(Files(), path / "volume")
        Files().close(made.begin())
        yield made


@given(
    st.builds(
        VolumeState,
        st.integers(1, 1 << 46),
        st.sampled_from([4096, 1 << 19, 1 << 22]),
        st.none() | st.binary(min_size=32, max_size=32).map(Digest),
        st.text(),
        st.none() | st.text(),
    )
)
def test_a_state_comes_back_as_it_was_stored(state: VolumeState) -> None:
    with quick_directory() as path:
        folder = VolumeFolder(Files(), path)
        folder.store(state)
        assert folder.load() == state


def test_every_flipped_bit_of_the_state_is_noticed(folder: VolumeFolder) -> None:
    folder.store(STATE)
    path = folder.path / "state.json"
    text = path.read_bytes()
    for bit in range(8 * len(text)):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(MetadataCorrupt):
            folder.load()


def test_every_state_that_was_cut_off_is_noticed(folder: VolumeFolder) -> None:
    folder.store(STATE)
    path = folder.path / "state.json"
    text = path.read_bytes()
    for size in range(len(text)):
        path.write_bytes(text[:size])
        with pytest.raises(MetadataCorrupt):
            folder.load()
    path.unlink()
    with pytest.raises(MetadataCorrupt, match="missing"):
        folder.load()


@pytest.mark.parametrize("text", [b"[]", b"null", b"7", b'{"state": 7}', b"[" * 60_000, b"\xff"])
def test_what_was_never_a_state_is_noticed(folder: VolumeFolder, text: bytes) -> None:
    (folder.path / "state.json").write_bytes(text)
    with pytest.raises(MetadataCorrupt):
        folder.load()


def test_a_newer_format_is_refused_by_name(
    folder: VolumeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ebsim.volumes.volume_folder.FORMAT", 2)
    folder.store(STATE)
    monkeypatch.undo()
    with pytest.raises(UnsupportedFormat, match="newer ebsim"):
        folder.load()


def test_a_volume_is_open_while_somebody_has_its_lock(folder: VolumeFolder) -> None:
    lock = folder.take_lock()
    assert lock is not None
    assert folder.is_open()
    assert folder.take_lock() is None
    Files().close(lock)
    assert not folder.is_open()


def test_making_a_volume_costs_the_same_for_any_size(folder: VolumeFolder) -> None:
    folder.create(VolumeState(64 << 40, 1 << 19, None, NEVER_COMPARED))
    taken = sum(path.stat().st_blocks * 512 for path in folder.path.iterdir())
    assert taken < 1 << 16
    assert len(list(folder.path.glob("data.*"))) == 8


def test_block_indexes_end_with_the_last_whole_one(folder: VolumeFolder) -> None:
    indexes = list(range(0, 200_000, 7))
    data = b"".join(index.to_bytes(8, "little") for index in indexes)
    folder.access.write_bytes(data + b"half")
    assert list(folder.read_block_indexes(folder.access)) == indexes
    assert list(folder.read_block_indexes(folder.hydrate_order)) == []


def test_cuts_are_found_and_what_they_left_is_removed(folder: VolumeFolder) -> None:
    folder.create(STATE)
    for name in ("cut-snap-2", "cut-snap-1", "preserved-snap-1.0", "preserved-snap-1.bits"):
        (folder.path / name).touch()
    assert folder.cuts() == ["snap-1", "snap-2"]
    folder.discard_cut("snap-1", STATE.size_bytes)
    assert folder.cuts() == ["snap-2"]
    assert list(folder.path.glob("preserved-*")) == []
    folder.remove()
    assert not folder.path.exists()


def test_the_state_says_nothing_that_is_not_signed(folder: VolumeFolder) -> None:
    folder.store(STATE)
    document = json.loads((folder.path / "state.json").read_bytes())
    document["state"]["dirty_since"] = "snap-0b"
    (folder.path / "state.json").write_bytes(json.dumps(document).encode())
    with pytest.raises(MetadataCorrupt, match="checksum"):
        folder.load()
