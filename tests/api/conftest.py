"""A desk with keys for two accounts; boto3 clients of it; a server that really runs."""

import shlex
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ebsim.api.dispatch import Desk
from ebsim.api.identity import Auth
from ebsim.api.metrics import Metrics
from ebsim.api.regions import Regions
from ebsim.api.work import THREAD_COUNT, Work
from ebsim.clock import Clock, SystemClock
from ebsim.durable_files import Files
from ebsim.engine.access_keys import AccessKeys
from ebsim.engine.home import prepare_home
from ebsim.engine.region import Region
from ebsim.ids import AccountId
from tests.api.clients import Credentials, connect, make_client
from tests.api.volume_calls import ZONE, MakeVolume
from tests.cli.processes import command, environment, run_ebsim
from tests.tidy.source_tree import ROOT

ACCOUNT = AccountId("123456789012")
OTHER_ACCOUNT = AccountId("999999999999")
REGION = "us-east-1"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def keys(home: Path) -> AccessKeys:
    prepare_home(home, Files(), create=True)
    return AccessKeys(home, Files(), SystemClock(), Random(0))


@pytest.fixture
def region_clock() -> Clock:
    """The time in the regions; a module that moves it overrides this."""
    return SystemClock()


@pytest.fixture
def desk(home: Path, keys: AccessKeys, region_clock: Clock) -> Iterator[Desk]:
    """What answers requests, in this process.  A bug of ebsim's fails the test."""
    bugs: list[str] = []
    # Of signatures and tokens: boto3 goes by the machine's.
    clock = SystemClock()
    with (
        closing(Regions(home, Files(), region_clock, Random(1), tell_bug=bugs.append)) as regions,
        closing(Work(bugs.append)) as work,
    ):
        yield Desk(
            regions=regions,
            work=work,
            find_key=keys.find_key,
            auth=Auth.SIGV4,
            clock=clock,
            random=Random(2),
            metrics=Metrics(),
            default_region=REGION,
            default_account=ACCOUNT,
            tell_bug=bugs.append,
        )
    assert bugs == []


@pytest.fixture
def region(desk: Desk) -> Region:
    """The store of the region that clients talk about, as nobody in particular."""
    return desk.regions.region(REGION, create=True)


ClientMaker = Callable[..., Any]


@pytest.fixture
def client(desk: Desk, keys: AccessKeys) -> ClientMaker:
    """Makes boto3 clients of the desk: by service, account and region."""

    def make(service: str, account_id: AccountId = ACCOUNT, region: str = REGION) -> Any:
        mine = keys.keys(account_id)
        key = mine[0] if mine else keys.create_key(account_id)
        credentials = Credentials(key.key_id, key.secret)
        return connect(make_client(service, credentials, region=region), desk)

    return make


@pytest.fixture
def ec2(client: ClientMaker) -> Any:
    return client("ec2")


class Serving:
    """``ebsim serve`` as a process of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self.process = subprocess.Popen(
            command("serve", "--listen", "127.0.0.1:0", *arguments),
            cwd=ROOT,
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def variables(self) -> dict[str, str]:
        """What ``ebsim env`` exports."""
        text = run_ebsim("env", home=self.home).stdout
        words = [shlex.split(line) for line in text.splitlines()]
        return dict(word[1].split("=", 1) for word in words if word[0] == "export")

    def client(self, service: str) -> Any:
        found = self.variables()
        credentials = Credentials(found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"])
        return make_client(service, credentials, url=found["AWS_ENDPOINT_URL"])

    def stop(self) -> tuple[int, str]:
        """End it as an init system would; its exit code, and what it said."""
        self.process.terminate()
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@pytest.fixture
def serve(home: Path) -> Iterator[Callable[..., Serving]]:
    """Starts servers; each is ended when the test is over, and must have met no bug."""
    started: list[Serving] = []

    def start(*arguments: str) -> Serving:
        started.append(Serving(home, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            code, said = one.stop()
            assert (code, said) == (0, "")


@contextmanager
def busy_threads(desk: Desk) -> Iterator[None]:
    """Work behind the answers waits until the body is over."""
    over = threading.Event()
    for number in range(THREAD_COUNT):
        desk.work.go_on(f"busy {number}", over.wait)
    try:
        yield
    finally:
        over.set()


@pytest.fixture
def make(ec2: Any) -> MakeVolume:
    """Makes a volume of 1 GiB, or as said; gives its id."""

    def volume(**params: object) -> str:
        asked = {"AvailabilityZone": ZONE, "Size": 1, **params}
        return str(ec2.create_volume(**asked)["VolumeId"])

    return volume
