"""What a server answers in the transmission phase, as bytes.

Successes other than a read's and a block status's are simple replies, which are allowed
among structured ones too and are shorter.  Errors say in words what is wrong where
structured replies were agreed.

Source:
    https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md, sections "Simple reply
    message" and "Structured reply types"
"""

from collections.abc import Iterable, Mapping

from ebsim.nbd import wire


class ReplyEncoder:
    """Encodes the replies of one connection.

    Args:
        has_structured_replies: Whether the client agreed to them.
    """

    def __init__(self, *, has_structured_replies: bool) -> None:
        self._is_structured = has_structured_replies

    def data_head(self, cookie: int, offset_bytes: int, length: int) -> bytes:
        """What goes before the *length* bytes that were read: one chunk, and the last."""
        if not self._is_structured:
            return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, cookie)
        if length == 0:  # a data chunk has at least one byte
            return wire.CHUNK.pack(wire.CHUNK_MAGIC, wire.CHUNK_DONE, wire.CHUNK_NONE, cookie, 0)
        return wire.DATA_CHUNK.pack(
            wire.CHUNK_MAGIC,
            wire.CHUNK_DONE,
            wire.CHUNK_OFFSET_DATA,
            cookie,
            wire.OFFSET.size + length,
            offset_bytes,
        )

    def done(self, cookie: int) -> bytes:
        """The success of anything but a read or a block status."""
        return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, cookie)

    def error(self, cookie: int, error: int, message: str) -> bytes:
        """The end of a request that failed with one of section "Error values"."""
        if not self._is_structured:
            return wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, error, cookie)
        text = message.encode(errors="replace")[: wire.STRING_BYTES_MAX]
        text = text.decode(errors="ignore").encode()  # no half of a letter at the end
        payload = wire.ERROR_TEXT.pack(error, len(text)) + text
        return _chunk(cookie, wire.CHUNK_ERROR, payload, is_last=True)

    def block_status(self, cookie: int, ranges: Mapping[int, Iterable[tuple[int, int]]]) -> bytes:
        """For each context id its (length, state) descriptors, at least one each."""
        assert self._is_structured, "contexts cannot be selected without structured replies"
        chunks: list[bytes] = []
        for context_id, descriptors in ranges.items():
            payload = [wire.LENGTH.pack(context_id)]
            payload += [wire.DESCRIPTOR.pack(*descriptor) for descriptor in descriptors]
            chunks.append(
                _chunk(
                    cookie,
                    wire.CHUNK_BLOCK_STATUS,
                    b"".join(payload),
                    is_last=len(chunks) + 1 == len(ranges),
                )
            )
        return b"".join(chunks)


def _chunk(cookie: int, kind: int, payload: bytes, *, is_last: bool) -> bytes:
    flags = wire.CHUNK_DONE if is_last else 0
    return wire.CHUNK.pack(wire.CHUNK_MAGIC, flags, kind, cookie, len(payload)) + payload
