"""The service: the table 'service' in ``benchmarks/README.md``.

    python -m benchmarks.service [--dir DIR] [--rows transfer,listing,describing] [--runs 5]

Prints the table and writes ``results/service.json``; ``python -m benchmarks.readme`` then
brings the README up to date.  Needs no images; the rows beside moto's server need
``moto_server`` (``pip install 'moto[server]'``), and are left out without.
"""

import sys
from collections.abc import Sequence

from benchmarks.describe_rows import describe_figures
from benchmarks.listing_rows import listing_figures
from benchmarks.measured_table import Groups, measure_table
from benchmarks.service_table import SERVICE
from benchmarks.transfer_rows import transfer_figures

GROUPS: Groups = {
    "transfer": lambda setting: transfer_figures(
        setting.images.folder, setting.seed, setting.runs
    ),
    "listing": lambda setting: listing_figures(setting.images.folder, setting.runs),
    "describing": lambda setting: describe_figures(setting.images.folder, setting.runs),
}

SMALL_GROUPS: Groups = {
    "transfer": lambda setting: transfer_figures(
        setting.images.folder, setting.seed, setting.runs, block_count=64
    ),
    "listing": lambda setting: listing_figures(
        setting.images.folder, setting.runs, block_count=1 << 17, leaf_counts=(900, 90)
    ),
    "describing": lambda setting: describe_figures(
        setting.images.folder, setting.runs, snapshot_count=1000, page_size=100, filtered_count=10
    ),
}


def main(arguments: Sequence[str]) -> None:
    measure_table(SERVICE, GROUPS, arguments, used_images=None)


if __name__ == "__main__":
    main(sys.argv[1:])
