"""Choose the reader that a file's suffix promises and its first bytes confirm."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from icestream.domain.errors import IncompleteFile, UnreadableFile
from icestream.io import eer, mrc, png, tiff
from icestream.io.access import read_at, reading
from icestream.io.header import ImageFormat, ImageHeader, format_of_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import FileIO
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ImageReader", "opened_image"]


class ImageReader(Protocol):
    """What the module of a format offers."""

    def read_header(self, file: FileIO, path: Path) -> ImageHeader:
        """Return what the header says."""

    def data_end_bytes(self, file: FileIO, path: Path) -> int:
        """Return where the pixels end; raise as `read_header` does, and if short."""

    def decode(self, file: FileIO, path: Path) -> NDArray[Any]:
        """Return the pixels, ``(frame, h, w)``, rows as stored."""


_READERS: dict[ImageFormat, ImageReader] = {
    "mrc": mrc,
    "tiff": tiff,
    "eer": eer,
    "png": png,
}
# An EER file is a TIFF file of its own compressions.
_CONTENT: dict[ImageFormat, str] = {"eer": "tiff"}

_FIRST_BYTES: tuple[tuple[bytes, str], ...] = (
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89HDF", "HDF5"),
    (b"BZh", "bzip2"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"PK\x03\x04", "zip"),
    (b"<?xml", "XML"),
)


@contextmanager
def opened_image(path: Path) -> Iterator[tuple[ImageReader, FileIO]]:
    """Open an image and choose its reader.

    Parameters
    ----------
    path
        The file; its suffix says the format.

    Yields
    ------
    tuple
        The module of the format, and the file.

    Raises
    ------
    UnreadableFile
        Unknown suffix, other content than it promises, or as `reading` says.
    IncompleteFile
        Empty, or its first bytes are not written yet.
    """
    promised = format_of_name(path)
    with reading(path) as file:
        _check_first_bytes(read_at(file, 0, 64), promised, path)
        yield _READERS[promised], file


def _check_first_bytes(head: bytes, promised: ImageFormat, path: Path) -> None:
    if not any(head):
        raise IncompleteFile(
            f"{path} begins with zeros: its header is not written.",
            hint="Wait until it is written, or transfer it again.",
        )
    found = next((kind for first, kind in _FIRST_BYTES if head.startswith(first)), None)
    # An MRC file has no first bytes of its own; the others must have theirs.
    expected = _CONTENT.get(promised, promised)
    if found == expected or (found is None and promised == "mrc"):
        return
    if found is None and len(head) < 8:
        raise IncompleteFile(
            f"{path} is only {len(head)} bytes long.",
            hint="Wait until it is written, or transfer it again.",
        )
    content = f"holds {found.upper()}" if found else "holds something else"
    raise UnreadableFile(
        f"{path} promises {promised.upper()} by its name but {content}.",
        hint="Check what wrote it, and name it after what it is.",
    )
