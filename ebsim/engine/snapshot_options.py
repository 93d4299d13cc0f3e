"""How a snapshot is taken, and what is refused whatever the store holds."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ebsim.content.compression import LEVEL_DEFAULT
from ebsim.engine.source_volume import check_block_size, refuse_store_as_source
from ebsim.engine.tags import check_description, check_tags
from ebsim.errors import VolumeNotFound
from ebsim.ids import is_id_prefix
from ebsim.sources.open_source import open_source


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOptions:
    """How a snapshot is taken.

    Attributes:
        copies_volume_tags: Take over the volume's tags; those of *tags* are stronger.
        is_announced: Somebody is told of it while it is pending, by ``on_begun``: if the process
            dies it stays listed, as failed.
        block_size: Bytes, for a volume's first snapshot; ``None`` is 512 KiB, or the
            volume's.
        level: Of zstd, -7 to 19.
        rehash: Compare every block by digest.
        image_format: What to read the source as; found out otherwise.
        allow_backing_file: Let an image name the file that it is based on.
        thread_count: Threads that read, hash and compress; ``None`` is one a processor.
        system_tags: Tags that nobody could set, by which what made it knows it again.
    """

    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    copies_volume_tags: bool = False
    is_announced: bool = False
    block_size: int | None = None
    level: int = LEVEL_DEFAULT
    rehash: bool = False
    image_format: str | None = None
    allow_backing_file: bool = False
    thread_count: int | None = None
    system_tags: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse what makes no sense, whatever the source is."""
        check_tags(self.tags)
        check_description(self.description)
        if self.block_size is not None:
            check_block_size(self.block_size)


def check_first_snapshot(source_name: str, options: SnapshotOptions) -> None:
    """Refuse a first snapshot that cannot be taken, before there is a store for it.

    Raises:
        SourceUnusable, InvalidRequest, MissingTool: as :func:`create_snapshot`.
        VolumeNotFound: *source_name* is a volume's id.
    """
    options.check()
    if is_id_prefix(source_name, "vol") and not Path(source_name).exists():
        raise VolumeNotFound(source_name)
    source = open_source(
        source_name, format=options.image_format, allow_backing_file=options.allow_backing_file
    )
    with closing(source):
        refuse_store_as_source(source.location)
