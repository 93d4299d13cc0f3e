"""Snapshots that cannot be named so, and other words that make no sense."""

from collections import Counter

import pytest

from ebsim.cli.exit_codes import ExitCode
from tests.cli.conftest import Store
from tests.cli.processes import run_ebsim
from tests.cli.refusals import assert_refused, listed_ids, unchanged

UNKNOWN = "snap-00000000000000000"

COMMANDS = {
    "show": ("snapshot", "show", "SNAP"),
    "diff": ("snapshot", "diff", "SNAP", "SNAP"),
    "tag": ("snapshot", "tag", "SNAP", "a=b"),
    "untag": ("snapshot", "untag", "SNAP", "a"),
    "rm": ("snapshot", "rm", "SNAP"),
    "rm --dry-run": ("snapshot", "rm", "SNAP", "--dry-run"),
    "verify": ("snapshot", "verify", "SNAP"),
    "restore": ("restore", "SNAP", "TARGET"),
    "restore -": ("restore", "SNAP", "-"),
    "export": ("export", "SNAP", "TARGET", "--format", "qcow2"),
}
"""Every command that takes a snapshot's name."""


def about(name: str, words: tuple[str, ...], store: Store) -> list[str]:
    return [{"SNAP": name, "TARGET": str(store.work / "target")}.get(word, word) for word in words]


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(
    ("name", "code", "part"),
    [
        (UNKNOWN, ExitCode.NOT_FOUND, "Run 'ebsim snapshot ls'"),
        ("disk.img", ExitCode.INVALID_REQUEST, "Expected: 'snap-...'"),
        ("snap-", ExitCode.INVALID_REQUEST, "Expected: 'snap-...'"),
    ],
)
def test_a_snapshot_that_is_unknown_or_malformed_is_refused(
    name: str, code: ExitCode, part: str, words: tuple[str, ...], store: Store
) -> None:
    with unchanged(store.home, store.work):
        done = run_ebsim(*about(name, words, store), home=store.home)
    assert_refused(done, code, name, part)


def test_a_snapshot_that_is_ambiguous_is_refused_by_every_command(store: Store) -> None:
    """Of 17 snapshots two ids begin with one digit."""
    run_ebsim("snapshot", "create", *[str(store.image)] * 16, home=store.home)
    firsts = Counter(snapshot_id[:6] for snapshot_id in listed_ids(store.home))
    prefix = firsts.most_common(1)[0][0]
    for words in COMMANDS.values():
        with unchanged(store.home, store.work):
            done = run_ebsim(*about(prefix, words, store), home=store.home)
        assert_refused(done, ExitCode.INVALID_REQUEST, f"'{prefix}'", "Give more of the id")


def test_a_prefix_that_no_other_has_names_a_snapshot(store: Store) -> None:
    done = run_ebsim("snapshot", "show", store.snapshot_id[:7], home=store.home)
    assert store.snapshot_id in done.stdout


def test_another_account_s_snapshot_is_unknown(store: Store) -> None:
    with unchanged(store.home):
        done = run_ebsim(
            "--account", "999999999999", "snapshot", "rm", store.snapshot_id, home=store.home
        )
    assert_refused(done, ExitCode.NOT_FOUND, store.snapshot_id)


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("snapshot", "tag", "SNAP", "untagged"), ExitCode.USAGE, "KEY=VALUE"),
        (("snapshot", "tag", "SNAP", "=x"), ExitCode.USAGE, "KEY=VALUE"),
        (("snapshot", "tag", "SNAP", "a=\udcff"), ExitCode.INVALID_REQUEST, "not text"),
        (("snapshot", "tag", "SNAP", "aws:a=b"), ExitCode.INVALID_REQUEST, "reserved"),
        (("snapshot", "tag", "SNAP", "k" * 128 + "=v"), ExitCode.INVALID_REQUEST, "127"),
        (("snapshot", "tag", "SNAP", "k=" + "v" * 256), ExitCode.INVALID_REQUEST, "255"),
        (
            ("snapshot", "tag", "SNAP", *[f"k{n}=v" for n in range(51)]),
            ExitCode.INVALID_REQUEST,
            "more than 50",
        ),
        (("snapshot", "ls", "--filter", "Name=state"), ExitCode.USAGE, "Values="),
        (
            ("snapshot", "ls", "--filter", "Name=colour,Values=red"),
            ExitCode.INVALID_REQUEST,
            "colour",
        ),
        (("snapshot", "ls", "--max-results", "0"), ExitCode.INVALID_REQUEST, "1 to 1000"),
        (("snapshot", "ls", "--max-results", "1001"), ExitCode.INVALID_REQUEST, "1 to 1000"),
        (("snapshot", "ls", "--next-token", "?"), ExitCode.INVALID_REQUEST, "token"),
        (("snapshot", "create", "IMAGE", "--block-size", "big"), ExitCode.USAGE, "512K"),
        (("snapshot", "create", "IMAGE", "--block-size", "-1"), ExitCode.USAGE, "512K"),
        (("store", "check", "--read-data", "--sample", "0%"), ExitCode.USAGE, "0%"),
        (("--region", "Not A Name", "snapshot", "ls"), ExitCode.INVALID_REQUEST, "Not A Name"),
        (("--region", "../x", "store", "rebuild"), ExitCode.INVALID_REQUEST, "../x"),
        (("export", "SNAP", "WORK/x", "--format", "iso"), ExitCode.USAGE, "iso"),
        (("export", "SNAP", "-", "--format", "raw"), ExitCode.USAGE, "pipe"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    arguments: tuple[str, ...], code: ExitCode, part: str, store: Store
) -> None:
    given = [
        argument.replace("SNAP", store.snapshot_id)
        .replace("IMAGE", str(store.image))
        .replace("WORK", str(store.work))
        for argument in arguments
    ]
    with unchanged(store.home, store.work):
        done = run_ebsim(*given, home=store.home)
    assert_refused(done, code, part)


def test_pages_join_to_the_whole_listing_and_their_tokens_fit_no_other(store: Store) -> None:
    run_ebsim("snapshot", "create", *[str(store.image)] * 4, home=store.home)
    pages: list[list[str]] = []
    token: list[str] = []
    while not pages or token:
        done = run_ebsim("snapshot", "ls", "--max-results", "2", *token, home=store.home)
        pages.append([line.split()[0] for line in done.stdout.splitlines()[1:]])
        token = done.stderr.split()[-2:]
        if len(pages) == 1:
            refused = run_ebsim(
                "snapshot", "ls", "--volume", store.volume_id, *token, home=store.home
            )
            assert_refused(refused, ExitCode.INVALID_REQUEST, "this listing")
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [snapshot_id for page in pages for snapshot_id in page] == listed_ids(store.home)
