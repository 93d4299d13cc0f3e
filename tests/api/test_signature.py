"""Signatures, checked against those that botocore makes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode, urlsplit

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from ebsim.api.form_request import read_form
from ebsim.api.http_messages import Request
from ebsim.api.signature import Fault, SignatureRefused, read_signature, refuse_chunks, verify

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = Credentials("AKIAABCDEFGHIJKLMNOP", SECRET)


def signed(
    method: str = "POST",
    path: str = "/",
    query: str = "",
    body: bytes = b"Action=DescribeRegions",
    headers: dict[str, str] | None = None,
    *,
    presigned: bool = False,
) -> Request:
    """A request that botocore signed now."""
    url = f"http://127.0.0.1:4580{path}" + (f"?{query}" if query else "")
    made = AWSRequest(method=method, url=url, data=body, headers=headers or {})
    auth = SigV4QueryAuth if presigned else SigV4Auth
    auth(KEYS, "ec2", "us-east-1").add_auth(made)
    parts = urlsplit(made.url)
    return Request(
        method=method,
        raw_path=parts.path,
        query=tuple(read_form(parts.query)),
        headers={"host": parts.netloc} | {n.lower(): str(v) for n, v in made.headers.items()},
        body=body,
    )


def check(request: Request, secret: str | None = SECRET, late: timedelta = timedelta()) -> None:
    signature = read_signature(request)
    assert signature is not None
    verify(request, signature, secret, datetime.now(UTC) + late)


def fault_of(
    request: Request, secret: str | None = SECRET, late: timedelta = timedelta()
) -> Fault:
    with pytest.raises(SignatureRefused) as refused:
        check(request, secret, late)
    return refused.value.fault


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    segments=st.lists(
        st.from_regex(r"[A-Za-z0-9_~.-]{1,8}(%2F|%20|%25)?", fullmatch=True), max_size=3
    ),
    query=st.lists(st.tuples(texts, texts), max_size=4),
    body=st.binary(max_size=64),
    header=st.from_regex(r"[!-~]( {0,3}[!-~]){0,5}", fullmatch=True),
)
def test_what_botocore_signs_is_believed(
    method: str, segments: list[str], query: list[tuple[str, str]], body: bytes, header: str
) -> None:
    path = "/" + "/".join(one for one in segments if one not in {".", ".."})
    check(
        signed(
            method, path, urlencode(query, quote_via=quote), body, {"X-Amz-Data-Length": header}
        )
    )


def test_a_presigned_address_is_believed() -> None:
    check(signed("GET", "/", "Action=DescribeRegions&a=b%20c", b"", presigned=True))


@pytest.mark.parametrize(
    "change",
    [
        {"method": "PUT"},
        {"raw_path": "/x"},
        {"query": (("a", "b"),)},
        {"body": b"Action=DeleteSnapshot"},
    ],
    ids=["method", "path", "query", "body"],
)
def test_what_was_changed_after_it_was_signed_is_not_believed(change: dict[str, object]) -> None:
    assert fault_of(replace(signed(), **change)) is Fault.MISMATCH  # type: ignore[arg-type]


def test_a_header_of_amazon_s_that_was_not_signed_is_not_believed() -> None:
    request = signed()
    added = replace(request, headers={**request.headers, "x-amz-progress": "5"})
    assert fault_of(added) is Fault.MISMATCH


def test_another_secret_is_not_believed() -> None:
    assert fault_of(signed(), "another") is Fault.MISMATCH


def test_a_key_that_nobody_has_is_told_from_a_bad_signature() -> None:
    assert fault_of(signed(), None) is Fault.UNKNOWN_KEY


@pytest.mark.parametrize("minutes", [6, -6])
def test_a_signature_of_another_time_is_not_believed(minutes: int) -> None:
    assert fault_of(signed(), late=timedelta(minutes=minutes)) is Fault.EXPIRED
    check(signed(), late=timedelta(minutes=minutes // 2))


def test_a_presigned_address_is_good_for_as_long_as_it_says() -> None:
    request = signed("GET", "/", "Action=DescribeRegions", b"", presigned=True)
    check(request, late=timedelta(minutes=59))
    assert fault_of(request, late=timedelta(minutes=61)) is Fault.EXPIRED


def test_a_scope_of_another_day_is_not_believed() -> None:
    request = signed()
    header = request.headers["authorization"]
    date = header.split("/")[1]
    moved = replace(
        request, headers={**request.headers, "authorization": header.replace(date, "20200101")}
    )
    assert fault_of(moved) is Fault.SCOPE


@pytest.mark.parametrize(
    "header",
    [
        "Bearer abc",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/b/c, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host",
    ],
)
def test_a_header_that_makes_no_sense_is_refused(header: str) -> None:
    headers = {"authorization": header, "x-amz-date": "20260101T000000Z"}
    with pytest.raises(SignatureRefused) as refused:
        read_signature(Request("POST", "/", headers=headers))
    assert refused.value.fault is Fault.INCOMPLETE


@pytest.mark.parametrize(
    "headers",
    [
        {"content-encoding": "aws-chunked"},
        {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"},
    ],
)
def test_a_body_in_chunks_is_refused_by_name(headers: dict[str, str]) -> None:
    with pytest.raises(SignatureRefused, match="aws-chunked is not supported"):
        refuse_chunks(headers)


def test_a_body_that_says_so_need_not_be_signed() -> None:
    request = signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, body=b"one")
    check(replace(request, body=b"another"))
