"""The comparison with other tools at toy size: that each tool is used rightly."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.peer_chart import chart
from benchmarks.peer_results import (
    MEASURES,
    STEPS,
    PeerRun,
    Sample,
    peer_markdown,
    read_peer_runs,
    write_peer_run,
)
from benchmarks.peer_tools import installed_tools, tool_version
from benchmarks.peers import ImageSet, measure_peers
from ebsim.units import MIB
from tests.benchmarks.toy_images import write_image
from tests.tidy.test_documents import table_rows
from tests.tools import require_tool

TOOLS = [
    ("ebsim", "python3", "python3"),
    ("borg lz4", "borg", "borgbackup"),
    ("borg zstd 1", "borg", "borgbackup"),
    ("restic", "restic", "restic"),
    ("casync", "casync", "casync"),
    ("qemu-img", "qemu-img", "qemu-utils"),
    ("qemu-img zstd", "qemu-img", "qemu-utils"),
]


def sample(tool: str, step: str, wall_seconds: float) -> Sample:
    return Sample("root", tool, step, wall_seconds, 0.5, 30 * MIB, 7 * MIB)


RUN = PeerRun(
    {"processor": "one"},
    "abc",
    2,
    {"ebsim": "1.0: by default", "borg lz4": "1.2: with lz4"},
    {"root": "A root file system"},
    {"root-1.img": {"size_bytes": 5}},
    [
        sample("ebsim", "first", 1.0),
        sample("ebsim", "first", 2.0),
        sample("borg lz4", "first", 3.0),
    ],
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "program", "package"), TOOLS, ids=[tool[0] for tool in TOOLS])
def test_a_tool_saves_restores_and_gives_space_back(
    name: str, program: str, package: str, tmp_path: Path
) -> None:
    """The benchmark itself compares what was restored with the changed image."""
    require_tool(program, package=package)
    images = ImageSet("toy", "Toys", *(tmp_path / f"{at}.img" for at in range(3)))
    for seed, path in enumerate((images.before, images.after, images.other)):
        write_image(path, seed, tail_bytes=256 * 1024)
    samples, how = measure_peers(images, tmp_path, runs=1, names=[name])
    assert [(found.tool, found.step) for found in samples] == [(name, step) for step in STEPS]
    assert how.keys() == {name}
    stored = {found.step: found.store_bytes for found in samples}
    assert stored["delete"] < stored["restore"]
    assert tool_version(name)[-1].isalnum()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.img", "1.img", "2.img"]


def test_the_tools_tested_are_the_tools_there_are(tmp_path: Path) -> None:
    assert {tool.name for tool in installed_tools(tmp_path)} <= {tool[0] for tool in TOOLS}


def test_a_table_has_medians_and_how_far_ebsim_is_ahead() -> None:
    rows = table_rows(peer_markdown(RUN), "measure", "step")
    assert len(rows) == len(STEPS) * len(MEASURES)
    assert rows[0] == ("wall seconds", "first", "1.50", "3.00", "2.00")
    assert rows[1] == ("wall seconds", "unchanged", "", "", "")


def test_the_tables_of_a_set_say_their_commit() -> None:
    assert "each row at commit abc; processor: one." in peer_markdown(RUN)


def test_a_set_of_images_measured_again_replaces_the_older_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    data = replace(sample("ebsim", "first", 3.0), image_set="data")
    both = {"root": "A root file system", "data": "A database volume"}
    write_peer_run(path, replace(RUN, image_sets=both, samples=[*RUN.samples, data]))
    newer = replace(RUN, commit="def", image_sets={"data": "A database volume"}, samples=[data])
    write_peer_run(path, newer)
    assert read_peer_runs(path) == [RUN, newer]


def test_the_chart_has_a_bar_for_each_tool_step_and_measure_that_was_taken() -> None:
    tree = ElementTree.fromstring(chart(RUN, "root"))
    bars = [each for each in tree.iter() if each.get("class") in {"ours", "theirs"}]
    assert len(bars) == 2 * len(MEASURES)
    ours, theirs = bars[0], bars[1]
    assert float(theirs.get("width", "")) == 2 * float(ours.get("width", ""))
