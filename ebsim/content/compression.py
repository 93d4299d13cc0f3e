"""Codecs: how a chunk's bytes become a record's payload, and back."""

import threading
from enum import IntEnum

import zstandard

Buffer = bytes | bytearray | memoryview

LEVEL_DEFAULT = 1
LEVEL_MIN, LEVEL_MAX = -7, 19

# A payload that saves less than this share is not worth decoding on every read.
_LEAST_SAVING = 32


class Codec(IntEnum):
    """How a payload is encoded; the number is on disk."""

    STORED = 0
    ZSTD = 1


class CodecError(Exception):
    """A payload that its codec cannot decode; the store says where it lies."""


class _Contexts(threading.local):
    """Each thread's own zstd contexts: they may not be shared, and are costly to make."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_contexts = _Contexts()


def encode(data: Buffer, level: int) -> tuple[Codec, Buffer]:
    """*data* compressed at zstd *level*, or *data* itself where that does not pay."""
    compressor = _contexts.compressors.get(level)
    if compressor is None:
        # The digest proves the content; zstd's own checksum would be paid for twice.
        compressor = zstandard.ZstdCompressor(level=level, write_checksum=False)
        _contexts.compressors[level] = compressor
    payload = compressor.compress(data)
    if len(payload) + len(data) // _LEAST_SAVING >= len(data):
        return Codec.STORED, data
    return Codec.ZSTD, payload


def decode(codec: int, payload: Buffer, size_bytes: int) -> Buffer:
    """The chunk of exactly *size_bytes* in *payload*.

    Raises:
        CodecError: *payload* is no such thing.  Never returns more than *size_bytes*,
            whatever the payload claims.
    """
    if codec == Codec.STORED:
        data = payload
    elif codec == Codec.ZSTD:
        try:
            # Ask before decoding: a frame may claim any size, and would be given it.
            if zstandard.frame_content_size(payload) != size_bytes:
                raise CodecError("the zstd frame's size is not the chunk's")
            data = _contexts.decompressor.decompress(payload, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise CodecError(f"not a zstd frame: {error}") from error
    else:
        raise CodecError(f"codec {codec} is unknown")
    if len(data) != size_bytes:
        raise CodecError(f"{len(data)} bytes decoded, {size_bytes} expected")
    return data
