"""Transforms of frames and of their parts: low frequencies, weighted.

What stays in place while content moves, above all errors of the gain, correlates at
shift zero and draws every estimate there. Its power is even over frequencies, so that
it is no more than the least that frames share where they lie, at any fine frequency;
what it adds to a correlation on average is taken away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import adaptive_avg_pool2d

from icestream.domain.errors import UnusableImage
from icestream.engines.fourier import quick_even_side
from icestream.engines.motion.shade import light_weight

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Slopes", "Spectra", "frame_spectra", "tile_spectra"]

# Of protein in ice, 7 to 10 Å a pixel serve best; 14 and more lose signal.
_PIXEL_ANGST = 7.0
_B_FACTOR_ANGST2 = 1000.0
_COARSEST_ANGST = 200.0
_LEAST_SIDE_PX = 16
# What stays is told in so many rings between this share of the finest frequency and it.
_FINE, _RINGS = 0.7, 24
# How much of a tile's sides is faded out, so that its edges make no cross.
_FADED = 0.15


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slopes:
    """How correlations lie where content is thought to be.

    Parameters
    ----------
    slope
        ``(*batch, frames, 2)`` along y and x, 1/Å.
    curvature
        ``(*batch, frames, 2)`` 1/Å2; positive on a top.
    variance
        ``(*batch, frames, 2)`` of the slope, by noise, 1/Å2.
    """

    slope: Tensor
    curvature: Tensor
    variance: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spectra:
    """Weighted transforms of images that show the same, shifted.

    Parameters
    ----------
    values
        ``(*batch, frames, rows, columns)`` complex, the columns of a real transform.
    y, x
        ``(rows,)`` and ``(columns,)`` frequency, 1/Å.
    weight
        ``(rows, columns)`` that they have been multiplied by; 0 where nothing is used.
    shape
        Rows and columns of the images, px.
    still_power
        ``(*batch)`` of what stays in place, of one frame, in units of ``values`` before
        the weight.
    still_fraction
        Standard deviation of what stays in place over that of all there is at fine
        frequencies, of one frame.
    light
        ``(height, width)`` share of the light that each place has let count, on mean
        square 1, where some was left out.
    """

    values: Tensor
    y: Tensor
    x: Tensor
    weight: Tensor
    shape: tuple[int, int]
    still_power: Tensor
    still_fraction: float
    light: Tensor | None = None

    @property
    def multiplicity(self) -> Tensor:
        """``(columns,)`` how often a column stands in the whole transform."""
        twice = torch.full_like(self.x, 2.0)
        twice[0] = 1
        if self.shape[1] % 2 == 0:
            twice[-1] = 1
        return twice

    def coarser(self, pixel_angst: float) -> Spectra:
        """Return the same with fewer frequencies; with all, where it is coarse."""
        sides = [1 / float(self.y[1]), 1 / float(self.x[1])]
        height, width = (
            min(quick_even_side(math.ceil(side / pixel_angst)), old)
            for side, old in zip(sides, self.shape, strict=True)
        )
        rows, columns = height // 2, width // 2 + 1
        values, weight, y = (
            torch.cat([one[..., :rows, :columns], one[..., -rows:, :columns]], -2)
            for one in (self.values, self.weight, self.y[:, None].expand(-1, columns))
        )
        weight[rows], weight[:, -1] = 0, 0
        values = values * (weight > 0)
        return replace(
            self,
            values=values,
            y=y[:, 0].contiguous(),
            x=self.x[:columns],
            weight=weight,
            shape=(height, width),
        )

    def turn(self, shift_angst: Tensor) -> Tensor:
        """Return factors ``(*batch, frames, rows, columns)`` that move content back.

        ``shift_angst`` is ``(*batch, frames, 2)``, y and x.
        """
        y, x = shift_angst.to(self.y)[..., None].unbind(-2)
        along_y = torch.polar(torch.ones_like(y * self.y), 2 * math.pi * y * self.y)
        along_x = torch.polar(torch.ones_like(x * self.x), 2 * math.pi * x * self.x)
        return along_y[..., :, None] * along_x[..., None, :]

    def with_others(
        self, shift_angst: Tensor, *, moved_before: Tensor | None = None
    ) -> Tensor:
        """Return each frame times the sum of all others, content moved back.

        Parameters
        ----------
        shift_angst
            ``(*batch, frames, 2)`` Å.
        moved_before
            ``(*batch or 1, frames, 2)`` Å, by how much content was moved back before
            these transforms were made: what stays in place has moved with it.

        Returns
        -------
        Tensor
            ``(*batch, frames, rows, columns)`` complex: without what stays in place.
        """
        turn = self.turn(shift_angst)
        product = _each_with_others(self.values * turn)
        if bool((self.still_power > 0).any()):
            if moved_before is not None:
                turn = self.turn(shift_angst + moved_before)
            still = _each_with_others(turn)
            power = self.still_power[..., None, None, None]
            product -= still.mul_(power * self.weight.square())
        return product

    def slopes(self, product: Tensor) -> Slopes:
        """Return how correlations lie at shift zero, from their transforms.

        Content is in phase there, so what is out of phase is noise.
        """
        product = 2 * math.pi * self.multiplicity * product
        odd, even, square = product.imag, product.real, product.imag.square()
        y, x = self.y, self.x
        slope = -(odd.sum(-1) * y).sum(-1), -(odd.sum(-2) * x).sum(-1)
        curvature = (
            (even.sum(-1) * y**2).sum(-1) * 2 * math.pi,
            (even.sum(-2) * x**2).sum(-1) * 2 * math.pi,
        )
        variance = (
            (square.sum(-1) * y**2).sum(-1),
            (square.sum(-2) * x**2).sum(-1),
        )
        return Slopes(
            slope=torch.stack(slope, -1).double(),
            curvature=torch.stack(curvature, -1).double(),
            variance=torch.stack(variance, -1).double(),
        )


def _power(values: Tensor) -> Tensor:
    return torch.view_as_real(values).square().sum(-1)


def _each_with_others(values: Tensor) -> Tensor:
    return values * (values.sum(-3, keepdim=True) - values).conj()


def frame_spectra(frames: Tensor, *, pixel_size_angst: float) -> Spectra:
    """Return the transforms of whole frames, cut to about 7 Å a pixel.

    Parameters
    ----------
    frames
        ``(frames, h, w)`` real.
    pixel_size_angst
        Å/px.

    Raises
    ------
    UnusableImage
        The frames are too small, or have a pixel that is no number.
    """
    sides = [side * pixel_size_angst for side in frames.shape[1:]]
    height, width = (
        min(quick_even_side(math.ceil(side / _PIXEL_ANGST)), px // 2 * 2)
        for side, px in zip(sides, frames.shape[1:], strict=True)
    )
    if min(height, width) < _LEAST_SIDE_PX:
        raise UnusableImage(
            f"Frames of {sides[0]:.0f} x {sides[1]:.0f} Å are too small to align.",
            hint=f"At least {_LEAST_SIDE_PX * _PIXEL_ANGST:.0f} Å a side.",
        )
    rows, columns = height // 2, width // 2 + 1
    y, x, weight = _band((height, width), (sides[0] / height, sides[1] / width), frames)
    light = light_weight(frames, pixel_size_angst=pixel_size_angst)
    cut, fine = [], _FineFrequencies(frames)
    for frame in frames:
        whole = torch.fft.rfft2(_lit(frame.float(), light), norm="forward")
        cut.append(torch.cat([whole[:rows, :columns], whole[-rows:, :columns]]))
        fine.add(whole)
    values = torch.stack(cut) * weight
    still, noise = fine.powers()
    if not bool(torch.isfinite(torch.view_as_real(values)).all()):
        raise UnusableImage(
            "Frames with pixels that are no numbers.",
            hint="Look at the gain: has it values that are not finite?",
        )
    return Spectra(
        values=values,
        y=y,
        x=x,
        weight=weight,
        shape=(height, width),
        still_power=torch.tensor(still, device=frames.device),
        still_fraction=math.sqrt(still / noise) if noise else 0.0,
        light=None if light is None else _on_grid(light, (height, width)),
    )


def _on_grid(light: Tensor, shape: tuple[int, int]) -> Tensor:
    coarse = adaptive_avg_pool2d(light[None, None], shape)[0, 0]
    return coarse / coarse.square().mean().sqrt()


def _lit(frame: Tensor, light: Tensor | None) -> Tensor:
    """Return a frame without what is dark, and without an edge where that begins."""
    if light is None:
        return frame
    mean = (frame * light).sum() / light.sum()
    return (frame - mean) * light


class _FineFrequencies:
    """What frames share where they lie, at fine frequencies, ring by ring.

    Content is weak there, and gone where its transfer function is zero; a pattern of
    pixels is the same everywhere.
    """

    def __init__(self, frames: Tensor) -> None:
        y, x = (
            2 * torch.fft.fftfreq(side, device=frames.device)
            for side in frames.shape[1:]
        )
        x = x[: frames.shape[2] // 2 + 1].abs()
        place = (torch.hypot(y[:, None], x) - _FINE) / (1 - _FINE) * _RINGS
        place[0], place[:, 0], place[:, -1] = -1, -1, -1
        self._used = ((place >= 0) & (place < _RINGS)).flatten().nonzero()[:, 0]
        self._ring = place.flatten()[self._used].long()
        self._sum = torch.zeros(len(self._used), dtype=torch.complex64).to(
            frames.device
        )
        self._own = torch.zeros_like(self._sum.real)
        self._count = 0

    def add(self, transform: Tensor) -> None:
        """Take in the transform of a frame."""
        values = transform.flatten()[self._used]
        self._sum += values
        self._own += _power(values)
        self._count += 1

    def powers(self) -> tuple[float, float]:
        """Return what is still, and all there is, of one frame."""
        shared = _power(self._sum) - self._own
        count = torch.bincount(self._ring, minlength=_RINGS)
        sums = torch.bincount(self._ring, shared.double(), minlength=_RINGS)
        pairs = self._count * (self._count - 1)
        still = float((sums / count.clamp(min=1)).min()) / pairs
        return max(0.0, still), float(self._own.mean()) / self._count


def tile_spectra(
    whole: Spectra, shift_angst: Tensor, *, tiles: tuple[int, int]
) -> Spectra:
    """Return the transforms of parts of frames, content of the whole moved back.

    Parameters
    ----------
    whole
        Of the frames.
    shift_angst
        ``(frames, 2)`` Å of the whole.
    tiles
        How many parts, down and across; they do not overlap.

    Returns
    -------
    Spectra
        ``(tiles, frames, rows, columns)``, tiles row by row.
    """
    moved = torch.fft.irfft2(
        whole.values * whole.turn(shift_angst), s=whole.shape, norm="forward"
    )
    height, width = (
        side // count // 2 * 2 for side, count in zip(whole.shape, tiles, strict=True)
    )
    pixel = [
        float(1 / (side * step[1]))
        for side, step in zip(whole.shape, (whole.y, whole.x), strict=True)
    ]
    y, x, weight = _band((height, width), (pixel[0], pixel[1]), moved)
    top, left = (
        (side - part * count) // 2
        for side, part, count in zip(whole.shape, (height, width), tiles, strict=True)
    )

    def cut(images: Tensor) -> Tensor:
        used = images[:, top : top + height * tiles[0], left : left + width * tiles[1]]
        split = used.reshape(-1, tiles[0], height, tiles[1], width)
        return split.permute(1, 3, 0, 2, 4).flatten(0, 1)

    parts = cut(moved)
    fade = _fade(height, parts)[:, None] * _fade(width, parts)
    parts = (parts - parts.mean((-2, -1), keepdim=True)) * fade
    # The band's weight is in the whole already; here only what is not used goes.
    values = torch.fft.rfft2(parts) * (weight > 0)
    light = moved.new_ones(whole.shape) if whole.light is None else whole.light
    # Where more was left out, less of what stays in place is there.
    lit = (cut(light[None])[:, 0] * fade).square().sum((-2, -1))
    return Spectra(
        values=values,
        y=y,
        x=x,
        weight=weight,
        shape=(height, width),
        still_power=whole.still_power * whole.shape[0] * whole.shape[1] * lit,
        still_fraction=whole.still_fraction,
    )


def _band(
    shape: tuple[int, int], pixel_angst: tuple[float, float], like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return frequencies, and the weight without the cross of flawed lines."""
    y = torch.fft.fftfreq(shape[0], pixel_angst[0], device=like.device)
    x = torch.fft.rfftfreq(shape[1], pixel_angst[1], device=like.device)
    square = y[:, None] ** 2 + x**2
    weight = torch.exp(-_B_FACTOR_ANGST2 / 4 * square)
    weight *= 1 - torch.exp(-square * _COARSEST_ANGST**2)
    weight[0], weight[:, 0] = 0, 0
    weight[shape[0] // 2], weight[:, -1] = 0, 0
    return y, x, weight


def _fade(side: int, like: Tensor) -> Tensor:
    place = (torch.arange(side, device=like.device) + 0.5) / side
    near = torch.minimum(place, 1 - place) / _FADED
    return torch.sin(near.clamp(max=1) * (math.pi / 2)).square()
