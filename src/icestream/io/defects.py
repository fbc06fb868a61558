"""Lists of a camera's defects: SerialEM's, MotionCor2's, and those in EER gains.

Each has its own idea of where rows begin. All end as a mask in RELION's order of rows,
in which row 0 is the last of a TIFF file and the first of MRC and EER:

==================  ============================================================
list                its rows
==================  ============================================================
SerialEM            count from the top of the camera: the last row of the mask
MotionCor2          count from the bottom: as the mask
EER gain (.gain)    count from the first row of that file: as the mask
==================  ============================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from icestream.domain.errors import UnreadableFile
from icestream.io.access import read_at, reading
from icestream.io.markup import BadXml, parse_xml_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["parse_defects_xml", "read_defects"]

_MOST_BYTES = 1 << 24
_LARGEST_SIDE_PX = 1 << 16
_MOST_NUMBERS = 1 << 20


def read_defects(path: Path, *, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read a list of defects as SerialEM or MotionCor2 has it.

    Parameters
    ----------
    path
        Text: ``CameraSizeX`` and other words of SerialEM's ``defects_*.txt``, or lines
        of x, y, width and height. Lines that begin with ``#`` say nothing.
    shape
        Rows and columns of the frames. SerialEM's list may be for half or twice as
        many; the other has to fit.

    Returns
    -------
    ndarray
        ``shape``, true where the camera is bad; rows in RELION's order.

    Raises
    ------
    UnreadableFile
        No such list, one with numbers that cannot be, or of another camera.

    Notes
    -----
    SerialEM writes its list in the orientation of the frames that it saves, so the
    word ``RotationAndFlip`` changes nothing here, as in IMOD's alignframes.
    """
    lines = [
        line.split()
        for line in _text(path).splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        return np.zeros(shape, dtype=bool)
    if lines[0][0][0].isalpha():
        return _fitted(_SerialemList(lines, path).mask(), shape, path)
    mask = np.zeros(shape, dtype=bool)
    for words in lines:
        x, y, width, height = _numbers(words, path, least=4, most=4)
        _mark(mask, (y, y + height), (x, x + width), path)
    return mask


def parse_defects_xml(
    text: str | bytes, *, shape: tuple[int, int], path: Path
) -> NDArray[np.bool_]:
    """Read the defects that an EER camera's ``.gain`` file has in a tag of its own.

    Parameters
    ----------
    text
        ``<defects>`` with ``row`` and ``col`` (numbers and ranges), ``area`` (first x
        and y, last x and y) and ``point`` (x, y).
    shape
        Rows and columns of the gain.
    path
        The file, for messages.

    Returns
    -------
    ndarray
        ``shape``, rows as stored.

    Raises
    ------
    UnreadableFile
        No such XML (as `parse_xml_bytes` has it), or numbers that cannot be.
    """
    raw = text.encode() if isinstance(text, str) else text
    try:
        root = parse_xml_bytes(raw.strip(b"\0 \r\n\t"))
    except BadXml as error:
        raise _bad(path, f"its XML cannot be read: {error}") from error
    mask = np.zeros(shape, dtype=bool)
    for element in root.iter():
        mark = _XML_MARKS.get(element.tag.lower().removeprefix("nonmasking"))
        if mark is not None:
            mark(mask, _ranges(element.text or "", path), path)
    return mask


def _mark(
    mask: NDArray[np.bool_], rows: tuple[int, int], columns: tuple[int, int], path: Path
) -> None:
    """Mark from the first up to before the second, both ways."""
    for (first, end), side in zip((rows, columns), mask.shape, strict=True):
        if not 0 <= first <= end <= side:
            raise _bad(
                path,
                f"it has a defect of rows {rows[0]} to {rows[1] - 1} and columns "
                f"{columns[0]} to {columns[1] - 1} on {mask.shape[0]} x "
                f"{mask.shape[1]} px",
            )
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True


def _mark_rows(mask: NDArray[np.bool_], numbers: list[int], path: Path) -> None:
    for row in set(numbers):
        _mark(mask, (row, row + 1), (0, mask.shape[1]), path)


def _mark_columns(mask: NDArray[np.bool_], numbers: list[int], path: Path) -> None:
    for column in set(numbers):
        _mark(mask, (0, mask.shape[0]), (column, column + 1), path)


def _mark_area(mask: NDArray[np.bool_], numbers: list[int], path: Path) -> None:
    x, y, last_x, last_y = _exactly(numbers, 4, path)
    _mark(mask, (y, last_y + 1), (x, last_x + 1), path)


def _mark_point(mask: NDArray[np.bool_], numbers: list[int], path: Path) -> None:
    x, y = _exactly(numbers, 2, path)
    _mark(mask, (y, y + 1), (x, x + 1), path)


_XML_MARKS: dict[str, Callable[[NDArray[np.bool_], list[int], Path], None]] = {
    "row": _mark_rows,
    "col": _mark_columns,
    "area": _mark_area,
    "point": _mark_point,
}


class _SerialemList:
    """The lines of a list of SerialEM: a word, then whole numbers."""

    def __init__(self, lines: list[list[str]], path: Path) -> None:
        self.path = path
        self.lines = [(words[0], words) for words in lines]
        height, width = self.one("CameraSizeY"), self.one("CameraSizeX")
        if not (0 < height <= _LARGEST_SIDE_PX and 0 < width <= _LARGEST_SIDE_PX):
            raise _bad(path, f"it is for a camera of {height} x {width} px")
        self.camera = np.zeros((height, width), dtype=bool)

    def one(self, word: str, default: int = 0) -> int:
        """Return the number behind a word."""
        found = [words for name, words in self.lines if name == word]
        if not found:
            return default
        return _numbers(found[-1][1:], self.path, least=1)[0]

    def all(self, word: str, least: int) -> list[list[int]]:
        """Return the numbers of all lines of a word."""
        return [
            _numbers(words[1:], self.path, least=least)
            for name, words in self.lines
            if name == word
        ]

    def mask(self) -> NDArray[np.bool_]:
        """Return the camera's mask; SerialEM counts rows from the top."""
        height, width = self.camera.shape
        for numbers in self.all("BadColumns", 1):
            _mark_columns(self.camera, numbers, self.path)
        for numbers in self.all("BadRows", 1):
            _mark_rows(self.camera, numbers, self.path)
        for column, thick, first, last in self.four("PartialBadColumn"):
            self.mark((first, last + 1), (column, column + thick))
        for row, thick, first, last in self.four("PartialBadRow"):
            self.mark((row, row + thick), (first, last + 1))
        # A pixel of a list that was scaled up stands for 2 x 2 or 4 x 4.
        side = {0: 1, 1: 2}.get(max(self.one("WasScaled"), 0), 4)
        for numbers in self.all("BadPixels", 2):
            if len(numbers) % 2:
                raise _bad(self.path, f"it has {len(numbers)} numbers in BadPixels")
            for x, y in zip(numbers[::2], numbers[1::2], strict=True):
                self.mark((y, min(y + side, height)), (x, min(x + side, width)))
        self.mark_outside()
        return self.camera[::-1]

    def four(self, word: str) -> list[list[int]]:
        """Return lines of four numbers."""
        return [_exactly(numbers, 4, self.path) for numbers in self.all(word, 4)]

    def mark(self, rows: tuple[int, int], columns: tuple[int, int]) -> None:
        """Mark an area of the camera."""
        _mark(self.camera, rows, columns, self.path)

    def mark_outside(self) -> None:
        """Mark what lies outside the usable area; a limit of 0 is none."""
        for numbers in self.all("UsableArea", 4):
            top, left, bottom, right = _exactly(numbers, 4, self.path)
            height, width = self.camera.shape
            self.mark((0, top), (0, width))
            self.mark((0, height), (0, left))
            self.mark((bottom + 1 if bottom else height, height), (0, width))
            self.mark((0, height), (right + 1 if right else width, width))


def _fitted(
    camera: NDArray[np.bool_], shape: tuple[int, int], path: Path
) -> NDArray[np.bool_]:
    """Return the mask at the size of the frames, which may be twice or half."""
    height, width = camera.shape
    if (height, width) == tuple(shape):
        return np.ascontiguousarray(camera)
    if (2 * height, 2 * width) == tuple(shape):
        return camera.repeat(2, axis=0).repeat(2, axis=1)
    if (height, width) == (2 * shape[0], 2 * shape[1]):
        blocks = camera.reshape(shape[0], 2, shape[1], 2)
        return np.asarray(blocks.any(axis=(1, 3)))
    raise _bad(
        path,
        f"it is for a camera of {height} x {width} px, the frames have {shape[0]} x "
        f"{shape[1]}",
    )


def _text(path: Path) -> str:
    with reading(path) as file:
        raw = read_at(file, 0, _MOST_BYTES + 1)
    if len(raw) > _MOST_BYTES or b"\0" in raw:
        raise _bad(path, "it is no text, or too long")
    return raw.decode("latin-1")


def _numbers(
    words: list[str], path: Path, *, least: int, most: int = _MOST_NUMBERS
) -> list[int]:
    try:
        numbers = [int(word) for word in words]
    except ValueError as error:
        raise _bad(path, f"{' '.join(words)[:80]!r} are no whole numbers") from error
    if not least <= len(numbers) <= most:
        raise _bad(path, f"a line has {len(numbers)} numbers")
    return numbers


def _ranges(text: str, path: Path) -> list[int]:
    """Return numbers from ``3,5-7``."""
    numbers: list[int] = []
    for part in text.replace(",", " ").split():
        first, *last = _numbers(part.split("-"), path, least=1, most=2)
        end = last[0] if last else first
        if len(numbers) + end - first > _MOST_NUMBERS:
            raise _bad(path, f"it has too many numbers, up to the range {part}")
        numbers += range(first, end + 1)
    return numbers


def _exactly(numbers: list[int], count: int, path: Path) -> list[int]:
    if len(numbers) != count:
        raise _bad(path, f"it has {len(numbers)} numbers in place of {count}")
    return numbers


def _bad(path: Path, fault: str) -> UnreadableFile:
    return UnreadableFile(
        f"{path} is no list of defects that fits: {fault}.",
        hint="Give SerialEM's defects file of this camera, or lines of x y w h.",
    )
