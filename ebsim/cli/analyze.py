"""``ebsim analyze``: what deduplication and compression would save."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from ebsim.cli.analysis_request import AnalysisRequest
from ebsim.cli.option_types import FormatType
from ebsim.cli.settings import Settings
from ebsim.errors import MissingTool

_PACKAGES = ("numpy", "polars", "pyfastcdc")


@click.command()
@click.argument("images", metavar="[IMAGE]...", nargs=-1, type=click.Path())
@click.option("--store", is_flag=True, help="Analyse every snapshot of the store.")
@click.option("--series", is_flag=True, help="The images are states of one disk, oldest first.")
@click.option(
    "--level",
    "levels",
    type=click.IntRange(-7, 19),
    multiple=True,
    default=(1,),
    show_default=True,
    help="A zstd level to compress a sample at; may be repeated, and the first counts.",
)
@click.option(
    "--format",
    "image_format",
    type=FormatType(),
    help="The images' format.  [default: what their bytes say]",
)
@click.option(
    "--allow-backing-file",
    is_flag=True,
    help="Let an image name another file that holds part of the disk.",
)
@click.option("--compress-all", is_flag=True, help="Compress every block, not a sample.")
@click.option(
    "--cdc",
    is_flag=True,
    help="Cut by content as well, at 64 KiB, 512 KiB and 1 MiB, in a second read.",
)
@click.option("--keep-going", is_flag=True, help="Leave out images that cannot be read.")
@click.option(
    "--executor",
    metavar="dask://HOST:PORT",
    help="Scan on a Dask cluster whose workers see the images at the same paths.",
)
@click.option(
    "--parts",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep what was scanned in DIR, and go on from what is there.",
)
@click.option(
    "--parquet",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write every block's digest to FILE, for other programs.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a page of charts to FILE.",
)
@click.pass_obj
def analyze(settings: Settings, /, **options: Any) -> None:
    """Measure what deduplication and compression save.

    An IMAGE is a disk image in any format, a device, a directory of images, a snapshot, or a
    volume for all its snapshots.  Each is read once, for block sizes from 4 KiB to 4 MiB side
    by side.  Needs the extra 'analyze'.

    \b
    Examples:
        ebsim analyze monday.img tuesday.img wednesday.img --series
        ebsim analyze images/ --keep-going --html report.html
        ebsim analyze --store
    """
    request = AnalysisRequest(**options)
    if not request.images and not request.store:
        raise click.UsageError("Name an image, or say --store.")
    _measures().run_analysis(settings, request)


def _measures() -> ModuleType:
    """What does it, loaded here: it needs packages that most commands do without."""
    try:
        return import_module("ebsim.cli.analyzed")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _PACKAGES:
            raise
        raise MissingTool(
            tool=error.name,
            package="'ebsim[analyze]'",
            purpose="analyze",
            installer="pip install",
        ) from error
