"""Which names objects may have: none that a directory could take for a way out of itself."""

import re

from ebsim.errors import Conflict, InvalidRequest

NAME_SIZE_MAX = 200
"""The longest an object's name may be, its folder not counted: temporary names add to it."""

_PART = r"[a-z0-9][a-z0-9.-]*"
_NAME = re.compile(rf"(?:{_PART}/)?({_PART})")
_FOLDER = re.compile(rf"(?:{_PART})?")


def is_object_name(name: str) -> bool:
    """Whether *name* is ``name`` or ``folder/name``, each beginning with a letter or digit."""
    match = _NAME.fullmatch(name)
    return match is not None and len(match[1]) <= NAME_SIZE_MAX


def check_object_name(name: str) -> None:
    if not is_object_name(name):
        raise InvalidRequest(
            f"'{name}' cannot name an object: lower-case letters, digits, '-', '.' and one '/' "
            f"after a folder, at most {NAME_SIZE_MAX} characters. Nothing was changed."
        )


def check_folder_name(folder: str) -> None:
    """Refuse what is neither a folder's name nor empty, which stands for no folder."""
    if _FOLDER.fullmatch(folder) is None:
        raise InvalidRequest(
            f"'{folder}' cannot name a folder: lower-case letters, digits, '-' and '.'. "
            "Nothing was changed."
        )


def name_taken(name: str) -> Conflict:
    return Conflict(
        f"an object named '{name}' exists, and objects are never overwritten. "
        "Nothing was changed. Write under another name."
    )
