"""The contrast of ice: what the lens makes of its random phase.

Ice is thick. What scatters at its top is less underfocused than what scatters at its
bottom, and the Thon rings of all of it are those of its middle times a sinc::

    <sin^2> over the thickness t = (1 - s cos 2 chi) / 2,    s = sinc(L t g^2)

(Tichelaar et al., Ultramicroscopy 216 (2020) 113023, and CTFFIND5): rings fade towards
``1 / sqrt(L t)`` and turn over beyond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from icestream.domain.errors import BadSettings
from icestream.domain.units import electron_wavelength_angst
from icestream.simulate.ice import ice_phase_power, radial_frequency, radial_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from icestream.simulate.optics import Transfer
    from icestream.simulate.tilt import TiltSeries

__all__ = [
    "IceContrast",
    "even_ice",
    "power_of_thick",
    "ring_strength",
    "tilted_ice",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Tilted:
    """Besides the contrast: a quarter of a turn on, and what has no rings at all."""

    aside: Tensor
    ringless: Tensor
    series: TiltSeries


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IceContrast:
    """Filters and weights that make ice of white noise.

    Parameters
    ----------
    contrast
        ``(W // 2 + 1, H)`` float32, columns first as in `IceMotion`: relative change of
        intensity for each unit of white noise.
    scale
        ``(H, W)`` float32 factor on the canvas, about 1: root of the relative
        thickness, 0 under foil. ``None`` for 1 everywhere.
    tilted
        Where the stage is tilted, as `tilted_ice` makes it.

    Raises
    ------
    BadSettings
        Shapes that do not fit.
    """

    contrast: Tensor
    scale: Tensor | None = None
    tilted: _Tilted | None = None

    def __post_init__(self) -> None:
        half, height = self.contrast.shape
        fits = (height, 2 * (half - 1))
        if self.scale is not None and tuple(self.scale.shape) != fits:
            raise BadSettings(
                f"A scale of {tuple(self.scale.shape)} px for ice of {fits} px.",
                hint="All parts of a scene share its canvas.",
            )

    @property
    def term_count(self) -> int:
        """How many filters there are; each goes with a weight."""
        return 1 if self.tilted is None else self.tilted.series.count

    def filter(self, term: int, columns: slice) -> tuple[Tensor, Tensor | None]:
        """Return the real and imaginary factor of some columns of the noise.

        Parameters
        ----------
        term
            From 0.
        columns
            Of the rfft2.

        Returns
        -------
        real, imaginary
            ``(n, H)`` each; ``None`` for 0.
        """
        if self.tilted is None:
            return self.contrast[columns], None
        # -sin(chi + u b): even terms go with sines, odd ones with cosines.
        base = self.tilted.aside if term % 2 else self.contrast
        real = base[columns] * self.tilted.series.bessel(term, columns)
        if term // 2 % 2:
            real.neg_()
        return real, None if term else self.tilted.ringless[columns]

    def weights(self, rows: slice, columns: slice) -> Iterator[Tensor | None]:
        """Give the weight of each term in a part of the canvas; ``None`` is 1."""
        scale = None if self.scale is None else self.scale[rows, columns]
        if self.tilted is None:
            yield scale
            return
        for weight in self.tilted.series.weights(rows, columns):
            yield weight if scale is None else weight * scale


def ring_strength(
    frequency_per_angst: Tensor, *, thickness_angst: float, voltage_kv: float
) -> Tensor:
    """Return what is left of the Thon rings of something thick, -1 to 1.

    Parameters
    ----------
    frequency_per_angst
        1/Å, any shape.
    thickness_angst
        Along the beam, Å.
    voltage_kv
        kV.
    """
    wavelength = electron_wavelength_angst(voltage_kv)
    return torch.sinc(wavelength * thickness_angst * frequency_per_angst.square())


def power_of_thick(transfer: Transfer, rings: Tensor) -> Tensor:
    """Return the contrast per random phase, squared, of something thick.

    Parameters
    ----------
    transfer
        Of its middle.
    rings
        `ring_strength` at the same frequencies.
    """
    inside, aside = transfer.contrast.abs().square(), transfer.aside.abs().square()
    return (inside + aside - rings * (aside - inside)).div_(2).clamp_(min=0)


def even_ice(
    transfer: Transfer,
    canvas: tuple[int, int],
    *,
    pixel_size_angst: float,
    thickness_angst: float,
    voltage_kv: float,
    scale: Tensor | None = None,
) -> IceContrast:
    """Return the contrast of ice that lies flat.

    Parameters
    ----------
    transfer
        Of the middle of the ice; it may be of a tilted beam, whose odd phase makes no
        difference to a random one.
    canvas
        ``(H, W)``, px.
    pixel_size_angst
        Å/px.
    thickness_angst
        In the middle of the image, Å.
    voltage_kv
        kV.
    scale
        As `IceContrast` has it.
    """
    root, rings = _root_and_rings(
        canvas, pixel_size_angst, thickness_angst, voltage_kv, transfer
    )
    strength = power_of_thick(transfer, rings).sqrt_().mul_(root)
    return IceContrast(contrast=strength.T.contiguous(), scale=scale)


def tilted_ice(
    transfer: Transfer,
    canvas: tuple[int, int],
    series: TiltSeries,
    *,
    pixel_size_angst: float,
    thickness_angst: float,
    voltage_kv: float,
    scale: Tensor | None = None,
) -> IceContrast:
    """Return the contrast of ice on a tilted stage.

    Parameters
    ----------
    transfer
        Of the middle of the image, without tilt of the beam.
    canvas, pixel_size_angst, voltage_kv, scale
        As `even_ice` has them.
    series
        Of the tilt.
    thickness_angst
        Along the beam, Å.

    Notes
    -----
    The power ``(1 - s cos 2 chi) / 2`` is that of ``sqrt(s) sin chi``, which takes the
    local phase, and of ``sqrt((1 - s) / 2)``, which has no rings and is added in
    quadrature: times ``i sign(g)``, an odd factor. Where s < 0, sine and cosine swap.
    """
    root, rings = _root_and_rings(
        canvas, pixel_size_angst, thickness_angst, voltage_kv, transfer
    )
    is_turned = rings < 0
    left = rings.abs().sqrt().mul_(root)
    contrast = torch.where(is_turned, transfer.aside, transfer.contrast).mul_(left)
    aside = torch.where(is_turned, -transfer.contrast, transfer.aside).mul_(left)
    ringless = ((1 - rings.abs()) / 2 * transfer.envelope_squared()).sqrt_().mul_(root)
    y = torch.fft.fftfreq(canvas[0], device=root.device)
    # Columns that are their own mirror images go by the sign along y.
    ringless[:, 0] *= torch.sign(y)
    ringless[:, -1] *= torch.sign(y)
    contrast, aside, ringless = (
        one.T.contiguous() for one in (contrast, aside, ringless)
    )
    return IceContrast(
        contrast=contrast,
        scale=scale,
        tilted=_Tilted(aside=aside, ringless=ringless, series=series),
    )


def _root_and_rings(
    canvas: tuple[int, int],
    pixel_size_angst: float,
    thickness_angst: float,
    voltage_kv: float,
    transfer: Transfer,
) -> tuple[Tensor, Tensor]:
    """Return the root of the power of the phase, and the strength of its rings."""
    frequency = radial_frequency(
        canvas, pixel_size_angst, device=transfer.contrast.device
    )
    root = radial_values(
        frequency,
        lambda g: ice_phase_power(
            g, thickness_angst=thickness_angst, voltage_kv=voltage_kv
        ).sqrt(),
    )
    rings = ring_strength(
        frequency, thickness_angst=thickness_angst, voltage_kv=voltage_kv
    )
    return root.div_(pixel_size_angst), rings
