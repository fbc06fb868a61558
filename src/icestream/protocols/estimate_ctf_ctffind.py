"""The step that lets CTFFIND fit the contrast transfer function."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from pydantic import Field

from icestream.domain import Ctf, Micrograph
from icestream.domain.errors import ProgramFailed
from icestream.external.ctffind import (
    CtffindFit,
    CtffindImage,
    CtffindOptions,
    estimate_ctf_with_ctffind,
)
from icestream.external.scratch import scratch_folder
from icestream.io import guarding_writes, write_mrc
from icestream.protocols.images import load_blocks, load_image
from icestream.streaming.protocol import Context, Input, Params, PerItem, Resources

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from icestream.streaming.protocol import Product

__all__ = ["EstimateCtfCtffind", "EstimateCtfCtffindParams"]

_LONGEST_S = 3600.0


class EstimateCtfCtffindParams(Params):
    """Where it looks for Thon rings, and which program it is."""

    low_resolution_angst: float = Field(
        default=30.0, gt=0, description="Start of the fit, Å."
    )
    high_resolution_angst: float = Field(
        default=5.0, gt=0, description="End of the fit, Å."
    )
    defocus_min_angst: float = Field(
        default=3000.0, gt=0, description="Lowest defocus, Å."
    )
    defocus_max_angst: float = Field(
        default=50000.0, gt=0, description="Highest defocus, Å."
    )
    defocus_step_angst: float = Field(
        default=100.0, gt=0, description="Step of its search, Å."
    )
    box_px: int = Field(
        default=512, ge=128, le=2048, description="Side of the amplitude spectrum, px."
    )
    program: str = Field(
        default="ctffind", description="Name on the PATH, or path of the program."
    )
    time_limit_s: float = Field(
        default=300.0, gt=0, le=_LONGEST_S, description="Longest time for an image, s."
    )

    def options(self, *, phase_plate: bool) -> CtffindOptions:
        """Return what CTFFIND is told."""
        values = self.model_dump(exclude={"time_limit_s"})
        return CtffindOptions(
            **values, fits_phase=phase_plate, timeout_s=self.time_limit_s
        )


class EstimateCtfCtffind(PerItem[EstimateCtfCtffindParams]):
    """Let CTFFIND fit defocus and astigmatism, as one more estimate.

    CTFFIND 4.1 or 5 must be installed. It sees the image, or of a movie the amplitude
    spectrum of the sum without dose weights.
    """

    name: ClassVar = "estimate_ctf_ctffind"
    Params: ClassVar = EstimateCtfCtffindParams
    inputs: ClassVar = {"micrograph": Input(kind=Micrograph)}
    outputs: ClassVar = {"ctf": Ctf}
    reads: ClassVar = (
        "voltage_kv",
        "spherical_aberration_mm",
        "amplitude_contrast",
        "phase_plate",
    )
    resources: ClassVar = Resources(time_limit_s=_LONGEST_S + 300)
    citation: ClassVar = (
        "Rohou A, Grigorieff N (2015). CTFFIND4: fast and accurate defocus estimation "
        "from electron micrographs. J. Struct. Biol. 192, 216-221."
    )

    def process(
        self, context: Context, /, *, micrograph: Micrograph
    ) -> Mapping[str, Ctf]:
        """Return its fit; raises ``ProgramFailed`` with what it said."""
        known = context.acquisition
        log = context.product("_ctffind.log")
        with scratch_folder("icestream-ctffind-") as folder:
            path = folder / "image.mrc"
            is_spectrum, pixel_size_angst = _write_image(context, micrograph, path)
            image = CtffindImage(
                path=path,
                is_spectrum=is_spectrum,
                pixel_size_angst=pixel_size_angst,
                voltage_kv=known.voltage_kv,
                spherical_aberration_mm=known.spherical_aberration_mm,
                amplitude_contrast=known.amplitude_contrast,
            )
            options = self.params.options(phase_plate=bool(known.phase_plate))
            found = _fit(image, folder, options, log, context.locate(log.path))
        return {"ctf": found.ctf}


def _write_image(
    context: Context, micrograph: Micrograph, path: Path
) -> tuple[bool, float]:
    """Write what it shall see; whether that is a spectrum, and its pixel size, Å."""
    spectra = load_blocks(context, micrograph)
    if spectra is None:
        values, pixel = load_image(context, micrograph), micrograph.pixel_size_angst
    else:
        values, pixel = _centred(spectra.mean.sqrt()), spectra.pixel_size_angst
    write_mrc(path, values.numpy(), pixel_size_angst=pixel, dtype=np.float32)
    return spectra is not None, pixel


def _centred(half: torch.Tensor) -> torch.Tensor:
    """Return ``(n, n)`` centred, of the ``(n, n // 2 + 1)`` of a real transform."""
    n = half.shape[0]
    back = torch.roll(torch.flip(half, (0,)), 1, 0)
    other = torch.flip(back[:, 1 : (n + 1) // 2], (1,))
    whole: torch.Tensor = torch.fft.fftshift(torch.cat([half, other], 1))
    return whole


def _fit(
    image: CtffindImage,
    folder: Path,
    options: CtffindOptions,
    log: Product,
    final: Path,
) -> CtffindFit:
    """Let it work in a folder that will go; what it says is kept."""
    written = folder / "ctffind.log"
    try:
        found = estimate_ctf_with_ctffind(image, folder, options=options)
    except ProgramFailed as error:
        kept = final.with_name(f"{final.stem}.failed.log")
        if written.is_file():
            with guarding_writes(kept):
                shutil.copyfile(written, kept)
        hint = error.hint.replace(str(written), str(kept))
        raise ProgramFailed(error.what, hint=hint) from error
    head = f"CTFFIND {found.version}, {found.run.seconds:.1f} s\n{found.run.command}\n"
    with guarding_writes(log.temporary):
        log.temporary.write_bytes(head.encode() + b"\n" + written.read_bytes())
    return found
