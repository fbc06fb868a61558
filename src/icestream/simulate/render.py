"""Put moving, fading things on frames: expected intensities, before the camera counts.

Everything is added up in Fourier space, where the beam's damage, the global motion,
its blur within a frame and the camera's MTF are factors; one inverse transform a frame.
What is left, the local motion of a few pixels, is a warp (see `warp`).

Columns of the transform come first here, ``(W // 2 + 1, H)``, in real and imaginary
planes: the inverse along y then runs along memory, block by block in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from icestream.domain.errors import BadSettings
from icestream.engines.fourier import quick_even_side
from icestream.simulate.columns import inverse_along_y
from icestream.simulate.ice import radial_frequency, radial_values
from icestream.simulate.ice_motion import WATER_B_ANGST2_PER_DOSE, IceMotion
from icestream.simulate.motion import MotionField, damage_filter
from icestream.simulate.warp import REACH_PX, sharpening, warp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from icestream.simulate.ice_contrast import IceContrast

__all__ = ["Scene", "canvas_shape", "least_margin_px", "render_frames"]

# Coefficients of a block that stay in a processor's cache, and rows of a block.
_BLOCK = 1 << 17
_ROWS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a movie shows in frame 0, on a canvas a margin larger than the image.

    Parameters
    ----------
    pixel_size_angst
        Å/px.
    margin_px
        How much of the canvas lies above and to the left of the image; as much or more
        lies below and to the right. The canvas is periodic: what the transfer function
        spreads (wavelength x defocus x frequency) needs room here, as does the motion.
    fading
        ``(H, W)`` float32 relative change of intensity by what the beam damages.
    lasting
        The same for what it does not damage (carbon, foil, ice balls, absorption);
        ``None`` for nothing.
    ice
        What makes ice of white noise; ``None`` for no ice.

    Raises
    ------
    BadSettings
        A canvas with an odd side, or shapes that do not fit.
    """

    pixel_size_angst: float
    margin_px: int
    fading: Tensor
    lasting: Tensor | None = None
    ice: IceContrast | None = None

    def __post_init__(self) -> None:
        height, width = self.fading.shape
        if height % 2 or width % 2:
            raise BadSettings(
                f"A canvas of {height} x {width} px.", hint="Both sides are even."
            )
        ice = None if self.ice is None else self.ice.contrast
        for given, shape in (
            (self.lasting, (height, width)),
            (ice, (width // 2 + 1, height)),
        ):
            if given is not None and tuple(given.shape) != shape:
                raise BadSettings(
                    f"A part of {tuple(given.shape)} px in a scene of {shape} px.",
                    hint="All parts of a scene share its canvas.",
                )


def canvas_shape(shape: tuple[int, int], margin_px: int) -> tuple[int, int]:
    """Return the smallest canvas with that margin whose transform is quick.

    Parameters
    ----------
    shape
        ``(h, w)`` of the image, px.
    margin_px
        On each side, px.

    Returns
    -------
    tuple of int
        ``(H, W)``: even, with no prime factor above 7.
    """
    height, width = (quick_even_side(side + 2 * margin_px) for side in shape)
    return height, width


def least_margin_px(motion: MotionField) -> int:
    """Return the margin that a motion needs, px: beyond it, the canvas wraps around.

    Parameters
    ----------
    motion
        The whole motion.
    """
    _, shifts = motion.lattice()
    largest_angst = float(np.abs(shifts).max())
    return math.ceil(1.1 * largest_angst / motion.pixel_size_angst) + REACH_PX + 1


def render_frames(
    scene: Scene,
    motion: MotionField,
    *,
    voltage_kv: float,
    dose_e_per_angst2: float,
    camera_transfer: tuple[Tensor, Tensor] | None = None,
    b_angst2_per_dose: float = WATER_B_ANGST2_PER_DOSE,
    generator: Generator,
) -> Iterator[Tensor]:
    """Give the expected intensity of one frame after the other.

    Parameters
    ----------
    scene
        What is seen.
    motion
        How it moves; has the image's shape and the number of frames.
    voltage_kv
        kV, for the damage.
    dose_e_per_angst2
        Of each frame, e/Å2: for damage and the walk of water.
    camera_transfer
        MTF along y ``(H,)`` and x ``(W // 2 + 1,)`` of the canvas, as
        `transfer_function` gives it; ``None`` for 1.
    b_angst2_per_dose
        How fast water moves, Å2 per e/Å2.
    generator
        The source of randomness of the ice; lives where the scene lives.

    Yields
    ------
    Tensor
        ``(h, w)`` float32, 1 where nothing is in the way, nowhere below 0.

    Raises
    ------
    BadSettings
        The canvas has too small a margin for the motion.
    """
    _check_margin(scene, motion)
    synthesis = _Synthesis(scene, motion, camera_transfer)
    ice = None
    if scene.ice is not None:
        ice = IceMotion(
            synthesis.canvas,
            pixel_size_angst=scene.pixel_size_angst,
            dose_e_per_angst2=dose_e_per_angst2,
            b_angst2_per_dose=b_angst2_per_dose,
            generator=generator,
        )
    synthesis.fade(
        _fading(scene, start=0.0, stop=dose_e_per_angst2, voltage_kv=voltage_kv)
    )
    later = _fading_on(scene, dose_e_per_angst2, voltage_kv)
    for frame in range(motion.frame_count):
        if frame:
            synthesis.fade(later)
        if ice is not None:
            ice.next_frame()
        yield synthesis.image(frame, ice)


class _Synthesis:
    """The transforms of a scene's parts, and buffers that all frames share."""

    def __init__(
        self,
        scene: Scene,
        motion: MotionField,
        camera_transfer: tuple[Tensor, Tensor] | None,
    ) -> None:
        height, width = scene.fading.shape
        self.canvas = (height, width)
        self._scene, self._motion = scene, motion
        self._fading = _planes(scene.fading)
        self._lasting = None if scene.lasting is None else _planes(scene.lasting)
        device = scene.fading.device
        self._y = torch.fft.fftfreq(height, device=device)
        self._x = torch.fft.rfftfreq(width, device=device)
        one = torch.ones((), device=device)
        along_y, along_x = camera_transfer or (
            one.expand(height),
            one.expand(len(self._x)),
        )
        self._margin = self._scene.margin_px
        self._warps = bool(motion.modes.any())
        if self._warps:
            along_y = along_y * sharpening(self._y)
            along_x = along_x * sharpening(self._x)
        self._transfer = along_y, along_x
        self._half = torch.empty(
            (height, width // 2 + 1), dtype=torch.complex64, device=device
        )

    def fade(self, factor: Tensor) -> None:
        self._fading *= factor

    def image(self, frame: int, ice: IceMotion | None) -> Tensor:
        """Return the expected intensity of a frame."""
        contrast = self._warped(frame, ice) if self._warps else self._seen(frame, ice)
        contrast += 1
        return contrast.clamp_(min=0)

    def _seen(self, frame: int, ice: IceMotion | None, reach: int = 0) -> Tensor:
        """Return the contrast in the image and so far around it, moved as a whole."""
        start = self._margin - reach
        rows, columns = (
            slice(start, start + side + 2 * reach) for side in self._motion.shape
        )
        contrast = self._half.real.new_zeros(
            rows.stop - rows.start, columns.stop - columns.start
        )
        self._transform(frame, self._sample)
        self._add(contrast, rows.start, columns, None)
        scene = self._scene
        if ice is None or scene.ice is None:
            return contrast
        for term, weight in enumerate(scene.ice.weights(rows, columns)):
            self._transform(frame, partial(_ice_planes, ice, scene.ice, term))
            self._add(contrast, rows.start, columns, weight)
        return contrast

    def _warped(self, frame: int, ice: IceMotion | None) -> Tensor:
        """Return the contrast in the image, moved locally."""
        scene, shape = self._scene, self._motion.shape

        def shift_px(
            y: NDArray[np.float64], x: NDArray[np.float64]
        ) -> NDArray[np.float64]:
            local: NDArray[np.float64] = (
                self._motion.local_angst(frame, y, x) / scene.pixel_size_angst
            )
            return local

        y, x = (np.linspace(0, side - 1, 9) for side in shape)
        most_px = 1.1 * float(np.abs(shift_px(y[:, None], x[None, :])).max())
        reach = math.ceil(most_px) + REACH_PX + 1
        source = self._seen(frame, ice, reach)
        return warp(source, shift_px, shape=shape, margin_px=reach)

    def _add(
        self, image: Tensor, first_row: int, columns: slice, weight: Tensor | None
    ) -> None:
        """Add a part of the canvas, weighted, to an image of that part."""
        for top in range(0, image.shape[0], _ROWS):
            rows = image[top : top + _ROWS]
            place = slice(first_row + top, first_row + top + len(rows))
            part = torch.fft.irfft(self._half[place], n=self.canvas[1])[:, columns]
            if weight is None:
                rows += part
            else:
                rows.addcmul_(part, weight[top : top + _ROWS])

    def _sample(self, block: slice) -> Tensor:
        """Return what is no ice, some columns of it."""
        planes = self._fading[:, block]
        return planes if self._lasting is None else planes + self._lasting[:, block]

    def _transform(self, frame: int, planes_of: Callable[[slice], Tensor]) -> None:
        """Move, blur and transform along y; what is left is along x."""
        along_y, along_x = self._factors(frame)
        way_px = self._motion.blur_angst[frame] / self._scene.pixel_size_angst
        columns = self.canvas[1] // 2 + 1
        step = max(_BLOCK // self.canvas[0], 1)
        for start in range(0, columns, step):
            block = slice(start, min(start + step, columns))
            inverse_along_y(
                planes_of(block),
                along_y=along_y,
                along_x=along_x[:, block],
                way_px=way_px,
                out=self._half,
                first=start,
            )

    def _factors(self, frame: int) -> tuple[Tensor, Tensor]:
        """Return factors along y and x: planes ``(3, n)`` as `inverse_along_y` takes.

        Global shift and MTF. At Nyquist the shift has no partner of the other sign, so
        its real part is taken.
        """
        shift_px = self._motion.global_angst[frame] / self._scene.pixel_size_angst
        factors = []
        for frequency, shift, transfer in zip(
            (self._y, self._x), shift_px, self._transfer, strict=True
        ):
            phase = frequency.double() * (-2 * math.pi * float(shift))
            sine = torch.sin(phase).float()
            sine[frequency.abs() == 0.5] = 0
            real, imaginary = torch.cos(phase).float() * transfer, sine * transfer
            factors.append(torch.stack([real, imaginary, frequency]))
        return factors[0], factors[1]


def _ice_planes(
    ice: IceMotion, contrast: IceContrast, term: int, block: slice
) -> Tensor:
    real, imaginary = contrast.filter(term, block)
    noise = ice.planes(block)
    planes = noise * real
    if imaginary is not None:
        planes[0].addcmul_(noise[1], imaginary, value=-1)
        planes[1].addcmul_(noise[0], imaginary)
    return planes


def _planes(image: Tensor) -> Tensor:
    """Return the rfft2, columns first, as real and imaginary planes."""
    spectrum = torch.fft.rfft2(image).T
    return torch.stack([spectrum.real, spectrum.imag])


def _fading(scene: Scene, *, start: float, stop: float, voltage_kv: float) -> Tensor:
    height, width = scene.fading.shape
    frequency = radial_frequency(
        (height, width), scene.pixel_size_angst, device=scene.fading.device
    )
    return radial_values(
        frequency.T.contiguous(),
        lambda g: damage_filter(
            g,
            start_e_per_angst2=start,
            stop_e_per_angst2=stop,
            voltage_kv=voltage_kv,
        ),
    )


def _fading_on(scene: Scene, dose_e_per_angst2: float, voltage_kv: float) -> Tensor:
    """Return the factor from each frame to the next: exp(-dose / (2 Ne))."""
    one, two = (
        _fading(
            scene,
            start=n * dose_e_per_angst2,
            stop=n * dose_e_per_angst2,
            voltage_kv=voltage_kv,
        )
        for n in (0, 1)
    )
    return two / one


def _check_margin(scene: Scene, motion: MotionField) -> None:
    height, width = motion.shape
    least = least_margin_px(motion)
    spare = min(scene.fading.shape[0] - height, scene.fading.shape[1] - width)
    if scene.margin_px < least or spare - scene.margin_px < least:
        raise BadSettings(
            f"A margin of {scene.margin_px} px around an image that needs {least} px.",
            hint="Make the canvas with least_margin_px and canvas_shape.",
        )
