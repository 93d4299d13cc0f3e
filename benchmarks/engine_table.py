"""The rows of the engine's table, and what each must reach."""

from benchmarks.table import Row, Table

FIRST_LEAST = 0.85
UNCHANGED_LEAST = 0.4
RESTORE_LEAST = 0.7
COPY_LEAST = 0.7
START_SECONDS_MAX = 0.1
PEAK_MIB_MAX = 256
METADATA_KIB_MAX = 64
PATHS_MAX = 2
DIFF_MS_MAX = 5
ACKNOWLEDGE_MS_MAX = 50
GROWTH_MAX = 1.2
LEAF_US_MAX = 150
CHUNK_BYTES_MAX = 130
FILE_SHARE_MAX = 1.6

ROWS = (
    Row("first", "first snapshot of a root file system, whole command, of the speed of only "
        "compressing the same blocks", "at least 0.85, aim 0.95"),
    Row("first_data", "the same of a database volume", "at least 0.85, aim 0.95"),
    Row("unchanged", "snapshot of an unchanged image of 8 GiB, whole command, of a two-thread "
        "`preadv` loop over the same extents, hashing nothing", "at least 0.4"),
    Row("unchanged_verb", "the same without starting a process", ""),
    Row("restore", "restore to a file, whole command, of decompressing the same chunks or "
        "writing the same bytes, whichever is slower", "at least 0.7"),
    Row("copy", "copy to a new region, every block proved by its digest, of only reading and "
        "writing the same packs", "at least 0.7"),
    Row("version", "`ebsim --version`, processor time", "at most 100 ms"),
    Row("help", "`ebsim --help`, processor time", "at most 100 ms"),
    Row("memory", "peak memory of the hungriest command, 16 TiB sparse image with 200 000 "
        "scattered blocks", "at most 256 MiB"),
    Row("one_changed", "one changed block in a full 1 TiB volume (2 million blocks): new metadata",
        "at most 64 KiB"),
    Row("one_changed_paths", "... leaf paths read beyond the scan", "at most 2"),
    Row("diff", "diff of two snapshots of that volume, one block apart", "under 5 ms"),
    Row("scattered", "one changed block in each of 2000 leaves of that volume: transaction work "
        "a leaf, processor time", "at most 150 µs"),
    Row("scattered_memory", "... its peak memory beside that of one changed block",
        "flat: at most 1.2 times"),
    Row("remove", "`snapshot rm` acknowledged, the snapshot with most to free", "under 50 ms"),
    Row("remove_work", "... rows written and deleted a chunk freed, the whole volume beside "
        "2000 blocks", "at most 1.2 times"),
    Row("create_growth", "create at the 10 000th snapshot beside the 100th", "at most 1.2 times"),
    Row("list_growth", "list one page, the same", "at most 1.2 times"),
    Row("show_growth", "show, the same", "at most 1.2 times"),
    Row("delete_growth", "delete, the same", "at most 1.2 times"),
    Row("index", "live metadata a unique chunk at 2 million chunks", "at most 130 bytes"),
    Row("index_file", "... and its file beside that", "at most 1.6 times"),
)  # fmt: skip

ENGINE = Table("engine", ROWS)
