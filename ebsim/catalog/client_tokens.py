"""Client tokens: a request that is sent twice does its work once.

    CLIENT_TOKENS   account id, digest of operation and token   {"digest", "answer", "time_ns"}

The row is written in the transaction that does the work.  It is kept for a day at the
least; each new one looks at a few that follow it and drops what is older.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ebsim.content.digest import block_digest
from ebsim.errors import Conflict
from ebsim.ids import AccountId
from ebsim.metadata.transactions import Reader, Table, Transaction

_KEPT_NS = 24 * 60 * 60 * 10**9
_LOOKED_AT = 8


class ClientTokenReused(Conflict):
    """The token was used for a request that was not the same."""

    def __init__(self) -> None:
        super().__init__("Current request does not match request stored with this token.")


@dataclass(frozen=True, slots=True)
class TokenUse:
    """A request that comes with a client token.

    Attributes:
        operation: The API's name for it, such as ``StartSnapshot``: each has its own tokens.
        parameters: All that must be the same when it comes again.
    """

    account_id: AccountId
    operation: str
    token: str
    parameters: Mapping[str, Any]

    def key(self) -> bytes:
        name = json.dumps([self.operation, self.token]).encode()
        return self.account_id.encode() + block_digest(name)

    def digest(self) -> str:
        canonical = json.dumps(self.parameters, sort_keys=True, separators=(",", ":"))
        return block_digest(canonical.encode()).hex()


def find_answer(reader: Reader, use: TokenUse) -> dict[str, Any] | None:
    """What was answered the first time; ``None`` if this is the first time.

    Raises:
        ClientTokenReused: the first request was another one.
    """
    (row,) = reader.get_many(Table.CLIENT_TOKENS, [use.key()])
    if row is None:
        return None
    values = json.loads(row)
    if values["digest"] != use.digest():
        raise ClientTokenReused
    answer: dict[str, Any] = values["answer"]
    return answer


def note_answer(txn: Transaction, use: TokenUse, answer: Mapping[str, Any], now_ns: int) -> None:
    """Keep *answer*, for whoever sends the request again."""
    values = {"digest": use.digest(), "answer": answer, "time_ns": now_ns}
    key = use.key()
    txn.put_many(Table.CLIENT_TOKENS, [(key, json.dumps(values).encode())])
    # Keys are as good as random: sooner or later every old row is behind a new one.
    rows = txn.scan(Table.CLIENT_TOKENS, key + b"\0", limit=_LOOKED_AT)
    old = [key for key, row in rows if json.loads(row)["time_ns"] + _KEPT_NS < now_ns]
    txn.delete_many(Table.CLIENT_TOKENS, old)
