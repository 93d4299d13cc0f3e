"""The rows of the analysis, and what each must reach."""

from benchmarks.table import Row, Table

HASHING_LEAST = 0.5
ANALYSIS_MIB_MAX = 300
LARGE_MIB_MAX = 1024

ANALYSIS = Table(
    "analysis",
    (
        Row("hashing", "`ebsim analyze` of an image at every block size, without starting a "
            "process, of a two-thread `preadv` loop that hashes 4 KiB blocks with XXH3 alone",
            "at least 0.5"),
        Row("analysis_memory", "peak memory of `ebsim analyze` of 4 GiB without a zero",
            "under 300 MiB"),
        Row("large_memory", "peak memory of `ebsim analyze` of 256 GiB, 134 million blocks of all "
            "sizes, seven of eight different; from parts made by seed, so nothing is read",
            "at most 1 GiB"),
    ),
)  # fmt: skip
