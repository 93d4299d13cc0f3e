"""Volumes made, looked at, changed and removed by their commands."""

import json
from pathlib import Path
from typing import Any

import pytest

from ebsim.cli.exit_codes import ExitCode
from ebsim.units import GIB
from tests.cli.conftest import Store
from tests.cli.in_process import CommandLine, Done

NOBODY = "vol-00000000000000000"


@pytest.fixture
def ebsim(store: Store, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(store.home, capsys)


@pytest.fixture
def volume_id(ebsim: CommandLine, store: Store) -> str:
    return ebsim.told("volume", "create", "--snapshot", store.snapshot_id, "--tag", "role=db")


def as_json(ebsim: CommandLine, *arguments: str) -> Any:
    return json.loads(ebsim.told("--output", "json", *arguments))


def fields(text: str) -> dict[str, str]:
    return {line[:14].strip(): line[14:].strip() for line in text.splitlines()}


def assert_refused(done: Done, code: ExitCode, *parts: str) -> None:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("\n") == 1
    assert [part for part in parts if part not in done.stderr] == [], done.stderr


def test_a_listing_tells_sources_from_volumes_and_how_much_is_here(
    ebsim: CommandLine, store: Store, volume_id: str
) -> None:
    listed = {v["VolumeId"]: v for v in as_json(ebsim, "volume", "ls")["Volumes"]}
    assert listed.keys() == {store.volume_id, volume_id}
    assert listed[store.volume_id]["SourceLocation"] == str(store.image)
    assert "State" not in listed[store.volume_id]
    made = listed[volume_id]
    assert (made["State"], made["SnapshotId"]) == ("available", store.snapshot_id)
    assert (made["PresentBytes"], made["DirtyBytes"], made["StandsAlone"]) == (0, 0, False)
    assert made["Tags"] == [{"Key": "role", "Value": "db"}]
    assert made["Attachments"] == []


def test_the_table_has_a_line_for_each_volume(ebsim: CommandLine, volume_id: str) -> None:
    lines = ebsim.told("volume", "ls").splitlines()
    assert lines[0].split()[-4:] == ["present", "dirty", "attached", "source"]
    (line,) = [line for line in lines if line.startswith(volume_id)]
    assert line.split()[2] == "available"
    assert line.split()[-5:-2] == ["0%", "0", "B"]


def test_a_volume_is_shown_by_the_beginning_of_its_id(
    ebsim: CommandLine, store: Store, volume_id: str
) -> None:
    shown = fields(ebsim.told("volume", "show", volume_id[:18]))
    assert shown["volume"] == volume_id
    assert shown["from"] == store.snapshot_id
    assert shown["tags"] == "role=db"
    assert shown["stands alone"] == "no"
    assert as_json(ebsim, "volume", "show", volume_id)["SizeBytes"] == 2 << 20


def test_a_volume_that_is_loaded_stands_alone(ebsim: CommandLine, volume_id: str) -> None:
    ebsim.told("--quiet", "volume", "initialize", volume_id, "--wait")
    shown = fields(ebsim.told("volume", "show", volume_id))
    assert shown["stands alone"] == "yes"
    assert shown["present"] == "2.00 MiB, 100%"
    (status,) = as_json(ebsim, "volume", "status", volume_id)["VolumeStatuses"]
    assert status["InitializationStatusDetails"]["Progress"] == 100
    assert status["VolumeStatus"]["Details"][1] == {
        "Name": "initialization-state",
        "Status": "completed",
    }


def test_the_status_is_of_all_volumes_that_were_made_here_or_of_those_named(
    ebsim: CommandLine, store: Store, volume_id: str
) -> None:
    empty = ebsim.told("volume", "create", "--size", "1")
    lines = ebsim.told("volume", "status").splitlines()[1:]
    assert {line.split()[0]: line.split()[1:4] for line in lines} == {
        volume_id: ["ok", "initializing", "0%"],
        empty: ["ok", "not-applicable", "100%"],
    }
    assert len(ebsim.told("volume", "status", empty).splitlines()) == 2
    assert_refused(
        ebsim.run("volume", "status", store.volume_id), ExitCode.INVALID_REQUEST, "is a source"
    )


def test_the_rate_that_a_volume_was_made_with_is_shown(ebsim: CommandLine, store: Store) -> None:
    made = as_json(
        ebsim, "volume", "create", "--snapshot", store.snapshot_id, "--initialization-rate", "7"
    )
    shown = as_json(ebsim, "volume", "show", made["VolumeId"])
    assert made["VolumeInitializationRate"] == shown["VolumeInitializationRate"] == 7
    assert fields(ebsim.told("volume", "show", made["VolumeId"]))["loading rate"] == "7 MiB/s"
    (told,) = as_json(ebsim, "volume", "status", made["VolumeId"])["VolumeStatuses"]
    assert told["InitializationStatusDetails"]["InitializationType"] == "provisioned-rate"


def test_a_damaged_volume_is_told_and_hides_no_other(
    ebsim: CommandLine, store: Store, volume_id: str
) -> None:
    other = ebsim.told("volume", "create", "--size", "1")
    (state,) = store.home.rglob(f"{volume_id}/state.json")
    state.write_text("{}")
    done = ebsim.run("volume", "ls")
    assert done.returncode == 0
    states = {line.split()[0]: line.split()[2] for line in done.stdout.splitlines()[1:]}
    assert (states[volume_id], states[other]) == ("error", "available")
    assert f"warning: {volume_id}: the metadata is damaged" in done.stderr
    lines = ebsim.told("volume", "status").splitlines()[1:]
    assert {line.split()[0]: line.split()[1] for line in lines} == {
        volume_id: "impaired",
        other: "ok",
    }
    assert_refused(ebsim.run("volume", "show", volume_id), ExitCode.INTEGRITY_ERROR)


def test_a_volume_grows_and_does_not_shrink(ebsim: CommandLine, volume_id: str) -> None:
    grown = as_json(ebsim, "volume", "resize", volume_id, "--size", "3")["VolumeModification"]
    assert grown == {
        "VolumeId": volume_id,
        "ModificationState": "completed",
        "OriginalSize": 1,
        "TargetSize": 3,
        "Progress": 100,
    }
    assert as_json(ebsim, "volume", "show", volume_id)["SizeBytes"] == 3 * GIB
    assert_refused(
        ebsim.run("volume", "resize", volume_id, "--size", "2"),
        ExitCode.INVALID_REQUEST,
        "cannot shrink",
    )


def test_a_copy_is_another_volume_with_tags_of_its_own(
    ebsim: CommandLine, store: Store, volume_id: str
) -> None:
    copy_id = ebsim.told("volume", "copy", volume_id, "--tag", "for=trial")
    shown = as_json(ebsim, "volume", "show", copy_id)
    assert copy_id != volume_id
    assert (shown["SnapshotId"], shown["SizeBytes"]) == (store.snapshot_id, 2 << 20)
    assert shown["Tags"] == [{"Key": "for", "Value": "trial"}]


def test_a_volume_is_removed_and_what_was_taken_of_it_stays(
    ebsim: CommandLine, volume_id: str
) -> None:
    snapshot_id = ebsim.told("--quiet", "snapshot", "create", volume_id)
    assert ebsim.told("volume", "rm", volume_id, volume_id) == volume_id
    assert volume_id not in ebsim.told("volume", "ls")
    assert ebsim.told("snapshot", "verify", snapshot_id).endswith("whole")
    assert_refused(ebsim.run("volume", "show", volume_id), ExitCode.NOT_FOUND, volume_id)


def test_nothing_is_removed_when_one_of_the_names_is_wrong(
    ebsim: CommandLine, store: Store, volume_id: str
) -> None:
    for wrong, code in (
        (NOBODY, ExitCode.NOT_FOUND),
        (store.volume_id, ExitCode.INVALID_REQUEST),
    ):
        assert_refused(ebsim.run("volume", "rm", volume_id, wrong), code, wrong)
    assert volume_id in ebsim.told("volume", "ls")


@pytest.mark.parametrize(
    "words",
    [
        ("show",), ("status",), ("rm",), ("copy",), ("resize", "--size", "1"), ("attach",),
        ("attach", "--detach-process"), ("detach",), ("initialize",), ("pause",), ("resume",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_every_command_refuses_a_volume_that_is_not_there(
    ebsim: CommandLine, words: tuple[str, ...]
) -> None:
    done = ebsim.run("volume", words[0], NOBODY, *words[1:])
    assert_refused(done, ExitCode.NOT_FOUND, NOBODY, "Run 'ebsim volume ls'")


def test_a_volume_is_available_until_it_is_attached(ebsim: CommandLine, volume_id: str) -> None:
    for command in ("detach", "pause", "resume"):
        assert_refused(ebsim.run("volume", command, volume_id), ExitCode.CONFLICT, volume_id)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ((), "needs a size"),
        (("--size", "0"), "from 1 to"),
        (("--snapshot", "SNAP", "--size", "-1"), "from 1 to"),
        (("--snapshot", "SNAP", "--block-size", "4K"), "Leave --block-size out"),
        (("--snapshot", "SNAP", "--hydrate-first", "0-1G"), "to load first"),
        (("--size", "1", "--initialization-rate", "100"), "nothing to load"),
        (("--snapshot", "SNAP", "--hydrate-like", "OTHER"), "not made from the same snapshot"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_volume_that_cannot_be_made_is_refused(
    ebsim: CommandLine, store: Store, options: tuple[str, ...], part: str
) -> None:
    words = {"SNAP": store.snapshot_id}
    if "OTHER" in options:
        words["OTHER"] = ebsim.told("volume", "create", "--size", "1")
    before = ebsim.told("volume", "ls")
    done = ebsim.run("volume", "create", *(words.get(word, word) for word in options))
    assert_refused(done, ExitCode.INVALID_REQUEST, part, "No volume was made")
    assert ebsim.told("volume", "ls") == before


def test_the_first_command_of_all_can_make_a_volume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ebsim = CommandLine(tmp_path / "new", capsys)
    made = as_json(ebsim, "volume", "create", "--size", "1", "--block-size", "64K")
    assert (made["Size"], made["BlockSize"], made["State"]) == (1, 64 << 10, "available")
