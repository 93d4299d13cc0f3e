"""The libfuse that serves a mount, and the program that unmounts it.

mfusepy takes libfuse 2 where both are installed.  That one knows no requests above 128 KiB
and wants other options, so libfuse 3 is asked for by name.  mfusepy can be told so only by
a variable of the environment, which is set back when it has been read.
"""

import importlib
import os
import shutil
from pathlib import Path
from types import ModuleType

from ebsim.errors import MissingTool

_LIBRARY_VARIABLE = "FUSE_LIBRARY_NAME"
_PURPOSE = "Mounting by FUSE"
_PACKAGE = "fuse3"
_UNMOUNTER = "fusermount3"
_CONFIGURATION = Path("/etc/fuse.conf")


def load_library() -> ModuleType:
    """The module mfusepy, bound to libfuse 3.

    Raises:
        MissingTool: one of the two is not installed.
    """
    before = os.environ.get(_LIBRARY_VARIABLE)
    os.environ[_LIBRARY_VARIABLE] = "fuse3"
    try:
        library = importlib.import_module("mfusepy")
    except ImportError as error:
        raise MissingTool(
            tool="mfusepy",
            package="ebsim[fuse]",
            purpose=_PURPOSE,
            installer="pip install",
        ) from error
    except (OSError, AttributeError) as error:  # no libfuse, or one that is too old
        raise _lacks_libfuse() from error
    finally:
        del os.environ[_LIBRARY_VARIABLE]
        if before is not None:
            os.environ[_LIBRARY_VARIABLE] = before
    if library.fuse_version_major != 3:
        raise _lacks_libfuse()
    return library


def find_unmounter() -> str:
    """The path of ``fusermount3``, which libfuse needs as well where it is not root's.

    Raises:
        MissingTool: it is not installed.
    """
    path = shutil.which(_UNMOUNTER)
    if path is None:
        raise MissingTool(tool=_UNMOUNTER, package=_PACKAGE, purpose=_PURPOSE)
    return path


def may_let_root_in(user_id: int) -> bool:
    """Whether *user_id*, who is not root, may show a mount to root, who sets up loop devices.

    Source:
        mount.fuse3(8): ``user_allow_other`` on a line of its own in ``/etc/fuse.conf``.
    """
    try:
        lines = _CONFIGURATION.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return user_id != 0 and "user_allow_other" in {line.strip() for line in lines}


def _lacks_libfuse() -> MissingTool:
    return MissingTool(tool="libfuse3", package=_PACKAGE, purpose=_PURPOSE)
