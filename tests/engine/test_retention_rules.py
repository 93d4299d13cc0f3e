"""Rules of the recycle bin: what each keeps, what there may be, and their locks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.catalog.retention_rule import (
    RULES_MAX,
    ResourceType,
    RetentionRule,
    RuleLockState,
    rule_from_json,
    rule_to_json,
)
from ebsim.clock import ManualClock
from ebsim.engine.check_store import check_store
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.retention_rules import (
    RuleChange,
    RuleRequest,
    create_rule,
    delete_rule,
    list_rules,
    lock_rule,
    show_rule,
    tag_rule,
    unlock_rule,
    untag_rule,
    update_rule,
)
from ebsim.errors import (
    InvalidRequest,
    QuotaExceeded,
    RuleLocked,
    RuleNotFound,
)
from tests.engine.stores import (
    ACCOUNT,
    OTHER_ACCOUNT,
)

DAY = 86_400
ALL_SNAPSHOTS = RuleRequest(ResourceType.SNAPSHOT, 3)
ALL_VOLUMES = RuleRequest(ResourceType.VOLUME, 3)


def test_a_lost_or_damaged_file_of_a_rule_is_found_and_written_again(region: Region) -> None:
    first, second = create_rule(region, ALL_SNAPSHOTS), create_rule(region, ALL_VOLUMES)
    folder = region.path / "settings" / "retention_rules"
    (folder / f"{ACCOUNT}{first.rule_id}.json").unlink()
    file = folder / f"{ACCOUNT}{second.rule_id}.json"
    file.write_bytes(file.read_bytes().replace(b'"retention_days": 3', b'"retention_days": 2'))
    report = check_store(region)
    assert len(report.findings) == 2
    assert all(finding.is_mended for finding in check_store(region, repair=True).findings)
    assert check_store(region).findings == []


tag_sets = st.sets(st.tuples(st.sampled_from("ab"), st.sampled_from("xy")), max_size=3).map(
    lambda pairs: tuple(sorted(pairs))
)


@given(
    rules=st.lists(st.tuples(st.integers(1, 365), tag_sets, tag_sets), max_size=4),
    tags=st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")),
)
def test_a_rule_keeps_what_its_tags_say_and_survives_its_json(
    rules: list[tuple[int, tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]],
    tags: dict[str, str],
) -> None:
    for days, wanted, excluded in rules:
        rule = RetentionRule(
            "a" * 11, ACCOUNT, ResourceType.SNAPSHOT, days, 5,
            resource_tags=wanted, exclude_tags=() if wanted else excluded,
        )  # fmt: skip
        assert rule_from_json(rule_to_json(rule)) == rule
        has = set(tags.items())
        if wanted:
            assert rule.keeps(tags) == bool(has & set(wanted))
        else:
            assert rule.keeps(tags) == (not has & set(excluded))


def test_a_locked_rule_is_changed_by_nobody_until_its_unlock_delay_is_over(
    region: Region, clock: ManualClock
) -> None:
    rule_id = create_rule(region, ALL_SNAPSHOTS).rule_id

    def refused() -> None:
        for act in (
            lambda: update_rule(region, rule_id, RuleChange(description="x")),
            lambda: delete_rule(region, rule_id),
            lambda: lock_rule(region, rule_id, 7),
        ):
            with pytest.raises(RuleLocked):
                act()

    with pytest.raises(RuleLocked):
        unlock_rule(region, rule_id)
    lock_rule(region, rule_id, 8)
    refused()
    clock.advance(100 * DAY)
    refused()
    unlock_rule(region, rule_id)
    with pytest.raises(RuleLocked):
        unlock_rule(region, rule_id)
    assert tag_rule(region, rule_id, {"a": "b", "c": "d"}).tags == {"a": "b", "c": "d"}
    assert untag_rule(region, rule_id, ["a"]).tags == {"c": "d"}
    clock.advance(8 * DAY - 1)
    refused()
    clock.advance(1)
    assert show_rule(region, rule_id).lock_state_at(clock.now_ns()) is RuleLockState.UNLOCKED
    update_rule(region, rule_id, RuleChange(description="x"))
    lock_rule(region, rule_id, 7)
    refused()


@pytest.mark.parametrize(
    "request_",
    [
        RuleRequest(ResourceType.SNAPSHOT, 0),
        RuleRequest(ResourceType.SNAPSHOT, 366),
        RuleRequest(ResourceType.VOLUME, 8),
        replace(ALL_SNAPSHOTS, resource_tags=[("a", "b")], exclude_tags=[("c", "d")]),
        replace(ALL_SNAPSHOTS, exclude_tags=[(f"{n}", "") for n in range(6)]),
        replace(ALL_SNAPSHOTS, resource_tags=[(f"{n}", "") for n in range(51)]),
        replace(ALL_SNAPSHOTS, unlock_delay_days=6),
        replace(ALL_SNAPSHOTS, unlock_delay_days=31),
        replace(ALL_SNAPSHOTS, unlock_delay_days=7, resource_tags=[("a", "b")]),
        replace(ALL_SNAPSHOTS, description="x" * 256),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(region: Region, request_: RuleRequest) -> None:
    with pytest.raises(InvalidRequest, match="Nothing was changed"):
        create_rule(region, request_)
    assert not list_rules(region)


def test_an_account_has_250_rules_and_no_more(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried with fewer: each is a transaction."""
    assert RULES_MAX == 250
    monkeypatch.setattr("ebsim.engine.retention_rules.RULES_MAX", 3)
    for _ in range(3):
        create_rule(region, ALL_SNAPSHOTS)
    with pytest.raises(QuotaExceeded):
        create_rule(region, ALL_SNAPSHOTS)
    recover(region)
    create_rule(replace(region, account_id=OTHER_ACCOUNT), ALL_SNAPSHOTS)
    assert len(list_rules(region, ResourceType.SNAPSHOT)) == 3
    assert not list_rules(region, ResourceType.VOLUME)


def test_another_account_s_rule_is_as_if_it_were_not_there(region: Region) -> None:
    rule_id = create_rule(region, ALL_SNAPSHOTS).rule_id
    other = replace(region, account_id=OTHER_ACCOUNT)
    assert not list_rules(other)
    for name in (rule_id, "x" * 11, "../" + rule_id, ""):
        with pytest.raises(RuleNotFound):
            delete_rule(other, name)
    assert show_rule(region, rule_id).rule_id == rule_id
