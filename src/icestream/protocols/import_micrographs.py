"""The step that decodes and checks a new file, and makes its thumbnail."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field

from icestream.domain import Micrograph, RawFile
from icestream.io import THUMBNAIL_SUFFIX, write_thumbnail
from icestream.protocols.images import load_file
from icestream.streaming.protocol import Context, Input, Keep, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ImportMicrographs", "ImportMicrographsParams"]


class ImportMicrographsParams(Params):
    """How new micrographs are taken in."""

    thumbnail_px: int = Field(
        default=512, ge=64, le=2048, description="Longer side of the thumbnail, px."
    )


class ImportMicrographs(PerItem[ImportMicrographsParams]):
    """Decode and check a micrograph (MRC, TIFF, 16-bit PNG) and make its thumbnail.

    The file stays where it is. Its pixel size is that of its acquisition setup.
    """

    name: ClassVar = "import_micrographs"
    Params: ClassVar = ImportMicrographsParams
    inputs: ClassVar = {"file": Input(kind=RawFile)}
    outputs: ClassVar = {"micrograph": Micrograph}
    reads: ClassVar = ("pixel_size_angst", "setup")

    def process(
        self, context: Context, /, *, file: RawFile
    ) -> Mapping[str, Micrograph]:
        """Return the micrograph; raises what `read_micrograph` raises."""
        torch.set_num_threads(context.threads)
        image = load_file(Path(file.path))
        thumbnail = context.product(THUMBNAIL_SUFFIX, keep=Keep.CACHE)
        write_thumbnail(
            image.numpy(), thumbnail.temporary, side_px=self.params.thumbnail_px
        )
        deviation, mean = torch.std_mean(image.double(), correction=0)
        height_px, width_px = image.shape
        return {
            "micrograph": Micrograph(
                path=file.path,
                height_px=height_px,
                width_px=width_px,
                pixel_size_angst=context.acquisition.pixel_size_angst,
                setup=context.acquisition.setup,
                mean=float(mean),
                standard_deviation=float(deviation),
                thumbnail=thumbnail.path,
            )
        }
