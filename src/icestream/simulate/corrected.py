"""The sum of a movie's frames as perfect motion correction would leave it.

Shifts are gone; what happens within each frame stays: its blur, the beam's damage, the
walk of water. The sum is linear in the expected intensity and its Poisson counts are
those of one draw, so no frame and no dose group is rendered: damage and blur are
averaged over the frames coefficient by coefficient, and the sum of the frames of moving
ice is Gaussian noise of known variance. Nothing is approximated but the local motion
within a frame, which `render` leaves out too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from icestream.simulate.ice import radial_frequency, radial_values
from icestream.simulate.ice_motion import WATER_B_ANGST2_PER_DOSE, frame_correlation
from icestream.simulate.motion import blur_filter, damage_filter

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from icestream.simulate.motion import MotionField
    from icestream.simulate.render import Scene

__all__ = ["render_corrected"]

_ROWS = 32


def render_corrected(
    scene: Scene,
    motion: MotionField,
    *,
    voltage_kv: float,
    dose_e_per_angst2: float,
    camera_transfer: tuple[Tensor, Tensor] | None = None,
    b_angst2_per_dose: float = WATER_B_ANGST2_PER_DOSE,
    generator: Generator,
) -> Tensor:
    """Return the mean expected intensity of all frames, each where frame 0 is.

    Parameters
    ----------
    scene
        What is seen.
    motion
        Number of frames, and the way within each.
    voltage_kv
        kV, for the damage.
    dose_e_per_angst2
        Of each frame, e/Å2.
    camera_transfer
        MTF along y ``(H,)`` and x ``(W // 2 + 1,)`` of the canvas; ``None`` for 1.
    b_angst2_per_dose
        How fast water moves, Å2 per e/Å2.
    generator
        The source of randomness of the ice; lives where the scene lives.

    Returns
    -------
    Tensor
        ``(h, w)`` float32, 1 where nothing is in the way, nowhere below 0.
    """
    canvas = (scene.fading.shape[0], scene.fading.shape[1])
    course = _course(
        scene,
        voltage_kv=voltage_kv,
        dose_e_per_angst2=dose_e_per_angst2,
        b_angst2_per_dose=b_angst2_per_dose,
    )
    spectrum = torch.fft.rfft2(scene.fading)
    lasting = None if scene.lasting is None else torch.fft.rfft2(scene.lasting)
    noise = None
    if scene.ice is not None:
        white = torch.randn(canvas, generator=generator, device=generator.device)
        noise = torch.fft.rfft2(white)
    for start in range(0, canvas[0], _ROWS):
        rows = slice(start, start + _ROWS)
        fades, lasts, power = _means(course, motion, scene.pixel_size_angst, rows)
        spectrum[rows] *= fades
        if lasting is not None:
            spectrum[rows] += lasting[rows].mul_(lasts)
        if noise is not None:
            noise[rows] *= power.sqrt_()
    rows, columns = (
        slice(scene.margin_px, scene.margin_px + side) for side in motion.shape
    )
    image = 1 + _imaged(spectrum, camera_transfer, canvas)[rows, columns]
    if noise is not None and scene.ice is not None:
        for term, weight in enumerate(scene.ice.weights(rows, columns)):
            real, imaginary = scene.ice.filter(term, slice(None))
            factor = real if imaginary is None else torch.complex(real, imaginary)
            texture = _imaged(noise * factor.T, camera_transfer, canvas)[rows, columns]
            image += texture if weight is None else texture.mul_(weight)
    return image.clamp_(min=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """What changes from frame to frame, ``(H, W // 2 + 1)`` each.

    Damage in the first frame and from each to the next; variance of the ice in a frame,
    its covariance with the next frame, and that from there on.
    """

    first: Tensor
    later: Tensor
    variance: Tensor
    covariance: Tensor
    keep: Tensor


def _course(
    scene: Scene,
    *,
    voltage_kv: float,
    dose_e_per_angst2: float,
    b_angst2_per_dose: float,
) -> _Course:
    shape = (scene.fading.shape[0], scene.fading.shape[1])
    g = radial_frequency(shape, scene.pixel_size_angst, device=scene.fading.device)

    def damage(g: Tensor, start: int) -> Tensor:
        return damage_filter(
            g,
            start_e_per_angst2=start * dose_e_per_angst2,
            stop_e_per_angst2=(start + 1) * dose_e_per_angst2,
            voltage_kv=voltage_kv,
        )

    def ice(g: Tensor, lag: int) -> Tensor:
        return frame_correlation(
            g, dose_e_per_angst2, lag=lag, b_angst2_per_dose=b_angst2_per_dose
        )

    return _Course(
        first=radial_values(g, lambda g: damage(g, 0)),
        later=radial_values(g, lambda g: damage(g, 1) / damage(g, 0)),
        variance=radial_values(g, lambda g: ice(g, 0)),
        covariance=radial_values(g, lambda g: ice(g, 1)),
        keep=radial_values(g, lambda g: ice(g, 2) / ice(g, 1)),
    )


def _means(
    course: _Course, motion: MotionField, pixel_size_angst: float, rows: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Return factors of what fades, of what lasts, and of the power of ice.

    With blur b_t and covariances C_k = C_1 r^(k-1), the power of the mean of T frames
    is the sum over t of b_t (C_0 b_t + 2 C_1 u_t) / T2, u_t = r u_(t-1) + b_(t-1).
    """
    fade = course.first[rows].clone()
    height, half_width = course.first.shape
    y = torch.fft.fftfreq(height, device=fade.device)[rows, None]
    x = torch.fft.rfftfreq(2 * (half_width - 1), device=fade.device)
    one = torch.ones_like(fade)
    fades, lasts, power, before = (torch.zeros_like(fade) for _ in range(4))
    ways_px = motion.blur_angst / pixel_size_angst
    count = motion.frame_count
    for way_px in ways_px:
        blur = blur_filter(way_px, y, x)
        blur = one if blur is None else blur
        fades.addcmul_(fade, blur)
        lasts += blur
        term = before * course.covariance[rows]
        term *= 2
        power += term.addcmul_(course.variance[rows], blur).mul_(blur)
        before.mul_(course.keep[rows]).add_(blur)
        fade *= course.later[rows]
    return fades / count, lasts / count, power / count**2


def _imaged(
    spectrum: Tensor,
    camera_transfer: tuple[Tensor, Tensor] | None,
    canvas: tuple[int, int],
) -> Tensor:
    if camera_transfer is not None:
        along_y, along_x = camera_transfer
        spectrum = spectrum.mul_(along_y[:, None]).mul_(along_x)
    image: Tensor = torch.fft.irfft2(spectrum, s=canvas)
    return image
