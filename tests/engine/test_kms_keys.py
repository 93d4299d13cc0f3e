"""Keys' records: in the metadata, in their files, and back from those."""

import shutil
from pathlib import Path

from ebsim.catalog.account_settings import AccountSettings, settings_to_json
from ebsim.engine.check_store import check_store
from ebsim.engine.kms_keys import (
    choose_default_key,
    create_alias,
    create_key,
    default_key,
    list_aliases,
    show_key,
)
from ebsim.engine.rebuild_store import rebuild_store
from ebsim.engine.region import Region
from tests.engine.damaged_stores import ACCOUNT, REGION_NAME, make_store


def test_a_lost_or_damaged_file_of_a_key_is_found_and_written_again(region: Region) -> None:
    first, second = create_key(region, "one"), create_key(region, "two")
    folder = region.path / "settings" / "kms_keys"
    (folder / f"{first.owner_id}{first.key_id}.json").unlink()
    file = folder / f"{second.owner_id}{second.key_id}.json"
    file.write_bytes(file.read_bytes().replace(b'"two"', b'"tow"'))
    assert len(check_store(region).findings) == 2
    assert all(finding.is_mended for finding in check_store(region, repair=True).findings)
    assert check_store(region).findings == []


def test_keys_aliases_and_the_choice_come_back_with_a_rebuild(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with store.open() as region:
        key = create_key(region, "disks")
        create_alias(region, "alias/disks", key.key_id)
        choose_default_key(region, "alias/disks")
        before = show_key(region, "alias/disks"), list_aliases(region)
    shutil.rmtree(store.path / "metadata")
    rebuild_store(store.home, REGION_NAME)
    with store.open() as region:
        assert (show_key(region, key.key_id), list_aliases(region)) == before
        assert default_key(region) == key.key_id


def test_settings_without_a_chosen_key_are_stored_as_they_always_were() -> None:
    assert settings_to_json(AccountSettings(ACCOUNT)).keys() == {
        "account_id",
        "block_public_access",
    }
