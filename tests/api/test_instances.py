"""Instances, and volumes attached to them, through boto3."""

from typing import Any

from ebsim.engine.open_volume import open_volume
from ebsim.engine.region import Region
from ebsim.ids import VolumeId
from tests.api.refusals import code
from tests.api.volume_calls import MakeVolume, disk, run, shown


def test_a_volume_is_attached_and_detached(ec2: Any, make: MakeVolume) -> None:
    instance_id, volume_id = run(ec2)["InstanceId"], make()
    place = {"VolumeId": volume_id, "InstanceId": instance_id}

    assert ec2.attach_volume(**place, Device="/dev/sdf")["State"] == "attaching"
    ec2.get_waiter("volume_in_use").wait(VolumeIds=[volume_id])
    (held,) = shown(ec2, volume_id)["Attachments"]
    assert (held["InstanceId"], held["Device"], held["State"]) == (
        instance_id,
        "/dev/sdf",
        "attached",
    )
    assert code(ec2.attach_volume, **place, Device="/dev/sdg") == "VolumeInUse"
    assert code(ec2.delete_volume, VolumeId=volume_id) == "VolumeInUse"
    by_instance = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
    assert len(ec2.describe_volumes(Filters=by_instance)["Volumes"]) == 1

    elsewhere = code(ec2.detach_volume, VolumeId=volume_id, Device="/dev/sdz")
    assert elsewhere == "InvalidAttachment.NotFound"
    assert ec2.detach_volume(**place, Force=False)["State"] == "detaching"
    assert shown(ec2, volume_id)["State"] == "available"
    ec2.attach_volume(**place, Device="/dev/sdf")
    assert ec2.detach_volume(**place, Force=True)["State"] == "detaching"
    assert shown(ec2, volume_id)["State"] == "available"
    assert code(ec2.detach_volume, VolumeId=volume_id) == "IncorrectState"


def test_a_volume_of_another_zone_is_not_attached(ec2: Any, make: MakeVolume) -> None:
    instance_id = run(ec2, Placement={"AvailabilityZone": "us-east-1b"})["InstanceId"]
    place = {"VolumeId": make(), "InstanceId": instance_id, "Device": "/dev/sdf"}
    assert code(ec2.attach_volume, **place) == "InvalidVolume.ZoneMismatch"
    place["Device"] = "C:"
    place["VolumeId"] = make(AvailabilityZone="us-east-1b")
    assert code(ec2.attach_volume, **place) == "InvalidParameterValue"
    place["InstanceId"] = f"i-{0:017x}"
    assert code(ec2.attach_volume, **place) == "InvalidInstanceID.NotFound"


def test_an_instance_takes_the_volumes_along_that_are_to_go_with_it(ec2: Any) -> None:
    made = run(
        ec2,
        BlockDeviceMappings=[
            disk("/dev/sda1"),
            disk("/dev/sdf", DeleteOnTermination=False, VolumeType="gp3"),
        ],
        TagSpecifications=[
            {"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "db"}]},
            {"ResourceType": "volume", "Tags": [{"Key": "of", "Value": "db"}]},
        ],
    )
    assert made["State"]["Name"] == "pending"
    ids = [one["Ebs"]["VolumeId"] for one in made["BlockDeviceMappings"]]
    (reservation,) = ec2.describe_instances(InstanceIds=[made["InstanceId"]])["Reservations"]
    assert reservation["Instances"][0]["State"]["Name"] == "running"
    assert reservation["Instances"][0]["Tags"] == [{"Key": "Name", "Value": "db"}]
    assert shown(ec2, ids[1])["Tags"] == [{"Key": "of", "Value": "db"}]

    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[made["InstanceId"]])
    assert [one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]] == [ids[1]]
    assert shown(ec2, ids[1])["State"] == "available"


def test_an_instance_is_tagged_and_found_by_its_tags(ec2: Any) -> None:
    first, second = run(ec2)["InstanceId"], run(ec2)["InstanceId"]
    tags = [{"Key": "env", "Value": "test"}, {"Key": "team", "Value": "a"}]
    ec2.create_tags(Resources=[first, second], Tags=tags)
    ec2.delete_tags(Resources=[second], Tags=[{"Key": "env"}])

    found = ec2.describe_instances(Filters=[{"Name": "tag:env", "Values": ["test"]}])
    assert [one["Instances"][0]["InstanceId"] for one in found["Reservations"]] == [first]
    rows = ec2.describe_tags(Filters=[{"Name": "resource-type", "Values": ["instance"]}])["Tags"]
    assert sorted((row["ResourceId"], row["Key"]) for row in rows) == sorted(
        [(first, "env"), (first, "team"), (second, "team")]
    )
    missing = f"i-{0:017x}"
    assert code(ec2.create_tags, Resources=[missing], Tags=tags) == "InvalidInstanceID.NotFound"


def test_which_volumes_go_with_an_instance_can_be_changed(ec2: Any) -> None:
    made = run(ec2, BlockDeviceMappings=[disk("/dev/sda1")])
    kept = [{"DeviceName": "/dev/sda1", "Ebs": {"DeleteOnTermination": False}}]
    ec2.modify_instance_attribute(InstanceId=made["InstanceId"], BlockDeviceMappings=kept)
    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    assert len(ec2.describe_volumes()["Volumes"]) == 1


def test_the_same_client_token_runs_one_instance(ec2: Any) -> None:
    asked = {"ClientToken": "t", "BlockDeviceMappings": [disk("/dev/sda1")]}
    assert run(ec2, **asked)["InstanceId"] == run(ec2, **asked)["InstanceId"]
    assert len(ec2.describe_volumes()["Volumes"]) == 1


def test_a_run_that_fails_leaves_no_volumes(ec2: Any) -> None:
    disks = [disk("/dev/sda1"), disk("/dev/sdf", SnapshotId=f"snap-{0:017x}")]
    asked = {"ImageId": "a", "MinCount": 1, "MaxCount": 1, "BlockDeviceMappings": disks}
    assert code(ec2.run_instances, **asked) == "InvalidSnapshot.NotFound"
    assert ec2.describe_volumes()["Volumes"] == []


def test_the_volumes_of_an_instance_are_snapshotted_together(ec2: Any, region: Region) -> None:
    devices = ["/dev/sda1", "/dev/sdf", "/dev/sdg"]
    made = run(ec2, BlockDeviceMappings=[disk(one) for one in devices])
    ids = [one["Ebs"]["VolumeId"] for one in made["BlockDeviceMappings"]]
    ec2.create_tags(Resources=ids, Tags=[{"Key": "k", "Value": "of the volume"}])
    with open_volume(region, VolumeId(ids[1]), "test", hydrates=False) as opened:
        opened.device.write_at(0, b"x" * 512)

    taken = ec2.create_snapshots(
        InstanceSpecification={
            "InstanceId": made["InstanceId"],
            "ExcludeBootVolume": True,
            "ExcludeDataVolumeIds": [ids[2]],
        },
        Description="a set",
        CopyTagsFromSource="volume",
    )["Snapshots"]

    assert [(one["VolumeId"], one["State"]) for one in taken] == [(ids[1], "pending")]
    assert taken[0]["Tags"] == [{"Key": "k", "Value": "of the volume"}]
    waiter = ec2.get_waiter("snapshot_completed")
    waiter.wait(SnapshotIds=[one["SnapshotId"] for one in taken], WaiterConfig={"Delay": 1})
    nobody = {"InstanceId": f"i-{0:017x}"}
    assert code(ec2.create_snapshots, InstanceSpecification=nobody) == "InvalidInstanceID.NotFound"
