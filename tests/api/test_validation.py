"""Patterns of the services' models, which are Java's."""

import gzip
import json
from pathlib import Path

import botocore
import pytest

from ebsim.api.validation import compiled_pattern

SERVICES = ("ec2", "ebs", "rbin", "dlm", "kms", "sts")


@pytest.mark.parametrize("service", SERVICES)
def test_every_pattern_of_a_service_can_be_tried(service: str) -> None:
    folder = Path(botocore.__file__).parent / "data" / service
    *_, file = sorted(folder.glob("*/service-2.json.gz"))
    shapes = json.loads(gzip.decompress(file.read_bytes()))["shapes"]
    for shape in shapes.values():
        if "pattern" in shape:
            compiled_pattern(shape["pattern"])


@pytest.mark.parametrize(
    ("pattern", "fitting", "unfitting"),
    [
        (r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", ["", "aé ٣_.:", "a\u00a0b"], ["a\tb", "a;b", "a\n"]),
        (r"[\p{all}]*", ["", "a\n;"], []),
        (r"^x[0-9]{2}{0,2}$", ["x", "x12", "x1234"], ["x1", "x123", "x123456"]),
    ],
)
def test_a_pattern_means_what_it_means_in_java(
    pattern: str, fitting: list[str], unfitting: list[str]
) -> None:
    for text in fitting:
        assert compiled_pattern(pattern).fullmatch(text)
    for text in unfitting:
        assert not compiled_pattern(pattern).fullmatch(text)
