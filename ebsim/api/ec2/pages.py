"""Pages of rows that are in an order of their own, such as by id.

A token is the place of the last row shown: it stays true when others come and go.  It tells
nothing that its owner did not see, and opens nothing: rows are looked up as the caller.
"""

import base64
import binascii
from collections.abc import Callable, Sequence

from ebsim.api.ec2.shapes import PAGE_MAX, PAGE_MIN, page_size
from ebsim.api.faults import ApiError
from ebsim.api.params import Answer, Params

Place = Callable[[Answer], str]


def page_of(
    rows: Sequence[Answer],
    params: Params,
    place: Place,
    *,
    minimum: int = PAGE_MIN,
    maximum: int = PAGE_MAX,
) -> tuple[list[Answer], str | None]:
    """The *rows* that ``NextToken`` and ``MaxResults`` ask for, and the token of the next page.

    *rows* are in the order of *place*, which no two share.

    Raises:
        ApiError: a size that EC2 does not give, or a token that it did not.
    """
    size = page_size(params, minimum=minimum, maximum=maximum)
    token: str | None = params.get("NextToken")
    after = _read_token(token) if token is not None else ""
    rest = [row for row in rows if place(row) > after]
    if size is None or len(rest) <= size:
        return rest, None
    return rest[:size], _write_token(place(rest[size - 1]))


def _write_token(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error) as error:
        raise ApiError("InvalidNextToken", f"The token '{token}' is invalid") from error
