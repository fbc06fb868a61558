"""Decode the frames of a TIFF movie strip by strip, in the order of rows of RELION.

RELION turns a TIFF image upside down, whatever its orientation tag says: row 0 of a
frame here is the last of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io.access import SPARE_BYTES, read_into
from icestream.io.header import ImageHeader, MovieHeader
from icestream.io.tiff import check_strips, header_of
from icestream.io.tiff_directory import Directory, read_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TiffFrames", "open_frames"]

_UNCOMPRESSED, _LZW = 1, 5
_DECODERS: dict[int, Callable[..., Any]] = {
    8: imagecodecs.deflate_decode,
    32773: imagecodecs.packbits_decode,
    32946: imagecodecs.deflate_decode,
    34926: imagecodecs.zstd_decode,
    50000: imagecodecs.zstd_decode,
}
_USUAL_TILE_PX = 1 << 20
_PLAIN, _DIFFERENCES, _SPLIT_FLOATS = 1, 2, 3


@dataclass(frozen=True, slots=True)
class TiffFrames:
    """The frames of a TIFF movie, upside down; see `open_frames`."""

    path: Path
    header: MovieHeader
    pages: list[_Page]

    @property
    def most_pieces(self) -> int:
        """Into how many pieces a frame can be divided: its strips or tiles."""
        return min(page.offsets.size for page in self.pages)

    def decode_into(
        self,
        file: FileIO,
        target: NDArray[Any],
        frame: int,
        piece: int,
        piece_count: int,
    ) -> None:
        """Write one piece of a frame, of so many, into its place in ``target``."""
        page = self.pages[frame]
        count = page.offsets.size
        begin, end = (count * (piece + i) // piece_count for i in (0, 1))
        upright = target[::-1]
        data = np.empty(int(page.counts[begin:end].max()) + SPARE_BYTES, np.uint8)
        words = np.empty(page.segment_bytes // 8 + 2, np.uint64)
        for index in range(begin, end):
            rows, columns = page.place(index)
            pixels = page.pixels(_decode(file, page, index, data, words))
            part = upright[rows, columns]
            if len(pixels) < len(part):
                kind = "tile" if page.is_tiled else "strip"
                raise IncompleteFile(
                    f"{self.path}, page {frame + 1}: {kind} {index + 1} of {count} ends"
                    " early or is damaged.",
                    hint="Wait until it is written, or transfer it again.",
                )
            part[...] = pixels[: part.shape[0], : part.shape[1]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """How the strips or tiles of one page lie in the file and on the image."""

    height_px: int
    width_px: int
    segment_height_px: int
    segment_width_px: int
    is_tiled: bool
    dtype: np.dtype[Any]
    compression: int
    predictor: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def row_bytes(self) -> int:
        return self.segment_width_px * self.dtype.itemsize

    @property
    def segment_bytes(self) -> int:
        return self.segment_height_px * self.row_bytes

    def place(self, index: int) -> tuple[slice, slice]:
        """Return the rows and columns of a segment, counted as the file does."""
        down, across = divmod(index, -(-self.width_px // self.segment_width_px))
        row, column = down * self.segment_height_px, across * self.segment_width_px
        return (
            slice(row, min(row + self.segment_height_px, self.height_px)),
            slice(column, min(column + self.segment_width_px, self.width_px)),
        )

    def pixels(self, decoded: NDArray[np.uint8]) -> NDArray[Any]:
        """Return decoded bytes as whole rows of pixels, without their predictor."""
        count = decoded.size // self.row_bytes
        flat = decoded[: count * self.row_bytes].view(self.dtype)
        rows = flat.reshape(count, self.segment_width_px)
        if self.predictor == _DIFFERENCES:
            imagecodecs.delta_decode(rows, axis=-1, out=rows)
        if self.predictor == _SPLIT_FLOATS and count:
            return np.asarray(imagecodecs.floatpred_decode(rows, axis=-1))
        return rows


def _decode(
    file: FileIO,
    page: _Page,
    index: int,
    data: NDArray[np.uint8],
    words: NDArray[np.uint64],
) -> NDArray[np.uint8]:
    """Return the bytes of a segment, as many as are there and right.

    ``data`` and ``words`` are room for what is read and for what it becomes.
    """
    content = data[: int(page.counts[index])]
    read = read_into(file, int(page.offsets[index]), content)
    if page.compression == _UNCOMPRESSED:
        return content[:read]
    if page.compression == _LZW:
        from icestream.io.lzw import decode_lzw

        size = decode_lzw(data, read, words, page.segment_bytes)
        return words.view(np.uint8)[:size]
    output = words.view(np.uint8)[: page.segment_bytes]
    try:
        decoded = _DECODERS[page.compression](content[:read], out=output)
    except RuntimeError:  # of imagecodecs, for whatever is not as it should be
        return output[:0]
    return output[: len(decoded)]


def open_frames(file: FileIO, path: Path) -> TiffFrames:
    """Prepare to read the frames of a movie, one page each.

    Raises
    ------
    UnreadableFile
        As `read_header` does; pages of different shape or type; a predictor or an order
        of bits that is not read.
    IncompleteFile
        The chain of directories breaks off, or a strip lies beyond the end.
    """
    directories = read_directories(file, path)
    images = [header_of([one], path) for one in directories]
    first = images[0]
    for number, image in enumerate(images, start=1):
        if _kind(image) != _kind(first):
            raise UnreadableFile(
                f"{path}, page {number} is {image.dtype} of {image.height_px} x"
                f" {image.width_px} px; page 1 is {first.dtype} of {first.height_px} x"
                f" {first.width_px} px.",
                hint="A movie has frames of one shape and type; check what wrote it.",
            )
    check_strips(directories, file, path)
    header = MovieHeader(
        height_px=first.height_px,
        width_px=first.width_px,
        frame_count=len(images),
        dtype=first.dtype,
        pixel_size_angst=first.pixel_size_angst,
        format="tiff",
        raw_frame_count=len(images),
    )
    pages = [_page(one, first.dtype, path) for one in directories]
    return TiffFrames(path, header, pages)


def _kind(image: ImageHeader) -> tuple[int, int, np.dtype[Any]]:
    return image.height_px, image.width_px, image.dtype


def _page(directory: Directory, dtype: np.dtype[Any], path: Path) -> _Page:
    predictor = directory.number("predictor", default=_PLAIN)
    its_own = _SPLIT_FLOATS if dtype.kind == "f" else _DIFFERENCES
    fill_order = directory.number("fill_order", default=1)
    if predictor not in (_PLAIN, its_own) or fill_order != 1:
        raise UnreadableFile(
            f"{path} uses TIFF predictor {predictor} and order of bits {fill_order}.",
            hint="Read are no predictor, 2 of integers, 3 of floats, and the order 1.",
        )
    height_px, width_px = directory.number("height"), directory.number("width")
    is_tiled = "tile_width" in directory.values
    kind = "tile" if is_tiled else "strip"
    rows = directory.number("rows_per_strip", default=height_px)
    tile_px = directory.number("tile_height") * directory.number("tile_width")
    if is_tiled and tile_px > max(4 * height_px * width_px, _USUAL_TILE_PX):
        raise UnreadableFile(
            f"{path} has tiles of {tile_px} px on a page of {height_px * width_px} px.",
            hint="The file is damaged: transfer it again.",
        )
    return _Page(
        height_px=height_px,
        width_px=width_px,
        segment_height_px=(
            directory.number("tile_height") if is_tiled else min(rows, height_px)
        ),
        segment_width_px=directory.number("tile_width") if is_tiled else width_px,
        is_tiled=is_tiled,
        dtype=dtype.newbyteorder(directory.order),
        compression=directory.number("compression", default=_UNCOMPRESSED),
        predictor=predictor,
        offsets=directory.numbers(f"{kind}_offsets"),
        counts=directory.numbers(f"{kind}_byte_counts"),
    )
