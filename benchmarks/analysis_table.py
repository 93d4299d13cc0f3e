"""The rows of the analysis, and what each must reach."""

from benchmarks.table import Row, Table

HASHING_LEAST = 0.5
ANALYSIS_MIB_MAX = 300

ANALYSIS = Table(
    "analysis",
    (
        Row("hashing", "`ebsim analyze` of an image at every block size, without starting a "
            "process, of a two-thread `preadv` loop that hashes 4 KiB blocks with XXH3 alone",
            "at least 0.5"),
        Row("analysis_memory", "peak memory of `ebsim analyze` of 4 GiB without a zero",
            "under 300 MiB"),
    ),
)  # fmt: skip
