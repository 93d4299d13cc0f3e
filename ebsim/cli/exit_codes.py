"""What the process's exit code says.  Documented in README.md; a code never changes meaning."""

from enum import IntEnum

from ebsim import errors


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    INVALID_REQUEST = 5
    SOURCE_UNUSABLE = 6
    TARGET_UNUSABLE = 7
    INTEGRITY_ERROR = 8
    STORAGE_UNAVAILABLE = 9
    STORAGE_FULL = 10
    MISSING_TOOL = 11
    UNSUPPORTED_FORMAT = 12
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


_CODES: dict[type[errors.EbsimError], ExitCode] = {
    errors.NotFound: ExitCode.NOT_FOUND,
    errors.Conflict: ExitCode.CONFLICT,
    errors.InvalidRequest: ExitCode.INVALID_REQUEST,
    errors.SourceUnusable: ExitCode.SOURCE_UNUSABLE,
    errors.TargetUnusable: ExitCode.TARGET_UNUSABLE,
    errors.IntegrityError: ExitCode.INTEGRITY_ERROR,
    errors.StorageUnavailable: ExitCode.STORAGE_UNAVAILABLE,
    errors.StorageFull: ExitCode.STORAGE_FULL,
    errors.MissingTool: ExitCode.MISSING_TOOL,
    errors.UnsupportedFormat: ExitCode.UNSUPPORTED_FORMAT,
}


def exit_code_of(error: errors.EbsimError) -> ExitCode:
    """The code of the nearest class that has one; ``BUG`` for a bare ``EbsimError``."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return ExitCode.BUG
