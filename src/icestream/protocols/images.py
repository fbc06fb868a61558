"""Images of micrographs for the steps that read them, decoded once per worker."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import UnreadableFile
from icestream.engines.ctf.spectrum import BlockSpectra
from icestream.io import read_micrograph, read_stack

if TYPE_CHECKING:
    from torch import Tensor

    from icestream.domain import Micrograph
    from icestream.streaming.protocol import Context

__all__ = ["load_blocks", "load_file", "load_image"]


def load_image(context: Context, micrograph: Micrograph) -> Tensor:
    """Return the pixels of a micrograph.

    Returns
    -------
    Tensor
        ``(h, w)`` float32, rows as stored. Shared between steps: do not write to it.

    Raises
    ------
    UnreadableFile, UnusableImage
        The file has gone, is damaged, or holds no usable image.
    """
    torch.set_num_threads(context.threads)
    return load_file(context.locate(micrograph.path))


def load_blocks(context: Context, micrograph: Micrograph) -> BlockSpectra | None:
    """Return the power spectra of regions that were kept with a micrograph.

    Returns
    -------
    BlockSpectra
        In an arbitrary unit, good to 0.1 %; ``None`` where the image itself serves.

    Raises
    ------
    UnreadableFile, IncompleteFile, UnusableImage
        The file has gone or is damaged.
    """
    pixel_size_angst = micrograph.spectrum_pixel_size_angst
    if micrograph.spectrum is None or pixel_size_angst is None:
        return None
    torch.set_num_threads(context.threads)
    amplitude = torch.from_numpy(read_stack(context.locate(micrograph.spectrum)))
    place = torch.tensor([micrograph.spectrum_y_angst, micrograph.spectrum_x_angst])
    return BlockSpectra(
        power=amplitude.square_(),
        tile_count=amplitude.new_tensor(micrograph.spectrum_tile_count),
        pixel_size_angst=pixel_size_angst,
        place_angst=place.T,
    )


def load_file(path: Path) -> Tensor:
    """Return the pixels of an image file; see `load_image`."""
    try:
        status = path.stat()
    except OSError as error:
        raise UnreadableFile(
            f"{path} cannot be read: {error.strerror}.",
            hint="Bring it back, then `icestream retry`.",
        ) from error
    return _decoded(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=3)
def _decoded(path: str, _size: int, _mtime_ns: int) -> Tensor:
    return torch.from_numpy(read_micrograph(Path(path)))
