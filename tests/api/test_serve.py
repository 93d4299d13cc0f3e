"""``ebsim serve`` as a process, and boto3 as its client."""

import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from botocore.exceptions import BotoCoreError, ClientError, SSLError

from ebsim.cli.exit_codes import ExitCode
from tests.api.clients import Credentials, code_of, make_client
from tests.api.conftest import Serving
from tests.api.direct_clients import BLOCK_SIZE, complete, download, put, wait_for
from tests.cli.processes import run_ebsim
from tests.tools import require_tool, run

Serve = Callable[..., Serving]

pytestmark = pytest.mark.slow


def test_boto3_takes_finds_and_deletes_a_snapshot_of_a_disk_by_what_env_prints(
    serve: Serve, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(Random(1).randbytes(1 << 20))
    server = serve()
    first = run_ebsim("snapshot", "create", str(image), home=server.home).stdout.strip()
    ec2 = server.client("ec2")

    volume_id = ec2.describe_snapshots(SnapshotIds=[first])["Snapshots"][0]["VolumeId"]
    made = ec2.create_snapshot(
        VolumeId=volume_id,
        Description="by boto3",
        TagSpecifications=[
            {"ResourceType": "snapshot", "Tags": [{"Key": "env", "Value": "tést <&>"}]}
        ],
    )
    ec2.get_waiter("snapshot_completed").wait(
        SnapshotIds=[made["SnapshotId"]], WaiterConfig={"Delay": 1}
    )

    found = ec2.describe_snapshots(Filters=[{"Name": "tag:env", "Values": ["tést*"]}])
    assert [one["SnapshotId"] for one in found["Snapshots"]] == [made["SnapshotId"]]
    restored = tmp_path / "restored.img"
    run_ebsim("restore", made["SnapshotId"], str(restored), home=server.home)
    assert restored.read_bytes() == image.read_bytes()
    ec2.delete_snapshot(SnapshotId=made["SnapshotId"])
    left = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert [one["SnapshotId"] for one in left] == [first]


def test_a_second_server_of_a_home_is_told_who_serves_it(serve: Serve) -> None:
    server = serve()

    second = run_ebsim("serve", "--listen", "127.0.0.1:0", home=server.home)

    assert second.returncode == ExitCode.CONFLICT
    assert f"process {server.process.pid} at {server.url}" in second.stderr


def test_a_server_that_was_ended_lets_the_next_one_serve(serve: Serve) -> None:
    assert serve().stop() == (0, "")
    assert serve().url.startswith("http://127.0.0.1:")


def test_health_and_metrics_are_for_everybody(serve: Serve) -> None:
    server = serve()
    server.client("sts").get_caller_identity()

    with urllib.request.urlopen(f"{server.url}/healthz") as health:
        assert health.read() == b"ok\n"
    with urllib.request.urlopen(f"{server.url}/metrics") as metrics:
        text = metrics.read().decode()
    counted = 'ebsim_answers_total{service="sts",action="GetCallerIdentity",status="200"} 1'
    assert counted in text.splitlines()


def test_a_presigned_address_is_enough_to_ask(serve: Serve) -> None:
    server = serve()
    ec2 = server.client("ec2")
    url = ec2.generate_presigned_url("describe_regions", HttpMethod="GET")

    with urllib.request.urlopen(url) as answer:
        assert b"<regionName>eu-west-1</regionName>" in answer.read()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace("DescribeRegions", "DescribeSnapshots"))
    assert refused.value.code == 401
    refused.value.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of this machine's that stands for itself, and its key."""
    made, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    run(
        *(require_tool("openssl", package="openssl"), "req", "-x509", "-nodes", "-days", "2"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-keyout", key, "-out", made, "-subj", "/CN=ebsim"),
        *("-addext", "subjectAltName=IP:127.0.0.1"),
    )
    return made, key


def test_boto3_talks_to_a_server_whose_certificate_it_can_verify(
    serve: Serve, certificate: tuple[Path, Path]
) -> None:
    made, key = certificate
    server = serve("--tls-cert", str(made), "--tls-key", str(key))
    assert server.url.startswith("https://127.0.0.1:")
    found = server.variables()
    assert found["AWS_ENDPOINT_URL"] == server.url
    credentials = Credentials(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])

    ebs = make_client("ebs", credentials, url=server.url, authorities=made)
    snapshot_id = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    block = Random(5).randbytes(BLOCK_SIZE)
    put(ebs, snapshot_id, 3, block)
    complete(ebs, snapshot_id, {3: block})
    wait_for(make_client("ec2", credentials, url=server.url, authorities=made), snapshot_id)
    assert download(ebs, snapshot_id) == {3: block}

    with pytest.raises(SSLError):
        make_client("sts", credentials, url=server.url).get_caller_identity()
    plain = make_client("sts", credentials, url=server.url.replace("https:", "http:"))
    with pytest.raises(BotoCoreError):
        plain.get_caller_identity()
    assert ebs.list_snapshot_blocks(SnapshotId=snapshot_id)["Blocks"]


