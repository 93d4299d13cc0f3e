"""The negotiation: what each option is answered, and that nothing breaks it."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebsim.nbd.export_offer import Agreement, ExportOffer
from ebsim.nbd.handshake import (
    OPTION_BYTES_MAX,
    OPTIONS_MAX,
    Ended,
    Event,
    Handshake,
    SendBytes,
    StartTls,
    TlsMode,
)
from tests.nbd.clients import (
    ABORT,
    ACK,
    ERROR,
    EXPORT_NAME,
    GO,
    GREETING,
    INFO,
    INFORMATION,
    LIST,
    LIST_META,
    META,
    SERVER,
    SET_META,
    STARTTLS,
    STRUCTURED,
    OptionReply,
    flags,
    go,
    meta,
    option,
    option_replies,
    text,
)

CONTEXTS = (b"base:allocation", b"ebsim:dirty")
DISK = ExportOffer("disk", "the disk", 1 << 30, is_read_only=False, contexts=CONTEXTS)
OTHER = ExportOffer("other", "", 1 << 20, is_read_only=True, preferred_block_bytes=512 << 10)


def negotiate(
    *messages: bytes,
    offers: Sequence[ExportOffer] = (DISK,),
    tls: TlsMode = TlsMode.NONE,
    client_flags: int = 3,
) -> list[Event]:
    handshake = Handshake(lambda: offers, tls=tls)
    return merged(handshake.receive(flags(client_flags) + b"".join(messages)))


def merged(events: list[Event]) -> list[Event]:
    """The events with neighbouring bytes joined."""
    joined: list[Event] = []
    for event in events:
        if isinstance(event, SendBytes) and joined and isinstance(joined[-1], SendBytes):
            joined[-1] = SendBytes(joined[-1].data + event.data)
        else:
            joined.append(event)
    return joined


def replies(*messages: bytes, **situation: object) -> list[OptionReply]:
    sent = [e for e in negotiate(*messages, **situation) if isinstance(e, SendBytes)]  # type: ignore[arg-type]
    return option_replies(b"".join(event.data for event in sent))


def kinds(*messages: bytes, **situation: object) -> list[int]:
    return [reply.kind for reply in replies(*messages, **situation)]


def agreement(*messages: bytes, **situation: object) -> Agreement:
    last = negotiate(*messages, **situation)[-1]  # type: ignore[arg-type]
    assert isinstance(last, Agreement)
    return last


def transmission_flags(*messages: bytes, **situation: object) -> int:
    told = [r for r in replies(*messages, **situation) if r.kind == INFORMATION]
    return int(struct.unpack(">HQH", told[0].payload)[2])


def test_the_greeting_offers_fixed_newstyle_without_zeroes() -> None:
    assert Handshake(list).greeting == GREETING


def test_go_describes_the_export_and_enters_it() -> None:
    told = replies(go(b"disk"))
    assert [reply.kind for reply in told] == [INFORMATION, ACK]
    assert struct.unpack(">HQ", told[0].payload[:10]) == (0, 1 << 30)
    assert agreement(go(b"disk")) == Agreement(DISK, has_structured_replies=False)


def test_information_that_is_asked_for_is_given() -> None:
    told = {r.payload[:2]: r.payload[2:] for r in replies(go(b"other", 1, 2, 3), offers=[OTHER])}
    assert told[b"\x00\x01"] == b"other"
    assert told[b"\x00\x02"] == b""
    assert struct.unpack(">III", told[b"\x00\x03"]) == (1, 512 << 10, 32 << 20)


def test_info_does_not_enter() -> None:
    assert not isinstance(negotiate(go(b"disk", number=INFO))[-1], Agreement)


def test_the_empty_name_is_the_only_export() -> None:
    assert agreement(go(b"")).offer is DISK


def test_the_empty_name_is_nothing_among_several() -> None:
    assert kinds(go(b""), offers=[DISK, OTHER]) == [ERROR | 6]


@pytest.mark.parametrize("number", [GO, INFO])
def test_an_unknown_export_is_refused_and_others_can_still_be_had(number: int) -> None:
    assert kinds(go(b"nothing", number=number), go(b"disk")) == [ERROR | 6, INFORMATION, ACK]


def test_export_name_gets_124_zeroes_unless_it_declines_them() -> None:
    with_zeroes, _ = negotiate(option(EXPORT_NAME, b"disk"), client_flags=1)
    without, _ = negotiate(option(EXPORT_NAME, b"disk"), client_flags=3)
    assert isinstance(with_zeroes, SendBytes)
    assert isinstance(without, SendBytes)
    assert len(without.data) == 10
    assert with_zeroes.data == without.data + bytes(124)


def test_an_unknown_export_name_ends_the_session() -> None:
    assert isinstance(negotiate(option(EXPORT_NAME, b"nothing"))[-1], Ended)


def test_list_names_and_describes_the_exports() -> None:
    told = replies(option(LIST), offers=[DISK, OTHER])
    assert [(r.kind, r.payload) for r in told] == [
        (SERVER, text(b"disk") + b"the disk"),
        (SERVER, text(b"other")),
        (ACK, b""),
    ]


def test_abort_is_acknowledged_and_ends() -> None:
    events = negotiate(option(ABORT))
    assert kinds(option(ABORT)) == [ACK]
    assert events[-1] == Ended(None)


def test_unknown_options_are_unsupported_and_passed_over() -> None:
    unknown = [option(4), option(11), option(99, b"anything")]
    assert kinds(*unknown, go(b"")) == [ERROR | 1] * 3 + [INFORMATION, ACK]


@pytest.mark.parametrize("number", [LIST, ABORT, STRUCTURED, STARTTLS])
def test_options_without_data_refuse_any(number: int) -> None:
    assert kinds(option(number, b"x"), tls=TlsMode.OFFERED) == [ERROR | 3]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00",
        text(b"disk"),
        text(b"disk") + b"\x00",
        text(b"disk") + b"\x00\x01",
        text(b"disk") + b"\x00\x00\x00",
        struct.pack(">I", 1 << 31) + b"disk",
        text(b"d" * 4097) + b"\x00\x00",
    ],
)
def test_malformed_go_is_invalid(data: bytes) -> None:
    assert kinds(option(GO, data)) == [ERROR | 3]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        text(b""),
        text(b"") + struct.pack(">I", 1),
        text(b"") + struct.pack(">I", 0xFFFFFFFF),
        text(b"") + struct.pack(">I", 0) + b"x",
        text(b"") + struct.pack(">I", 1) + text(b"no colon"),
    ],
)
@pytest.mark.parametrize("number", [LIST_META, SET_META])
def test_malformed_context_queries_are_invalid(number: int, data: bytes) -> None:
    assert kinds(option(STRUCTURED), option(number, data)) == [ACK, ERROR | 3]


def test_contexts_are_listed_all_by_namespace_and_by_name() -> None:
    def names(*queries: bytes) -> list[bytes]:
        told = replies(meta(*queries, number=LIST_META))
        return [r.payload[4:] for r in told if r.kind == META]

    assert names() == list(CONTEXTS)
    assert names(b"ebsim:") == [b"ebsim:dirty"]
    assert names(b"base:allocation", b"unknown:x") == [b"base:allocation"]


def test_contexts_are_selected_for_the_export_that_is_entered() -> None:
    selected = agreement(option(STRUCTURED), meta(*CONTEXTS, b"x:y"), go(b"disk")).contexts
    assert sorted(selected.values()) == sorted(CONTEXTS)


def test_no_query_selects_nothing() -> None:
    assert agreement(option(STRUCTURED), meta(), go(b"")).contexts == {}


def test_contexts_selected_for_another_export_do_not_count() -> None:
    asked = (option(STRUCTURED), meta(*CONTEXTS, name=b"disk"), go(b"other"))
    assert agreement(*asked, offers=[DISK, OTHER]).contexts == {}


def test_a_failed_selection_forgets_the_one_before() -> None:
    asked = (option(STRUCTURED), meta(*CONTEXTS), option(SET_META, b""), go(b""))
    assert agreement(*asked).contexts == {}


def test_contexts_need_structured_replies() -> None:
    assert kinds(meta(*CONTEXTS)) == [ERROR | 3]


def test_df_is_offered_with_structured_replies_alone() -> None:
    assert not transmission_flags(go(b"")) & 1 << 7
    assert transmission_flags(option(STRUCTURED), go(b"")) & 1 << 7


def test_a_read_only_export_says_so_and_offers_no_trim_nor_zeroes() -> None:
    told = transmission_flags(go(b""), offers=[OTHER])
    assert told & 1 << 1
    assert not told & (1 << 5 | 1 << 6 | 1 << 11)


@pytest.mark.parametrize("client_flags", [4, 1 << 31, 0xFFFFFFFF])
def test_unknown_client_flags_end_the_session(client_flags: int) -> None:
    assert isinstance(negotiate(client_flags=client_flags)[-1], Ended)


def test_a_wrong_magic_ends_the_session() -> None:
    assert isinstance(negotiate(b"IHAVEOPS" + bytes(8))[-1], Ended)


def test_option_data_over_the_limit_is_not_waited_for() -> None:
    head = b"IHAVEOPT" + struct.pack(">II", GO, OPTION_BYTES_MAX + 1)
    assert isinstance(negotiate(head)[-1], Ended)


def test_endless_options_end() -> None:
    assert len(negotiate(option(LIST) * OPTIONS_MAX)) == 1
    assert isinstance(negotiate(option(LIST) * (OPTIONS_MAX + 1))[-1], Ended)


def test_without_tls_starttls_is_refused() -> None:
    assert kinds(option(STARTTLS)) == [ERROR | 1]


def test_starttls_forgets_what_was_agreed_before() -> None:
    handshake = Handshake(lambda: [DISK], tls=TlsMode.OFFERED)
    handshake.receive(flags() + option(STRUCTURED))
    assert isinstance(handshake.receive(option(STARTTLS))[-1], StartTls)
    entered = handshake.receive(go(b""))[-1]
    assert entered == Agreement(DISK, has_structured_replies=False)


def test_starttls_twice_is_invalid() -> None:
    handshake = Handshake(lambda: [DISK], tls=TlsMode.OFFERED)
    handshake.receive(flags() + option(STARTTLS))
    (sent,) = handshake.receive(option(STARTTLS))
    assert isinstance(sent, SendBytes)
    assert option_replies(sent.data)[0].kind == ERROR | 3


def test_what_was_injected_behind_starttls_is_never_obeyed() -> None:
    last = negotiate(option(STARTTLS), go(b""), tls=TlsMode.OFFERED)[-1]
    assert isinstance(last, Ended)


def test_forced_tls_refuses_all_else() -> None:
    asked = (option(LIST), go(b""), option(STRUCTURED), meta(*CONTEXTS))
    assert kinds(*asked, tls=TlsMode.REQUIRED) == [ERROR | 5] * 4
    by_name = negotiate(option(EXPORT_NAME, b"disk"), tls=TlsMode.REQUIRED)
    assert isinstance(by_name[-1], Ended)


messages = st.one_of(
    st.builds(option, st.integers(0, 12), st.binary(max_size=40)),
    st.sampled_from(
        [go(b""), go(b"nope"), option(STRUCTURED), meta(*CONTEXTS), option(LIST), option(STARTTLS)]
    ),
    st.binary(max_size=40),
)


@given(data=st.lists(messages, max_size=8).map(b"".join), cuts=st.data())
def test_anything_is_survived_and_how_it_is_cut_makes_no_difference(
    data: bytes, cuts: st.DataObject
) -> None:
    data = flags() + data
    at_once = Handshake(lambda: [DISK])
    expected = merged(at_once.receive(data))

    piecewise = Handshake(lambda: [DISK])
    events: list[Event] = []
    position = 0
    while position < len(data) and not any(isinstance(e, Ended | Agreement) for e in events):
        size = cuts.draw(st.integers(1, 20))
        events += piecewise.receive(data[position : position + size])
        position += size
    assert merged(events) == expected
    assert at_once.trailing.startswith(piecewise.trailing)
