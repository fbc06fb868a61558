"""Spoil files the way instruments, transfers and people do, and say what was done."""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np

from icestream.domain.errors import BadSettings
from icestream.io import guarding_writes
from icestream.io.mrc import HEADER_BYTES, header_layout

__all__ = [
    "Fault",
    "FaultKind",
    "delay",
    "deliver",
    "drop_frames",
    "duplicate_name",
    "empty",
    "remove",
    "rewrite",
    "skew_clock",
    "truncate",
    "zero_tail",
]

FaultKind: TypeAlias = Literal[
    "truncated",
    "empty",
    "duplicate_name",
    "rewritten",
    "late",
    "missing",
    "wrong_frame_count",
    "clock_skew",
    "zero_tail",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that was done to one file.

    Parameters
    ----------
    kind
        What.
    path
        To which file, where it is, or was to be.
    detail
        How much, or where else; for `deliver` where a late file waits.
    """

    kind: FaultKind
    path: Path
    detail: str


def truncate(path: Path, *, share: float) -> Fault:
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
    size_bytes = _size_bytes(path)
    kept_bytes = int(size_bytes * _checked_share(share))
    with guarding_writes(path):
        os.truncate(path, kept_bytes)
    return Fault("truncated", path, f"{kept_bytes} of {size_bytes} bytes")


def empty(path: Path) -> Fault:
    """Leave nothing but the name.

    Raises
    ------
    FolderUnavailable
        The file could not be changed.
    """
    size_bytes = _size_bytes(path)
    with guarding_writes(path):
        os.truncate(path, 0)
    return Fault("empty", path, f"0 of {size_bytes} bytes")


def zero_tail(path: Path, *, share: float) -> Fault:
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
    return Fault("zero_tail", path, f"zeros after {kept_bytes} of {size_bytes} bytes")


def duplicate_name(path: Path, *, into: Path) -> Fault:
    """Copy a file under its own name into another folder: numbering began anew.

    Parameters
    ----------
    path
        The file.
    into
        The folder; made if absent.

    Returns
    -------
    Fault
        Of the copy.

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
    return Fault("duplicate_name", copy, f"same name as {path}")


def rewrite(path: Path, *, source: Path) -> Fault:
    """Give a file the content of another one, in place, and the time of now.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be changed.
    """
    with guarding_writes(path):
        shutil.copyfile(source, path)
    return Fault("rewritten", path, f"now the content of {source}")


def remove(path: Path) -> Fault:
    """Take a file away for good, such as the XML beside a movie.

    Raises
    ------
    FolderUnavailable
        The file could not be removed.
    """
    with guarding_writes(path):
        path.unlink()
    return Fault("missing", path, "never written")


def delay(path: Path, *, aside: Path) -> Fault:
    """Hold a file back until `deliver` brings it.

    Parameters
    ----------
    path
        The file.
    aside
        Where it waits: a folder on the same disk that nobody watches; made if absent.

    Raises
    ------
    FolderUnavailable
        The file could not be moved.
    """
    waiting = aside / path.name
    with guarding_writes(waiting):
        aside.mkdir(parents=True, exist_ok=True)
        path.replace(waiting)
    return Fault("late", path, str(waiting))


def deliver(fault: Fault) -> Path:
    """Bring a file that `delay` held back; return where it is.

    Raises
    ------
    BadSettings
        The fault is of another kind.
    FolderUnavailable
        The file could not be moved.
    """
    if fault.kind != "late":
        raise BadSettings(
            f"{fault.path} is {fault.kind}, not late.",
            hint="Deliver what delay() returned.",
        )
    with guarding_writes(fault.path):
        Path(fault.detail).replace(fault.path)
    return fault.path


def skew_clock(path: Path, *, offset_s: float) -> Fault:
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
    return Fault("clock_skew", path, f"{offset_s:+g} s")


def drop_frames(path: Path, *, count: int) -> Fault:
    """Leave fewer frames than the metadata say, in a file that is whole.

    Parameters
    ----------
    path
        Little-endian TIFF, BigTIFF or EER (the chain of directories ends early), or MRC
        (the header says fewer sections, and the file ends there).
    count
        Frames that stay: 1 or more, fewer than there are.

    Raises
    ------
    BadSettings
        Not so many frames are there.
    DiskFull, FolderUnavailable
        The file could not be changed.
    """
    with guarding_writes(path), path.open("r+b") as file:
        if file.read(2) == b"II":
            _end_chain(file, path, count)
        else:
            file.truncate(_lower_sections(file, path, count))
    return Fault("wrong_frame_count", path, f"{count} frames")


def _end_chain(file: BinaryIO, path: Path, count: int) -> None:
    """Unlink the directories of a little-endian TIFF from the ``count``-th on."""
    file.seek(0)
    is_big = struct.unpack("<2xH", file.read(4))[0] == 43
    number, entry_bytes, offset = ("<Q", 20, "<Q") if is_big else ("<H", 12, "<I")
    link = 8 if is_big else 4
    for _ in range(count):
        position = _unpacked(file, offset, link)
        if position == 0:
            raise _too_few(path, count)
        entries = _unpacked(file, number, position)
        link = position + struct.calcsize(number) + entries * entry_bytes
    if _unpacked(file, offset, link) == 0 or count < 1:
        raise _too_few(path, count)
    file.seek(link)
    file.write(struct.pack(offset, 0))


def _unpacked(file: BinaryIO, layout: str, offset: int) -> int:
    file.seek(offset)
    value: int = struct.unpack(layout, file.read(struct.calcsize(layout)))[0]
    return value


def _lower_sections(file: BinaryIO, path: Path, count: int) -> int:
    """Change the number of sections; return where the last one ends."""
    file.seek(0)
    header = np.frombuffer(bytearray(file.read(HEADER_BYTES)), header_layout("<"))
    sections = int(header["shape_xyz"][0, 2])
    if not 1 <= count < sections:
        raise _too_few(path, count)
    header["shape_xyz"][0, 2] = count
    file.seek(0)
    file.write(header.tobytes())
    begin_bytes = HEADER_BYTES + int(header["extended_bytes"][0])
    section_bytes = (file.seek(0, os.SEEK_END) - begin_bytes) // sections
    return begin_bytes + count * section_bytes


def _too_few(path: Path, count: int) -> BadSettings:
    return BadSettings(
        f"{path} cannot be left with {count} frames.",
        hint="Keep 1 or more, and fewer than it has.",
    )


def _size_bytes(path: Path) -> int:
    with guarding_writes(path):
        return path.stat().st_size


def _checked_share(share: float) -> float:
    if not 0 < share < 1:
        raise BadSettings(f"A share of {share} cannot be.", hint="Give 0 < share < 1.")
    return share
