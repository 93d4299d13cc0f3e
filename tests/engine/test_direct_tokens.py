"""Tokens of the EBS direct APIs: bound, typed, over in time, and not to be forged."""

import re
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from ebsim.blockmap.geometry import BLOCKS_MAX
from ebsim.engine.direct.token_key import TOKEN_KEY, load_token_key
from ebsim.engine.direct.tokens import KEY_SIZE, Scope, TokenKind, open_token, token_maker
from ebsim.engine.region import Region
from ebsim.ids import SnapshotId

KEY = bytes(range(KEY_SIZE))
NOW = 1_790_000_000

ids = st.integers(0, (1 << 68) - 1).map(lambda n: SnapshotId(f"snap-{n:017x}"))
few_ids = st.sampled_from([SnapshotId(f"snap-{n:017x}") for n in (0, 1, 1 << 67)])
kinds = st.sampled_from(TokenKind)
scopes = st.builds(Scope, kinds, few_ids, st.none() | few_ids)
indexes = st.integers(0, BLOCKS_MAX)
nonces = st.binary(min_size=8, max_size=8)


def token_of(scope: Scope, index: int, nonce: bytes = bytes(8), expiry: int = NOW + 10) -> str:
    return token_maker(KEY, scope, expiry, nonce)(index)


@given(scope=st.builds(Scope, kinds, ids, st.none() | ids), index=indexes, nonce=nonces)
def test_a_token_says_what_it_was_made_of(scope: Scope, index: int, nonce: bytes) -> None:
    token = token_of(scope, index, nonce)
    assert re.fullmatch(r"AlM[BCD][A-Za-z0-9_-]{91}", token)
    assert open_token(KEY, scope, token, NOW) == index


def test_the_kinds_begin_as_amazon_s() -> None:
    snapshot_id = SnapshotId("snap-00000000000000001")
    begins = {kind: token_of(Scope(kind, snapshot_id), 0)[:4] for kind in TokenKind}
    assert begins == {
        TokenKind.BLOCK: "AlMB",
        TokenKind.BLOCKS_PAGE: "AlMC",
        TokenKind.CHANGES_PAGE: "AlMD",
    }


@given(made=scopes, asked=scopes, index=indexes)
def test_a_token_opens_in_its_own_scope_only(made: Scope, asked: Scope, index: int) -> None:
    opened = open_token(KEY, asked, token_of(made, index), NOW)
    # The snapshot of number nought stands for "no second one"; no store gives that id.
    same = made.kind == asked.kind and made.encoded() == asked.encoded()
    assert opened == (index if same else None)


@given(scope=scopes, index=indexes, at=st.integers(0, 94), by=st.integers(1, 63))
def test_a_token_with_one_letter_changed_is_none(
    scope: Scope, index: int, at: int, by: int
) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = token_of(scope, index)
    other = letters[(letters.index(token[at]) + by) % 64]
    assert open_token(KEY, scope, token[:at] + other + token[at + 1 :], NOW) is None


@given(scope=scopes, index=indexes, text=st.text(max_size=9) | st.text("aM-_=", min_size=95))
def test_what_is_no_token_is_refused(scope: Scope, index: int, text: str) -> None:
    token = token_of(scope, index)
    for wrong in (text, token + "=", token[:-1], "\n" + token[1:], f"{token}{token}"):
        assert open_token(KEY, scope, wrong, NOW) is None


@given(scope=scopes, index=indexes)
def test_a_token_made_with_another_key_is_refused(scope: Scope, index: int) -> None:
    assert open_token(bytes(KEY_SIZE), scope, token_of(scope, index), NOW) is None


@given(scope=scopes, age=st.integers(-20, 20))
def test_a_token_is_good_until_its_time_is_over(scope: Scope, age: int) -> None:
    opened = open_token(KEY, scope, token_of(scope, 3, expiry=NOW), NOW + age)
    assert (opened is None) == (age >= 0)


def test_a_region_s_key_stays_the_same_and_only_its_owner_may_read_it(region: Region) -> None:
    key = load_token_key(region)
    assert len(key) == KEY_SIZE
    assert load_token_key(region) == key
    assert (region.path / TOKEN_KEY).stat().st_mode & 0o777 == 0o600


def test_a_damaged_key_is_made_anew(region: Region) -> None:
    path = region.path / TOKEN_KEY
    for damage in (b"", b"short", Random(1).randbytes(KEY_SIZE + 1)):
        path.write_bytes(damage)
        key = load_token_key(region)
        assert len(key) == KEY_SIZE
        assert path.read_bytes() == key
