"""Spoil files the way instruments, transfers and people do."""

from __future__ import annotations

import os
import shutil
import struct
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes
from icestream.io.mrc import HEADER_BYTES, header_layout

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "drop_frames",
    "duplicate_name",
    "empty",
    "rewrite",
    "skew_clock",
    "truncate",
    "zero_tail",
]


def truncate(path: Path, *, share: float) -> None:
    """Cut a file short, as a transfer that died does.

    Parameters
    ----------
    path
        The file.
    share
        Of its bytes that stay, above 0 and below 1.

    Raises
    ------
    BadSettings
        A share out of range.
    FolderUnavailable
        The file could not be changed.
    """
    kept_bytes = int(_size_bytes(path) * _checked_share(share))
    with guarding_writes(path):
        os.truncate(path, kept_bytes)


def empty(path: Path) -> None:
    """Leave nothing but the name.

    Raises
    ------
    FolderUnavailable
        The file could not be changed.
    """
    with guarding_writes(path):
        os.truncate(path, 0)


def zero_tail(path: Path, *, share: float) -> None:
    """Fill the end with zeros at the same length, as a file allocated in full has it.

    Parameters
    ----------
    path
        The file.
    share
        Of its bytes that stay, above 0 and below 1.

    Raises
    ------
    BadSettings
        A share out of range.
    DiskFull, FolderUnavailable
        The file could not be changed.
    """
    size_bytes = _size_bytes(path)
    kept_bytes = int(size_bytes * _checked_share(share))
    with guarding_writes(path):
        os.truncate(path, kept_bytes)
        os.truncate(path, size_bytes)


def duplicate_name(path: Path, *, into: Path) -> None:
    """Copy a file under its own name into another folder: numbering began anew.

    Parameters
    ----------
    path
        The file.
    into
        The folder; made if absent.

    Raises
    ------
    BadSettings
        The folder has a file of this name.
    DiskFull, FolderUnavailable
        The copy could not be written.
    """
    copy = into / path.name
    if copy.exists():
        raise BadSettings(f"{copy} exists already.", hint="Choose another folder.")
    with guarding_writes(copy):
        into.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def rewrite(path: Path, *, source: Path) -> None:
    """Give a file the content of another one, in place, and the time of now.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be changed.
    """
    with guarding_writes(path):
        shutil.copyfile(source, path)


def skew_clock(path: Path, *, offset_s: float) -> None:
    """Move a file's time: the camera's clock is ahead (> 0) or behind.

    Raises
    ------
    FolderUnavailable
        The file could not be changed.
    """
    with guarding_writes(path):
        status = path.stat()
        offset_ns = round(offset_s * 1e9)
        times = (status.st_atime_ns + offset_ns, status.st_mtime_ns + offset_ns)
        os.utime(path, ns=times)


def drop_frames(path: Path, *, share: float) -> bool:
    """Leave fewer frames than the metadata say, in a file that is whole.

    Parameters
    ----------
    path
        Little-endian TIFF, BigTIFF or EER (the chain of directories ends early), or MRC
        (the header says fewer sections, and the file ends there).
    share
        Of its frames that go, above 0 and below 1; one at least goes and one stays.

    Returns
    -------
    bool
        Whether any went: not from a file of one frame.

    Raises
    ------
    BadSettings
        A share out of range.
    DiskFull, FolderUnavailable
        The file could not be changed.
    """
    _checked_share(share)
    with guarding_writes(path), path.open("r+b") as file:
        if file.read(2) == b"II":
            return _end_chain(file, share)
        return _lower_sections(file, share)


def _kept(frames: int, share: float) -> int:
    return max(1, frames - max(1, round(frames * share)))


def _end_chain(file: BinaryIO, share: float) -> bool:
    """Unlink the last directories of a little-endian TIFF."""
    file.seek(0)
    is_big = struct.unpack("<2xH", file.read(4))[0] == 43
    number, entry_bytes, offset = ("<Q", 20, "<Q") if is_big else ("<H", 12, "<I")
    links = [8 if is_big else 4]
    while position := _unpacked(file, offset, links[-1]):
        entries = _unpacked(file, number, position)
        links.append(position + struct.calcsize(number) + entries * entry_bytes)
    frames = len(links) - 1
    if frames < 2:
        return False
    file.seek(links[_kept(frames, share)])
    file.write(struct.pack(offset, 0))
    return True


def _unpacked(file: BinaryIO, layout: str, offset: int) -> int:
    file.seek(offset)
    value: int = struct.unpack(layout, file.read(struct.calcsize(layout)))[0]
    return value


def _lower_sections(file: BinaryIO, share: float) -> bool:
    """Change the number of sections of an MRC, and end the file after the last one."""
    file.seek(0)
    header = np.frombuffer(bytearray(file.read(HEADER_BYTES)), header_layout("<"))
    sections = int(header["shape_xyz"][0, 2])
    if sections < 2:
        return False
    count = _kept(sections, share)
    begin_bytes = HEADER_BYTES + int(header["extended_bytes"][0])
    section_bytes = (file.seek(0, os.SEEK_END) - begin_bytes) // sections
    header["shape_xyz"][0, 2] = count
    file.seek(0)
    file.write(header.tobytes())
    file.truncate(begin_bytes + count * section_bytes)
    return True


def _size_bytes(path: Path) -> int:
    with guarding_writes(path):
        return path.stat().st_size


def _checked_share(share: float) -> float:
    if not 0 < share < 1:
        raise BadSettings(f"A share of {share} cannot be.", hint="Give 0 < share < 1.")
    return share
