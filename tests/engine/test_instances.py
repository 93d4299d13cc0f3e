"""Instances: groups of volumes, and which of them a set of snapshots takes."""

from dataclasses import replace
from pathlib import Path

import pytest

from ebsim.catalog.instance import Instance
from ebsim.engine import kept_records
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.instance_tags import tag_instance, untag_instance
from ebsim.engine.instances import (
    attach_to_instance,
    create_instance,
    delete_instance,
    detach_from_instance,
    list_instances,
    show_instance,
    volumes_of_instance,
)
from ebsim.engine.kept_records import kept_instances
from ebsim.engine.list_volumes import list_volumes, show_volume
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.errors import (
    Conflict,
    InstanceNotFound,
    InvalidRequest,
    VolumeInUse,
)
from tests.engine.stores import KIB, MIB, open_store, take, write_disk


class Cut(Exception):
    """Stands for whatever ends a process in the middle."""


def raise_cut(*_: object) -> None:
    raise Cut


def empty_volume(region: Region) -> str:
    return create_volume(region, VolumeOptions(size_gib=1)).volume_id


def machine(region: Region, *devices: str) -> tuple[str, list[str]]:
    """An instance with a new volume at each of *devices*."""
    instance_id = create_instance(region, "db").instance_id
    volumes = [empty_volume(region) for _ in devices]
    for volume_id, device in zip(volumes, devices, strict=True):
        attach_to_instance(region, volume_id, instance_id, device)
    return instance_id, volumes


def chosen(region: Region, boot: bool = False, data: tuple[str, ...] = ()) -> list[str]:
    found = volumes_of_instance(region, "db", exclude_boot=boot, exclude_data=data)
    return [volume.volume_id for volume in found]


def test_an_instance_is_found_by_its_name_its_id_and_the_beginning_of_that(
    region: Region,
) -> None:
    made = create_instance(region, "db")
    for name in ("db", made.instance_id, made.instance_id[:6]):
        assert show_instance(region, name).instance == made
    assert [one.instance for one in list_instances(region)] == [made]


def test_an_instance_outlives_the_process_that_made_it(region: Region) -> None:
    instance_id, volumes = machine(region, "/dev/sda1", "/dev/sdf")
    again = open_store(region.home)
    found = show_instance(again, instance_id)
    again.close()
    assert [volume.volume_id for volume in found.volumes] == volumes


def test_two_instances_cannot_have_one_name(region: Region) -> None:
    create_instance(region, "db")
    with pytest.raises(Conflict, match="has the name 'db'"):
        create_instance(region, "db")


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 256, "i-0123"])
def test_a_name_that_cannot_be_one_is_refused(region: Region, name: str) -> None:
    with pytest.raises(InvalidRequest, match="No instance was made"):
        create_instance(region, name)
    assert list_instances(region) == []


def test_the_volume_attached_first_is_the_boot_volume(region: Region) -> None:
    _, (boot, first, second) = machine(region, "/dev/sdz", "/dev/sdf", "/dev/sda1")
    assert chosen(region) == [boot, first, second]
    assert chosen(region, boot=True) == [first, second]


def test_data_volumes_can_be_left_out(region: Region) -> None:
    _, (boot, first, second) = machine(region, "/dev/sda1", "/dev/sdf", "/dev/sdg")
    assert chosen(region, data=(first,)) == [boot, second]
    assert chosen(region, boot=True, data=(second,)) == [first]


def test_the_boot_volume_is_not_left_out_as_a_data_volume(region: Region) -> None:
    _, (boot, _) = machine(region, "/dev/sda1", "/dev/sdf")
    with pytest.raises(InvalidRequest, match="not a data volume"):
        chosen(region, data=(boot,))


def test_a_volume_of_no_instance_cannot_be_left_out(region: Region) -> None:
    machine(region, "/dev/sda1")
    with pytest.raises(InvalidRequest, match="not a data volume"):
        chosen(region, data=(empty_volume(region),))


def test_a_set_of_no_volumes_is_refused(region: Region) -> None:
    machine(region)
    with pytest.raises(InvalidRequest, match="has no volumes"):
        chosen(region)


def test_a_set_from_which_all_volumes_are_left_out_is_refused(region: Region) -> None:
    machine(region, "/dev/sda1")
    with pytest.raises(InvalidRequest, match="but those excluded"):
        chosen(region, boot=True)


def test_a_device_is_taken_once(region: Region) -> None:
    instance_id, (volume_id,) = machine(region, "/dev/sdf")
    other = empty_volume(region)
    with pytest.raises(Conflict, match=f"has {volume_id} as /dev/sdf"):
        attach_to_instance(region, other, instance_id, "/dev/sdf")
    assert show_volume(region, other).attachment is None