def test_a_certificate_without_its_key_is_refused(
    home: Path, certificate: tuple[Path, Path]
) -> None:
    made, _ = certificate
    alone = run_ebsim("serve", "--tls-cert", str(made), home=home)
    assert (alone.returncode, alone.stdout) == (ExitCode.USAGE, "")
    assert "--tls-cert and --tls-key go together" in alone.stderr
    wrong = run_ebsim(
        *("serve", "--listen", "127.0.0.1:0", "--tls-cert", str(made), "--tls-key", str(made)),
        home=home,
    )
    assert (wrong.returncode, wrong.stdout) == (ExitCode.INVALID_REQUEST, "")
    assert "the certificate or its key cannot be used" in wrong.stderr


def test_without_verification_a_key_of_twelve_digits_is_that_account(serve: Serve) -> None:
    server = serve("--auth", "none")
    sts = make_client("sts", Credentials("999999999999", "any"), url=server.url)

    assert sts.get_caller_identity()["Account"] == "999999999999"


def test_verification_is_the_default(serve: Serve) -> None:
    server = serve()
    sts = make_client("sts", Credentials("999999999999", "any"), url=server.url)

    with pytest.raises(ClientError) as refused:
        sts.get_caller_identity()
    assert code_of(refused.value) == "InvalidClientTokenId"


def test_without_verification_nobody_listens_for_other_machines(home: Path) -> None:
    done = run_ebsim("serve", "--auth", "none", "--listen", "0.0.0.0:0", home=home)

    assert done.returncode == ExitCode.USAGE
    assert "--i-understand" in done.stderr
    assert not home.exists()


def test_env_makes_one_key_and_keeps_its_secret_from_others(home: Path) -> None:
    first = run_ebsim("env", home=home)
    again = run_ebsim("env", home=home)

    assert first.stdout == again.stdout
    assert "AWS_ENDPOINT_URL=http://127.0.0.1:4580" in first.stdout
    (secret,) = (home / "access" / "keys").iterdir()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "access").stat().st_mode) == 0o700


def test_a_key_that_was_removed_opens_nothing(serve: Serve) -> None:
    server = serve()
    made = run_ebsim("--account", "111122223333", "key", "create", home=server.home)
    key_id, secret = made.stdout.split()
    sts = make_client("sts", Credentials(key_id, secret), url=server.url)
    assert sts.get_caller_identity()["Account"] == "111122223333"
    assert "111122223333" in run_ebsim("account", "ls", home=server.home).stdout

    run_ebsim("key", "rm", key_id, home=server.home)

    with pytest.raises(ClientError) as refused:
        sts.get_caller_identity()
    assert code_of(refused.value) == "InvalidClientTokenId"
    assert key_id not in run_ebsim("key", "ls", home=server.home).stdout
