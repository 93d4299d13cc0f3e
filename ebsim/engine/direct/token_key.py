"""The key that a region's tokens are made with.

A file beside the metadata and not a row in it, so that tokens stay good when the metadata
is made anew.  Only its owner can read it.  Lost or damaged it is made anew: then the
tokens that were given out are good for nothing, and whoever has one lists again.
"""

from contextlib import suppress

from ebsim.durable_files import NewFile
from ebsim.engine.direct.tokens import KEY_SIZE
from ebsim.engine.region import Region

TOKEN_KEY = "block_tokens.key"


def load_token_key(region: Region) -> bytes:
    """The region's key, made if there is none."""
    while True:
        found = _read(region)
        if found is not None and len(found) == KEY_SIZE:
            return found
        new_file = NewFile(region.files, region.path / TOKEN_KEY, is_private=True)
        try:
            new_file.append([region.random.randbytes(KEY_SIZE)])
            # Of two processes that make one, the second takes the first one's.
            with suppress(FileExistsError):
                new_file.publish(replace=found is not None)
        finally:
            new_file.discard()


def _read(region: Region) -> bytes | None:
    path = region.path / TOKEN_KEY
    if region.files.status(path) is None:
        return None
    descriptor = region.files.open_to_read(path)
    try:
        return region.files.read(descriptor, 0, KEY_SIZE + 1)
    finally:
        region.files.close(descriptor)