def test_a_volume_is_attached_once(region: Region) -> None:
    instance_id, (volume_id,) = machine(region, "/dev/sdf")
    create_instance(region, "web")
    for name, device in ((instance_id, "/dev/sdg"), ("web", "/dev/sdf")):
        with pytest.raises(VolumeInUse, match=f"is attached to {instance_id} as /dev/sdf"):
            attach_to_instance(region, volume_id, name, device)


def test_attaching_a_volume_where_it_is_changes_nothing(region: Region) -> None:
    instance_id, (volume_id,) = machine(region, "/dev/sdf")
    before = show_volume(region, volume_id)
    assert attach_to_instance(region, volume_id, instance_id, "/dev/sdf") == before


@pytest.mark.parametrize("device", ["sdf", "/dev/", "/dev/sdf/../x", "/dev/sd", "/dev/sdfgh"])
def test_a_device_that_is_no_disk_is_refused(region: Region, device: str) -> None:
    machine(region)
    with pytest.raises(InvalidRequest, match="not the name of a disk"):
        attach_to_instance(region, empty_volume(region), "db", device)


def test_a_source_cannot_be_attached(region: Region, tmp_path: Path) -> None:
    machine(region)
    take(region, write_disk(tmp_path / "disk", MIB, {0: b"x" * 4 * KIB}))
    (source,) = list_volumes(region)
    with pytest.raises(InvalidRequest, match="is a source that lies at"):
        attach_to_instance(region, source.volume_id, "db", "/dev/sdf")


def test_what_is_not_there_cannot_be_used(region: Region) -> None:
    with pytest.raises(InstanceNotFound, match="'db' does not exist"):
        show_instance(region, "db")
    with pytest.raises(InstanceNotFound):
        attach_to_instance(region, empty_volume(region), "i-0", "/dev/sdf")


def test_an_instance_goes_when_its_volumes_are_detached(region: Region) -> None:
    instance_id, (volume_id,) = machine(region, "/dev/sdf")
    with pytest.raises(Conflict, match=f"has {volume_id} attached"):
        delete_instance(region, "db")
    detach_from_instance(region, volume_id)
    assert delete_instance(region, "db") == instance_id
    assert list_instances(region) == []


def test_detaching_a_volume_that_is_in_no_instance_changes_nothing(region: Region) -> None:
    volume_id = empty_volume(region)
    before = show_volume(region, volume_id)
    assert detach_from_instance(region, volume_id) == before


def test_the_next_volume_boots_once_the_first_is_detached(region: Region) -> None:
    _, (boot, first, second) = machine(region, "/dev/sda1", "/dev/sdf", "/dev/sdg")
    detach_from_instance(region, boot)
    assert chosen(region, boot=True) == [second]
    assert chosen(region) == [first, second]


def test_tags_of_an_instance_are_set_replaced_and_removed(region: Region) -> None:
    made = create_instance(region, "db")
    tag_instance(region, "db", {"a": "1", "b": "2"})
    tag_instance(region, made.instance_id, {"b": "3"})
    assert show_instance(region, "db").instance.tags == {"a": "1", "b": "3"}
    assert untag_instance(region, "db", ["a", "none"]).tags == {"b": "3"}
    with pytest.raises(InvalidRequest):
        tag_instance(region, "db", {"aws:x": "y"})
    with pytest.raises(InstanceNotFound):
        tag_instance(region, "other", {"a": "1"})


def test_the_kept_record_has_the_tags_and_recovery_writes_one_that_a_crash_left_old(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create_instance(region, "db")

    def kept() -> Instance:
        (one,) = kept_instances(region.files, region.path)[0]
        return one

    tagged = tag_instance(region, "db", {"a": "1"})
    assert kept() == tagged
    with monkeypatch.context() as broken:
        broken.setattr("ebsim.engine.instance_tags.write_current_instance", raise_cut)
        with pytest.raises(Cut):
            tag_instance(region, "db", {"a": "2"})
    assert kept() == tagged
    recover(region)
    assert kept() == replace(made, tags={"a": "2"})


def test_an_instance_that_ends_while_it_is_tagged_leaves_no_record(
    region: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create_instance(region, "db")
    keep = kept_records.keep_instance

    def keep_late(region: Region, instance: Instance) -> None:
        delete_instance(region, made.instance_id)
        keep(region, instance)

    monkeypatch.setattr(kept_records, "keep_instance", keep_late)
    tag_instance(region, "db", {"a": "1"})
    assert kept_instances(region.files, region.path) == ([], [])
