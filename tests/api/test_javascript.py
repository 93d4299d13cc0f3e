"""Amazon's SDK for JavaScript as a client of a real server."""

import json
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from tests.api.conftest import Serving
from tests.api.direct_clients import BLOCK_SIZE
from tests.cli.processes import environment

PACKAGES = ("@aws-sdk/client-ebs@3", "@aws-sdk/client-ec2@3")
SCRIPT = Path(__file__).with_name("javascript_client.mjs")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script beside the SDK that it imports; without npm, or its registry, it skips."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm is not installed")
    install = [npm, "install", "--no-audit", "--no-fund", "--silent", *PACKAGES]
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install the SDK: {done.stderr[:200]}")
    return Path(shutil.copy(SCRIPT, tmp_path))


@pytest.mark.slow
def test_a_snapshot_is_written_and_read(serve: Callable[..., Serving], script: Path) -> None:
    server = serve()
    done = subprocess.run(
        ["node", script],
        env=environment(server.home) | server.variables(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr

    def hashes(fills: dict[int, int]) -> dict[str, str]:
        return {
            str(index): sha256(bytes([fill]) * BLOCK_SIZE).hexdigest()
            for index, fill in fills.items()
        }

    assert json.loads(done.stdout) == {
        "parent": hashes({0: 1, 3: 4, 2047: 2048 % 256}),
        "child": hashes({0: 1, 3: 9, 4: 0, 2047: 2048 % 256}),
        "changed": [3, 4],
    }
