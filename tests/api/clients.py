"""Real AWS clients: of a server that runs, or of a desk in this process.

A client of a desk is boto3's own, signing and parsing as ever; only the socket between is
left out.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from ebsim.api.dispatch import Desk, answer
from ebsim.api.form_request import read_form
from ebsim.api.http_messages import Request

URL = "http://127.0.0.1:4580"


class Credentials(NamedTuple):
    """What a client signs with."""

    key_id: str
    secret: str


def make_client(
    service: str,
    credentials: Credentials,
    *,
    url: str = URL,
    region: str = "us-east-1",
    authorities: Path | None = None,
) -> Any:
    """A boto3 client that tries each call once, and takes credentials from nowhere else.

    Of servers it trusts those that *authorities*, a file of certificates, stands for.
    """
    config = Config(retries={"total_max_attempts": 1}, read_timeout=120)
    return _session().client(
        service,
        aws_access_key_id=credentials.key_id,
        aws_secret_access_key=credentials.secret,
        region_name=region,
        endpoint_url=url,
        config=config,
        verify=str(authorities) if authorities is not None else None,
    )


@lru_cache(1)
def _session() -> Any:
    """One for all clients: it reads each of Amazon's models once, which takes a second."""
    return boto3.session.Session()


class _Body:
    """What botocore reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self, **_: object) -> Any:
        yield self._data

    def read(self, size: int | None = None) -> bytes:
        taken = self._data if size is None else self._data[:size]
        self._data = self._data[len(taken) :]
        return taken


def as_request(prepared: AWSPreparedRequest) -> Request:
    """*prepared* as the server would hand it on."""
    parts = urlsplit(prepared.url)
    body = prepared.body
    data = body.read() if hasattr(body, "read") else body
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in prepared.headers.items()
    }
    return Request(
        method=prepared.method,
        raw_path=parts.path,
        query=tuple(read_form(parts.query)),
        headers={"host": parts.netloc, **headers},
        body=data.encode() if isinstance(data, str) else bytes(data or b""),
    )


def connect(client: Any, desk: Desk) -> Any:
    """Let *client* be answered by *desk*; return it."""

    def send(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        found = answer(desk, as_request(request))
        return AWSResponse(request.url, found.status, dict(found.headers), _Body(found.body))

    client.meta.events.register("before-send", send)
    return client


def code_of(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def message_of(error: ClientError) -> str:
    return str(error.response["Error"]["Message"])


def status_of(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
