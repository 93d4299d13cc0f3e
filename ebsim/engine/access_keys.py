"""Accounts and the keys that act for them: what a client signs its requests with.

    HOME/access/accounts/ACCOUNT.json   {"account_id", "name", "create_time_ns"}
    HOME/access/keys/KEY-ID.json        {"key_id", "secret", "account_id", "create_time_ns"}

The folder is its owner's alone (mode 0700), and so is each key's file (0600).  A key is its
file: made whole under its name, gone when that is unlinked.  A server reads it for each
request, so a key that was removed opens nothing any more.
"""

import base64
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from ebsim.clock import Clock
from ebsim.durable_files import Files, write_atomically
from ebsim.errors import Conflict, InvalidRequest, MetadataCorrupt, NotFound
from ebsim.ids import AccountId, is_account_id

_ACCESS = "access"
_KEY_ID = re.compile(r"AKIA[A-Z2-7]{16}")
_NAME_LENGTH_MAX = 255
_SIZE_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who owns things."""

    account_id: AccountId
    name: str
    create_time_ns: int


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key of an account, and its secret."""

    key_id: str
    secret: str
    account_id: AccountId
    create_time_ns: int

    def __repr__(self) -> str:
        """Without the secret: a record that is printed must not tell it."""
        return f"AccessKey({self.key_id}, {self.account_id})"


class AccessKeys:
    """The accounts and keys of a home."""

    def __init__(self, home: Path, files: Files, clock: Clock, random: Random) -> None:
        self._folder = home / _ACCESS
        self._files = files
        self._clock = clock
        self._random = random

    def create_account(self, account_id: AccountId | None, name: str) -> Account:
        """Make an account, of a number chosen by chance if none is given.

        Raises:
            InvalidRequest: the number or the name cannot be one.
            Conflict: there is that account already.
        """
        if not name.isprintable() or len(name) > _NAME_LENGTH_MAX:
            raise InvalidRequest(
                f"an account's name has up to {_NAME_LENGTH_MAX} printable characters. "
                "No account was made."
            )
        chosen = account_id or AccountId(f"{self._random.randrange(10**11, 10**12)}")
        if not is_account_id(chosen):
            raise InvalidRequest(f"'{chosen}' is not an account. Write its 12 digits.")
        path = self._path("accounts", chosen)
        if self._files.status(path) is not None:
            raise Conflict(f"there is an account {chosen} already. Nothing was changed.")
        account = Account(chosen, name, self._clock.now_ns())
        self._write(path, asdict(account))
        return account

    def accounts(self) -> list[Account]:
        """All accounts by number, those included that only have keys."""
        found = {
            AccountId(name): Account(**self._read(self._path("accounts", name)))
            for name in self._names("accounts")
        }
        for key in self.keys():
            found.setdefault(key.account_id, Account(key.account_id, "", key.create_time_ns))
        return [found[account_id] for account_id in sorted(found)]

    def create_key(self, account_id: AccountId) -> AccessKey:
        """Make a key that acts for the account."""
        letters = base64.b32encode(self._random.randbytes(10)).decode()
        secret = base64.b64encode(self._random.randbytes(30)).decode()
        key = AccessKey(f"AKIA{letters}", secret, account_id, self._clock.now_ns())
        self._write(self._path("keys", key.key_id), asdict(key))
        return key

    def keys(self, account_id: AccountId | None = None) -> list[AccessKey]:
        """The keys of an account, or of all, oldest first."""
        found = [self.find_key(name) for name in self._names("keys")]
        keys = [key for key in found if key and account_id in {None, key.account_id}]
        return sorted(keys, key=lambda key: (key.create_time_ns, key.key_id))

    def find_key(self, key_id: str) -> AccessKey | None:
        """The key of that id, if there is one."""
        # What is no key's id is not made part of a path.
        if _KEY_ID.fullmatch(key_id) is None:
            return None
        try:
            return AccessKey(**self._read(self._path("keys", key_id)))
        except FileNotFoundError:
            return None

    def delete_key(self, key_id: str) -> None:
        """Remove a key: nobody acts by it any more.

        Raises:
            NotFound: there is none of that id.
        """
        if self.find_key(key_id) is None:
            raise NotFound(f"there is no key '{key_id}'. Run 'ebsim key ls' to see them.")
        path = self._path("keys", key_id)
        self._files.unlink(path)
        self._files.sync_directory(path.parent)

    def _path(self, kind: str, name: str) -> Path:
        return self._folder / kind / f"{name}.json"

    def _names(self, kind: str) -> list[str]:
        folder = self._folder / kind
        if self._files.status(folder) is None:
            return []
        names = self._files.file_names(folder)
        return sorted(n.removesuffix(".json") for n in names if not n.startswith("."))

    def _write(self, path: Path, values: object) -> None:
        if self._files.status(path.parent) is None:
            self._files.make_directories(path.parent)
        # Before there is a secret in it.
        self._folder.chmod(0o700)
        write_atomically(self._files, path, json.dumps(values).encode())
        path.chmod(0o600)

    def _read(self, path: Path) -> dict[str, Any]:
        descriptor = self._files.open_to_read(path)
        try:
            text = self._files.read(descriptor, 0, _SIZE_MAX)
        finally:
            self._files.close(descriptor)
        try:
            values = json.loads(text)
        except ValueError as error:
            raise MetadataCorrupt(where=str(path), found=repr(error)) from error
        return dict(values)
