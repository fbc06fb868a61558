"""Every error that icestream raises on purpose.

::

    IcestreamError
    ├── ItemError                  the item's fault: it is set aside, the stream goes on
    │   ├── UnreadableFile         not a file of its kind, damaged, no permission
    │   │   └── IncompleteFile     cut short: perhaps still being written
    │   ├── UnusableImage          decoded, but NaN, constant or of a wrong type
    │   ├── CtfNotFound            no Thon ring stands above the noise
    │   ├── NoParticles            nothing to extract
    │   └── ProgramFailed          another program broke off, or took too long
    ├── SessionError               the session's fault: it pauses and asks
    │   ├── BadSettings            a setting, parameter or workflow that cannot be
    │   ├── FolderUnavailable      a folder that cannot be listed or written
    │   ├── DiskFull               no space or no quota left
    │   ├── SessionInUse           another service holds the writer's lock
    │   ├── ServiceUnreachable     no service answers on the session's socket
    │   ├── SourceUnavailable      a session was to finish, but a source stayed away
    │   └── LedgerUnusable         on a network file system, newer, or damaged
    └── InternalError              ours: crash loudly

A message says what happened, to which file or value, and (the hint) what to do next.
What the system says of a file that cannot be written is put in our words by
`cannot_write`, for every folder alike.
"""

from __future__ import annotations

import errno
from pathlib import PurePath

__all__ = [
    "BadSettings",
    "CtfNotFound",
    "DiskFull",
    "FolderUnavailable",
    "IcestreamError",
    "IncompleteFile",
    "InternalError",
    "ItemError",
    "LedgerUnusable",
    "NoParticles",
    "ProgramFailed",
    "ServiceUnreachable",
    "SessionError",
    "SessionInUse",
    "SourceUnavailable",
    "UnreadableFile",
    "UnusableImage",
    "cannot_write",
]


class IcestreamError(Exception):
    """The root: ``what`` happened to which file or value, and a ``hint`` what to do."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} {self.hint}".strip()

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.hint)


def _rebuild(kind: type[IcestreamError], what: str, hint: str) -> IcestreamError:
    return kind(what, hint=hint)


class ItemError(IcestreamError):
    """The item's fault: it is set aside with its reason, the stream goes on."""


class UnreadableFile(ItemError):
    """A file is not of its kind, is damaged, or may not be read."""


class IncompleteFile(UnreadableFile):
    """A file ends too early or in zeros: perhaps it is still being written."""


class UnusableImage(ItemError):
    """An image was decoded but holds NaN, one constant value or a wrong type."""


class CtfNotFound(ItemError):
    """No Thon ring stands above the noise between the resolution limits."""


class NoParticles(ItemError):
    """There is nothing to extract."""


class ProgramFailed(ItemError):
    """Another program left with an error, was ended by a signal, or took too long."""


class SessionError(IcestreamError):
    """The session's fault: it pauses and asks."""


class BadSettings(SessionError):
    """A setting, a parameter or a workflow that cannot be."""


class FolderUnavailable(SessionError):
    """A folder that cannot be listed or written."""


class DiskFull(SessionError):
    """No space or no quota is left."""


class SessionInUse(SessionError):
    """Another service holds the session's writer lock."""


class ServiceUnreachable(SessionError):
    """No service answers on the session's socket."""


class SourceUnavailable(SessionError):
    """A session was to finish, but a source could not be looked at to the end."""


class LedgerUnusable(SessionError):
    """A ledger on a network file system, of a newer version, or damaged."""


class InternalError(IcestreamError):
    """A promise of our own code was broken."""


_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_NO_FOLDER = (errno.EEXIST, errno.ENOTDIR)


def cannot_write(
    path: PurePath | str, error: OSError, *, instead: str = "choose another"
) -> SessionError:
    """Return what to raise where a file or a folder cannot be made or written.

    Parameters
    ----------
    path
        The file or folder, for the message; it is not looked at.
    error
        What the system says. Where it names a file, that lies in the folder at fault: a
        folder may be there itself, and what is above it too, and only one of them shut.
    instead
        What else can be done, e.g. ``name another with ...``.

    Returns
    -------
    DiskFull or FolderUnavailable
        No space or quota is left; or the folder is absent, read-only, not ours, or its
        disk fails.
    """
    culprit = error.filename if isinstance(error.filename, str) else path
    folder = str(PurePath(culprit).parent)
    folder = "its folder" if folder == "." else folder
    what = f"{path} cannot be written: {error.strerror or error}."
    if error.errno in _FULL:
        return DiskFull(what, hint=f"Free space or quota of {folder}, then go on.")
    if error.errno == errno.EROFS:
        hint = f"Have the disk of {folder} mounted for writing, or {instead}."
    elif error.errno in _FORBIDDEN:
        hint = f"Get permission to write in {folder}, or {instead}."
    elif error.errno in _NO_FOLDER:
        what = f"{path} cannot be written: {culprit} is no folder, or lies in none."
        hint = f"{instead[:1].upper()}{instead[1:]}."
    else:
        hint = f"Check that {folder} exists and may be written, or {instead}."
    return FolderUnavailable(what, hint=hint)
