"""The rows of the volumes' table, and what each must reach."""

from benchmarks.table import Row, Table

OPEN_MS_MAX = 50
OPEN_GROWTH_MAX = 1.2
SEQUENTIAL_LEAST = 0.5
READ_LEAST = 0.7
WRITE_LEAST = 0.6
COLD_MAX = 1.3
HYDRATION_LEAST = 0.7
STREAM_LEAST = 1.0
PAUSE_MS_MAX = 20
SET_PAUSE_MS_MAX = 50
SERVING_MIB_MAX = 200

ROWS = (
    Row("open", "a volume made from a snapshot of 16 TiB, until an NBD client has its first byte",
        "under 50 ms"),
    Row("open_growth", "... beside the same at 1 GiB", "at most 1.2 times"),
    Row("sequential", "sequential reads of 1 MiB, one connection, depth 16, a volume that is all "
        "here, of the speed of nbdkit's memory plugin", "at least 0.5"),
    Row("random_read", "random reads of 4 KiB, depth 16, of the speed of qemu-nbd on a raw file",
        "at least 0.7"),
    Row("random_write", "random writes of 4 KiB with a flush after every 64, the same",
        "at least 0.6"),
    Row("cold_read", "random reads of blocks that are in the store only, beside fetching and "
        "decoding the same chunks directly", "at most 1.3 times"),
    Row("hydration", "`volume initialize --wait`, whole command, of the speed of `restore`",
        "at least 0.7"),
    Row("hydration_stream", "... of the speed of qemu's `block-stream` over a qcow2 image "
        "compressed with zstd", "at least 1"),
    Row("pause", "how long a snapshot holds up a volume's writes, under full write load, 99th "
        "percentile", "under 20 ms"),
    Row("pause_set", "... those of a set of 8", "under 50 ms"),
    Row("serving", "peak memory of the process that serves a volume of 16 TiB",
        "at most 200 MiB"),
)  # fmt: skip

VOLUMES = Table("volumes", ROWS)
