"""The numbers and layouts of the Network Block Device protocol; all big-endian.

    request (28 bytes)                       structured reply chunk (20 bytes)
    0   4  magic   25609513                  0   4  magic   668e33ef
    4   2  flags                             4   2  flags   bit 0: last chunk of the reply
    6   2  type    0 read, 1 write,          6   2  type    bit 15: an error
           2 disconnect, 3 flush, 4 trim,    8   8  cookie  the request's
           5 cache, 6 write zeroes,          16  4  length of the payload
           7 block status
    8   8  cookie                            simple reply (16 bytes)
    16  8  offset                            0   4  magic   67446698
    24  4  length                            4   4  error   0: none
                                             8   8  cookie  the request's
    option (16 bytes)
    0   8  magic   "IHAVEOPT"                option reply (20 bytes)
    8   4  option                            0   8  magic   0003e889045565a9
    12  4  length of the data                8   4  the option answered
                                             12  4  type    bit 31: an error
                                             16  4  length of the payload

Names are the specification's, without ``NBD_``.

Source:
    https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

import struct

GREETING_MAGIC = b"NBDMAGIC"
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK_MAGIC = 0x668E33EF

GREETING = struct.Struct(">8s8sH")
OPTION = struct.Struct(">8sII")
OPTION_REPLY = struct.Struct(">QIII")
EXPORT_INFO = struct.Struct(">HQH")
BLOCK_SIZE_INFO = struct.Struct(">HIII")
REQUEST = struct.Struct(">IHHQQI")
SIMPLE_REPLY = struct.Struct(">IIQ")
CHUNK = struct.Struct(">IHHQI")
DATA_CHUNK = struct.Struct(">IHHQIQ")
OFFSET = struct.Struct(">Q")
HOLE = struct.Struct(">QI")
ERROR_TEXT = struct.Struct(">IH")
DESCRIPTOR = struct.Struct(">II")
LENGTH = struct.Struct(">I")
assert REQUEST.size == 28, "the table above and the struct must agree"
assert OPTION_REPLY.size == CHUNK.size == 20, "the table above and the structs must agree"

HANDSHAKE_FIXED_NEWSTYLE = 1 << 0
HANDSHAKE_NO_ZEROES = 1 << 1

OPTION_EXPORT_NAME = 1
OPTION_ABORT = 2
OPTION_LIST = 3
OPTION_STARTTLS = 5
OPTION_INFO = 6
OPTION_GO = 7
OPTION_STRUCTURED_REPLY = 8
OPTION_LIST_META_CONTEXT = 9
OPTION_SET_META_CONTEXT = 10

REPLY_ACK = 1
REPLY_SERVER = 2
REPLY_INFO = 3
REPLY_META_CONTEXT = 4
REPLY_ERROR_BIT = 1 << 31
REPLY_ERROR_UNSUPPORTED = REPLY_ERROR_BIT | 1
REPLY_ERROR_POLICY = REPLY_ERROR_BIT | 2
REPLY_ERROR_INVALID = REPLY_ERROR_BIT | 3
REPLY_ERROR_TLS_REQUIRED = REPLY_ERROR_BIT | 5
REPLY_ERROR_UNKNOWN = REPLY_ERROR_BIT | 6
REPLY_ERROR_TOO_BIG = REPLY_ERROR_BIT | 9

INFO_EXPORT = 0
INFO_NAME = 1
INFO_DESCRIPTION = 2
INFO_BLOCK_SIZE = 3

TRANSMISSION_HAS_FLAGS = 1 << 0
TRANSMISSION_READ_ONLY = 1 << 1
TRANSMISSION_SEND_FLUSH = 1 << 2
TRANSMISSION_SEND_FUA = 1 << 3
TRANSMISSION_SEND_TRIM = 1 << 5
TRANSMISSION_SEND_WRITE_ZEROES = 1 << 6
TRANSMISSION_SEND_DF = 1 << 7
TRANSMISSION_MULTI_CONN = 1 << 8
TRANSMISSION_SEND_CACHE = 1 << 10
TRANSMISSION_SEND_FAST_ZERO = 1 << 11

COMMAND_READ = 0
COMMAND_WRITE = 1
COMMAND_DISCONNECT = 2
COMMAND_FLUSH = 3
COMMAND_TRIM = 4
COMMAND_CACHE = 5
COMMAND_WRITE_ZEROES = 6
COMMAND_BLOCK_STATUS = 7

FLAG_FUA = 1 << 0
FLAG_NO_HOLE = 1 << 1
FLAG_DO_NOT_FRAGMENT = 1 << 2
FLAG_REQUEST_ONE = 1 << 3
FLAG_FAST_ZERO = 1 << 4

CHUNK_DONE = 1 << 0
CHUNK_NONE = 0
CHUNK_OFFSET_DATA = 1
CHUNK_OFFSET_HOLE = 2
CHUNK_BLOCK_STATUS = 5
CHUNK_ERROR_BIT = 1 << 15
CHUNK_ERROR = CHUNK_ERROR_BIT | 1

STATE_HOLE = 1 << 0
STATE_ZERO = 1 << 1

# "Error values": a list of the protocol's own, whatever the system's errno says.
EPERM = 1
EIO = 5
ENOMEM = 12
EINVAL = 22
ENOSPC = 28
EOVERFLOW = 75
ESHUTDOWN = 108

BASE_ALLOCATION = b"base:allocation"

# Section "Strings": no longer than this.
STRING_BYTES_MAX = 4096
# An error's message is at most 65535 bytes, with 14 bytes of numbers about it.
ERROR_BYTES_MAX = (64 << 10) + 13


def encode_string(text: bytes) -> bytes:
    """A string with its length before it (section "Strings")."""
    return LENGTH.pack(len(text)) + text
