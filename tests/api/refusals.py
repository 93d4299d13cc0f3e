"""Calls that must be refused."""

from typing import Any

import pytest
from botocore.exceptions import ClientError


def refused(call: Any, **params: object) -> ClientError:
    """What boto3 raises for a call that must fail."""
    with pytest.raises(ClientError) as found:
        call(**params)
    return found.value


def code(call: Any, **params: object) -> str:
    """The code of that."""
    return str(refused(call, **params).response["Error"]["Code"])
