"""What kind of file system a path lies on: a ledger needs a local one."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["file_system_of", "is_network"]

_NETWORK = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs"),
        *("gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs"),
        *("panfs", "pvfs2", "smb3", "smbfs", "wekafs"),
        *("fuse.ceph", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    }
)


_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system_of(path: Path, *, mounts: str | None = None) -> str:
    """Return the type of the file system that a path lies, or would lie, on.

    Parameters
    ----------
    path
        Any path; it need not exist.
    mounts
        Text in the format of ``/proc/self/mountinfo``; read from there by default.

    Returns
    -------
    str
        The kernel's name, e.g. ``ext4`` or ``nfs4``; empty where it is not known.
    """
    if mounts is None:
        table = Path("/proc/self/mountinfo")
        if not table.exists():
            return ""
        mounts = table.read_text(encoding="utf-8", errors="surrogateescape")
    target = path.resolve()
    best, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        if not right:
            continue
        mount = Path(_OCTAL.sub(_character, left.split()[4]))
        depth = len(mount.parts)
        if depth >= best and (mount == target or mount in target.parents):
            best, kind = depth, right.split()[0]
    return kind


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))


def is_network(kind: str) -> bool:
    """Whether a file system of this type is shared between machines."""
    return kind in _NETWORK
