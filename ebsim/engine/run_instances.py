"""Running and terminating instances, as far as volumes need them: nothing runs.

Running makes the volumes first; one transaction then makes the instance and attaches them.
Terminating marks the instance and detaches its volumes in one transaction; then whoever
serves them lets go, and those that go with it are removed.  A crash between leaves volumes
that are available.

A terminated instance is shown for an hour, and then forgotten by the next that is run or
terminated.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ebsim.catalog.client_tokens import TokenUse, find_answer, note_answer
from ebsim.catalog.instance import Instance
from ebsim.catalog.records import (
    get_instance,
    get_volume,
    put_instance,
    put_volume,
    remove_instance,
    scan_instances,
    volumes_attached_to,
)
from ebsim.catalog.volume import Attachment, Volume
from ebsim.engine.create_volume import VolumeOptions, create_volume
from ebsim.engine.instances import InstanceVolumes
from ebsim.engine.kept_records import forget_instance, keep_instance, write_current_record
from ebsim.engine.open_volume import volume_folder
from ebsim.engine.record_events import volume_attached, volume_detached
from ebsim.engine.recovery import recover
from ebsim.engine.region import Region
from ebsim.engine.remove_volume import remove_volume
from ebsim.engine.served_volume import let_go
from ebsim.engine.tags import check_tags
from ebsim.errors import Conflict, EbsimError, InvalidRequest, VolumeNotFound
from ebsim.ids import InstanceId, new_instance_id
from ebsim.metadata.transactions import Reader, Transaction

SHOWN_AFTER_NS = 60 * 60 * 10**9


class Disk(NamedTuple):
    """A volume to be made, and where the instance is to have it."""

    device: str
    options: VolumeOptions


@dataclass(frozen=True, slots=True)
class InstanceOptions:
    """What a new instance is to be, and its disks, the boot volume first."""

    disks: Sequence[Disk] = ()
    zone: str = ""
    image_id: str = ""
    instance_type: str = ""
    tags: dict[str, str] | None = None


def run_instances(
    region: Region,
    options: InstanceOptions,
    *,
    count: int = 1,
    token_use: TokenUse | None = None,
) -> list[InstanceVolumes]:
    """Make instances with volumes of their own; with the same client token only once.

    Raises:
        InvalidRequest: two disks are to be at one place, or a tag or size makes no sense.
        SnapshotNotFound, Conflict: a disk's snapshot cannot be used.
        ClientTokenReused: the client token came with another request before.
        As :func:`create_volume`; volumes that were made by then are removed.
    """
    check_tags(options.tags or {})
    devices = [disk.device for disk in options.disks]
    if len(set(devices)) < len(devices):
        raise InvalidRequest("two disks are to be at the same device. No instance was made.")
    before = region.metadata.read(lambda reader: _run_before(reader, token_use))
    if before is not None:
        return [one for one in described_instances(region) if one.instance.instance_id in before]
    recover(region)
    running = [_Running(_new_instance(region, options), devices) for _ in range(count)]
    try:
        for one in running:
            one.volumes.extend(create_volume(region, disk.options) for disk in options.disks)
        return _put_in_place(region, running, token_use)
    except BaseException:
        for one in running:
            for volume in one.volumes:
                # What failed first is what is told.
                with suppress(EbsimError):
                    remove_volume(region, volume.volume_id)
        raise


@dataclass(slots=True)
class _Running:
    """An instance being made, and the volumes made for it so far."""

    instance: Instance
    devices: Sequence[str]
    volumes: list[Volume] = field(default_factory=list)


def _new_instance(region: Region, options: InstanceOptions) -> Instance:
    instance_id = new_instance_id(region.random)
    return Instance(
        instance_id,
        region.account_id,
        instance_id,
        region.clock.now_ns(),
        zone=options.zone,
        image_id=options.image_id,
        instance_type=options.instance_type,
        tags=options.tags or {},
    )


def _run_before(reader: Reader, use: TokenUse | None) -> list[str] | None:
    """The instances that the request made when it came first."""
    answer = find_answer(reader, use) if use is not None else None
    return None if answer is None else list(answer["instance_ids"])


def _put_in_place(
    region: Region, running: Sequence[_Running], use: TokenUse | None
) -> list[InstanceVolumes]:
    """Make the instances and attach their volumes, all at once."""

    def put(txn: Transaction) -> list[InstanceVolumes]:
        if _run_before(txn, use) is not None:
            raise Conflict("the same request is being carried out. Send it again.")
        if use is not None:
            ids = [one.instance.instance_id for one in running]
            note_answer(txn, use, {"instance_ids": ids}, region.clock.now_ns())
        return [InstanceVolumes(one.instance, _attached(txn, region, one)) for one in running]

    with region.session():
        made = region.metadata.run(put)
        for one in made:
            keep_instance(region, one.instance)
            for volume in one.volumes:
                write_current_record(region, volume.volume_id)
    _forget_old(region)
    return made


def _attached(txn: Transaction, region: Region, one: _Running) -> list[Volume]:
    put_instance(txn, one.instance)
    attached = []
    for place, (volume, device) in enumerate(zip(one.volumes, one.devices, strict=True)):
        current = get_volume(txn, region.account_id, volume.volume_id)
        # Their order says which boots.
        at_ns = one.instance.create_time_ns + place
        held = Attachment(one.instance.instance_id, device, at_ns)
        changed = replace(current, attachment=held)
        put_volume(txn, changed)
        volume_attached(txn, region, changed)
        attached.append(changed)
    return attached


def terminate_instance(region: Region, name: str) -> Instance:
    """End an instance; volumes that go with it are removed, the others are available then.

    Harmless where it is terminated already.

    Raises:
        InstanceNotFound: there is none.
        Conflict: it is terminated, and one of its volumes is still served, or could not be
            removed; all others are done with.
    """
    recover(region)

    def terminate(txn: Transaction) -> tuple[Instance, list[Volume]]:
        gone = terminated_instance(txn, region, name)
        if gone is not None:
            return gone, []
        instance = get_instance(txn, region.account_id, name)
        volumes = volumes_attached_to(txn, instance)
        for volume in volumes:
            settings = replace(volume.settings, delete_on_termination=False)
            left = replace(volume, attachment=None, settings=settings)
            put_volume(txn, left)
            volume_detached(txn, region, left)
        ended = replace(instance, terminate_time_ns=region.clock.now_ns())
        put_instance(txn, ended)
        return ended, volumes

    with region.session():
        ended, volumes = region.metadata.run(terminate)
        forget_instance(region, ended.instance_id)
        for volume in volumes:
            write_current_record(region, volume.volume_id)
    _part_with(region, volumes)
    _forget_old(region)
    return ended


def _part_with(region: Region, volumes: Sequence[Volume]) -> None:
    """Let whoever serves the volumes end, and remove those that go with their instance."""
    failures: list[EbsimError] = []
    for volume in volumes:
        try:
            let_go(volume_folder(region, volume.volume_id))
            if volume.settings.delete_on_termination:
                with suppress(VolumeNotFound):
                    remove_volume(region, volume.volume_id)
        except EbsimError as error:
            # One that is held fast is no reason to keep the others.
            failures.append(error)
    if failures:
        raise failures[0]


def terminated_instance(reader: Reader, region: Region, name: str) -> Instance | None:
    """The account's terminated instance of that id, while it is shown."""
    for one in shown_instances(reader, region):
        if one.instance_id == name and one.terminate_time_ns is not None:
            return one
    return None


def shown_instances(reader: Reader, region: Region) -> list[Instance]:
    """The account's instances by id, and those terminated within the last hour."""
    return [
        one
        for one in scan_instances(reader, region.account_id, terminated=True)
        if not _is_over(region, one)
    ]


def described_instances(region: Region) -> list[InstanceVolumes]:
    """What :func:`shown_instances` shows, each with its volumes."""

    def look(reader: Reader) -> list[InstanceVolumes]:
        return [
            InstanceVolumes(one, volumes_attached_to(reader, one))
            for one in shown_instances(reader, region)
        ]

    return region.metadata.read(look)


def _is_over(region: Region, one: Instance) -> bool:
    ended_ns = one.terminate_time_ns
    return ended_ns is not None and ended_ns + SHOWN_AFTER_NS < region.clock.now_ns()


def _forget_old(region: Region) -> None:
    """Remove the rows of instances that are shown no more."""

    def old(reader: Reader) -> list[InstanceId]:
        found = scan_instances(reader, region.account_id, terminated=True)
        return [one.instance_id for one in found if _is_over(region, one)]

    def forget(txn: Transaction) -> None:
        for instance_id in old(txn):
            remove_instance(txn, instance_id)

    if region.metadata.read(old):
        region.metadata.run(forget)
