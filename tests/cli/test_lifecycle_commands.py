"""``ebsim lifecycle``: what it makes of options, and what it prints."""

import json
from typing import Any

import pytest

from ebsim.cli.main import main
from tests.cli.conftest import Store


class Shell:
    """Runs commands on a store in this process, and gives what they print."""

    def __init__(self, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self._capsys = capsys
        self.error = ""

    def run(self, *arguments: str, code: int = 0) -> str:
        assert main(["--home", str(self.store.home), *arguments]) == code
        printed = self._capsys.readouterr()
        self.error = printed.err
        return printed.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run("--output", "json", *arguments))


@pytest.fixture
def shell(store: Store, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(store, capsys)


def test_options_become_policy_details(shell: Shell) -> None:
    policy_id = shell.run(
        *("lifecycle", "create", "--target-tag", "backup=yes", "--every", "12", "--at", "03:30"),
        *("--keep-for", "6m", "--tag", "by=dlm", "--copy-tags", "--copy-to", "eu-west-1=1y"),
        *("--share-with", "999999999999=30d", "--name", "twice", "--description", "My disks"),
    ).strip()
    policy = shell.json("lifecycle", "show", policy_id)["Policy"]
    assert (policy["State"], policy["Description"]) == ("ENABLED", "My disks")
    assert policy["PolicyDetails"] == {
        "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
        "ResourceTypes": ["VOLUME"],
        "TargetTags": [{"Key": "backup", "Value": "yes"}],
        "Schedules": [
            {
                "Name": "twice",
                "CreateRule": {"Interval": 12, "IntervalUnit": "HOURS", "Times": ["03:30"]},
                "RetainRule": {"Interval": 6, "IntervalUnit": "MONTHS"},
                "CopyTags": True,
                "TagsToAdd": [{"Key": "by", "Value": "dlm"}],
                "CrossRegionCopyRules": [
                    {
                        "TargetRegion": "eu-west-1",
                        "Encrypted": False,
                        "CopyTags": True,
                        "RetainRule": {"Interval": 1, "IntervalUnit": "YEARS"},
                    }
                ],
                "ShareRules": [
                    {
                        "TargetAccounts": ["999999999999"],
                        "UnshareInterval": 30,
                        "UnshareIntervalUnit": "DAYS",
                    }
                ],
            }
        ],
    }


def test_a_policy_is_listed_disabled_enabled_and_removed(shell: Shell) -> None:
    created = ("lifecycle", "create", "--target-tag", "a=b", "--keep", "3")
    policy_id = shell.run(*created, "--cron", "cron(0 3 * * ? *)", "--disabled").strip()
    header, row = shell.run("lifecycle", "ls").splitlines()
    assert header.split()[:3] == ["policy", "state", "of"]
    assert row.split() == [policy_id, "DISABLED", "VOLUME", "-", "a=b", "schedule", "-"]
    assert shell.run("lifecycle", "enable", policy_id[:12]).strip() == policy_id
    assert "T03:00:00Z" in shell.run("lifecycle", "ls")
    assert shell.run("lifecycle", "disable", policy_id).strip() == policy_id
    assert shell.run("lifecycle", "rm", policy_id).strip() == policy_id
    assert shell.json("lifecycle", "ls") == {"Policies": []}
    shell.run("lifecycle", "show", policy_id, code=3)


def test_running_when_nothing_is_due_does_nothing(shell: Shell) -> None:
    tagged = shell.run("volume", "tag", shell.store.volume_id, "backup=yes").strip()
    assert tagged == shell.store.volume_id
    shell.run("lifecycle", "create", "--target-tag", "backup=yes", "--keep", "3")
    assert shell.run("lifecycle", "run", "--now") == ""
    (run,) = shell.json("lifecycle", "run", "--now")["Runs"]
    assert (run["Created"], run["Failures"]) == ([], [])
    shell.run("volume", "untag", shell.store.volume_id, "backup")


def test_a_file_is_what_the_aws_command_line_takes(shell: Shell) -> None:
    path = shell.store.work / "policy.json"
    details = {
        "ResourceTypes": ["VOLUME"],
        "TargetTags": [{"Key": "a", "Value": "b"}],
        "Schedules": [
            {
                "Name": "s",
                "CreateRule": {"Interval": 24, "IntervalUnit": "HOURS"},
                "RetainRule": {"Count": 1},
            }
        ],
    }
    path.write_text(json.dumps(details))
    policy_id = shell.run("lifecycle", "create", str(path)).strip()
    assert shell.json("lifecycle", "show", policy_id)["Policy"]["PolicyDetails"] == details
    details["Schedules"][0]["DeprecateRule"] = {"Count": 1}  # type: ignore[index, assignment]
    path.write_text(json.dumps(details))
    shell.run("lifecycle", "create", str(path), code=5)
    assert "The parameter Schedules[0].DeprecateRule is not supported" in shell.error


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--target-tag", "a=b"], "--keep or --keep-for"),
        (["--target-tag", "a=b", "--keep", "1", "--keep-for", "1d"], "--keep or --keep-for"),
        (["--keep", "1"], "TargetTags has at least one tag"),
        (["--target-tag", "a=b", "--keep", "0"], "Count is from 1"),
        (["--target-tag", "a=b", "--keep", "1", "--every", "5"], "1, 2, 3, 4, 6, 8, 12, 24"),
        (["--target-tag", "a=b", "--keep", "1", "--at", "25:00"], "such as 09:00"),
        (["--target-tag", "a=b", "--keep", "1", "--cron", "cron(x)"], "not a cron expression"),
        (["--target-tag", "a=b", "--keep-for", "6q"], "is not an age"),
        (["--target-tag", "a=b", "--keep", "1", "--share-with", "me"], "12 digits"),
        (["--target-tag", "a=b", "--keep", "1", "--exclude-boot-volume"], "ExcludeBootVolume"),
    ],
)
def test_what_is_no_policy_is_refused(shell: Shell, arguments: list[str], why: str) -> None:
    code = 2 if "--keep or" in why or "an age" in why else 5
    assert shell.run("lifecycle", "create", *arguments, code=code) == ""
    assert why in shell.error
