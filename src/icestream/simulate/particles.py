"""Stacks of particle images with truth, without micrographs (tier T2).

Every particle is a projection of a potential, in the weak-phase approximation: its
phase and that of the ice go through the contrast transfer function, on a canvas wider
than the box so that what defocus spreads does not come in again at the other side; the
electrons are then drawn (Poisson). No radiation damage, movement or detector blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import pad

from icestream.domain.errors import BadSettings
from icestream.domain.units import (
    angst_from_mm,
    electron_wavelength_angst,
    interaction_rad_per_volt_angst,
)
from icestream.engines.ctf import contrast_transfer
from icestream.engines.fourier import quick_even_side
from icestream.simulate.orientations import draw_orientations, rotation_matrices
from icestream.simulate.projection import Projector, shifted
from icestream.simulate.streams import Purpose, stream, torch_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from icestream.domain.acquisition import AcquisitionSetup
    from icestream.simulate.orientations import ViewPreference

__all__ = ["Component", "Imaging", "ParticleStack", "ParticleTruth"]
__all__ += ["simulate_particles"]

_LARGEST_CANVAS_BOXES = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Component:
    """One kind of particle in a mixture.

    Parameters
    ----------
    species
        Name, without white space.
    volume
        ``(n, n, n)`` potential over ice, V, at the pixel size of the images, n even and
        at most the side of the images; as `potential_volume` makes it. ``None`` for
        boxes that hold ice only.
    state
        Number of its conformation.
    share
        Relative number of such particles, above 0.
    preference
        Of view directions; ``None`` for uniform ones.
    """

    species: str
    volume: Tensor | None
    state: int = 0
    share: float = 1.0
    preference: ViewPreference | None = None

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise BadSettings(
                f"The share of {self.species} is {self.share}.",
                hint="Give a relative number above 0.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Imaging:
    """How the particles are seen.

    Parameters
    ----------
    setup
        Microscope and pixel size of the images.
    dose_e_per_angst2
        Electrons per Å2 in the whole exposure.
    defocus_range_angst, astigmatism_range_angst
        Lowest and highest mean defocus, and difference of U and V, Å; drawn evenly for
        each micrograph.
    particles_per_micrograph
        So many in a row share their contrast transfer function.
    b_factor_angst2
        Envelope exp(-B g2 / 4) of the amplitudes, Å2.
    ice_power_rad2_angst2
        Power of the phase that ice gives, white up to the envelope, rad2 Å2; 1e-3 makes
        up a tenth of the noise at 40 e/Å2.
    largest_shift_angst
        Particles lie off the middle of their boxes by up to this along x and y, Å.

    Raises
    ------
    BadSettings
        A value that cannot be.
    """

    setup: AcquisitionSetup
    dose_e_per_angst2: float = 40.0
    defocus_range_angst: tuple[float, float] = (7_000.0, 25_000.0)
    astigmatism_range_angst: tuple[float, float] = (50.0, 500.0)
    particles_per_micrograph: int = 125
    b_factor_angst2: float = 60.0
    ice_power_rad2_angst2: float = 1e-3
    largest_shift_angst: float = 4.0

    def __post_init__(self) -> None:
        if not (
            self.dose_e_per_angst2 > 0
            and self.particles_per_micrograph > 0
            and self.ice_power_rad2_angst2 >= 0
            and self.largest_shift_angst >= 0
            and 0 < self.defocus_range_angst[0] <= self.defocus_range_angst[1]
            and 0 <= self.astigmatism_range_angst[0] <= self.astigmatism_range_angst[1]
        ):
            raise BadSettings(
                f"{self} cannot be.",
                hint="Dose and counts are above 0, ranges go from low to high.",
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParticleTruth:
    """What is true of each particle, as columns of one length.

    Parameters
    ----------
    component
        Index into the components of the stack.
    rot_deg, tilt_deg, psi_deg
        Euler angles as `icestream.simulate.orientations` has them.
    origin_x_angst, origin_y_angst
        RELION's origin: the shift that brings the particle to the middle of its box.
    micrograph
        Index from 0.
    defocus_u_angst, defocus_v_angst, defocus_angle_deg
        Of its micrograph; conventions of `icestream.engines.ctf`.
    """

    component: NDArray[np.int64]
    rot_deg: NDArray[np.float64]
    tilt_deg: NDArray[np.float64]
    psi_deg: NDArray[np.float64]
    origin_x_angst: NDArray[np.float64]
    origin_y_angst: NDArray[np.float64]
    micrograph: NDArray[np.int64]
    defocus_u_angst: NDArray[np.float64]
    defocus_v_angst: NDArray[np.float64]
    defocus_angle_deg: NDArray[np.float64]

    @property
    def rotations(self) -> NDArray[np.float64]:
        """``(n, 3, 3)`` matrices that take the reference to the view."""
        angles = np.stack([self.rot_deg, self.tilt_deg, self.psi_deg], axis=1)
        return rotation_matrices(angles)

    @classmethod
    def joined(cls, parts: Sequence[ParticleTruth]) -> ParticleTruth:
        """Return the rows of all parts, one after the other."""
        names = [field.name for field in fields(cls)]
        columns = {n: np.concatenate([getattr(p, n) for p in parts]) for n in names}
        return cls(**columns)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParticleStack:
    """Images and what is true of them.

    Parameters
    ----------
    images
        ``(n, h, w)`` float32; relative contrast (counts over their mean, less 1), or
        normalised where a background radius was given.
    is_inverted
        Whether protein is brighter than ice.
    truth
        One row an image.
    components, imaging
        As given.
    """

    images: NDArray[np.float32]
    is_inverted: bool
    truth: ParticleTruth
    components: tuple[Component, ...]
    imaging: Imaging


def simulate_particles(
    components: Sequence[Component],
    *,
    imaging: Imaging,
    count: int,
    box_px: int,
    is_inverted: bool = True,
    background_radius_angst: float | None = None,
    seed: int = 0,
) -> ParticleStack:
    """Simulate particle images with known truth.

    Parameters
    ----------
    components
        The mixture; volumes on one device, where the work is done.
    imaging
        Microscope, dose, defocus and so on.
    count
        How many images.
    box_px
        Side of the images, px; even.
    is_inverted
        Protein bright, as extracted particles usually are; else dark, as recorded.
    background_radius_angst
        If given, every image gets mean 0 and standard deviation 1 outside this radius.
    seed
        The same seed and values give the same images on the same kind of device; those
        of a micrograph do not depend on how many follow.

    Returns
    -------
    ParticleStack
        Images in the order of their micrographs.

    Raises
    ------
    BadSettings
        No component or particle, an odd box, a volume larger than the box, or no
        background left outside the radius.
    """
    _check(components, count, box_px, imaging, background_radius_angst)
    camera = _Camera(components, imaging, box_px)
    images = np.empty((count, box_px, box_px), dtype=np.float32)
    truths: list[ParticleTruth] = []
    for first in range(0, count, imaging.particles_per_micrograph):
        last = min(first + imaging.particles_per_micrograph, count)
        # One generator a micrograph: the seventh is the same in any run.
        generator = stream(seed, Purpose.PARTICLES, len(truths))
        truth = _draw_truth(generator, components, imaging, len(truths))
        truth = _first_rows(truth, last - first)
        contrast = camera.expose(truth, int(generator.integers(2**62)))
        if background_radius_angst is not None:
            radius_px = background_radius_angst / imaging.setup.pixel_size_angst
            contrast = _normalised(contrast, radius_px)
        images[first:last] = (-contrast if is_inverted else contrast).cpu().numpy()
        truths.append(truth)
    return ParticleStack(
        images=images,
        is_inverted=is_inverted,
        truth=ParticleTruth.joined(truths),
        components=tuple(components),
        imaging=imaging,
    )


class _Camera:
    """Makes the images of one micrograph's particles."""

    def __init__(
        self, components: Sequence[Component], imaging: Imaging, box_px: int
    ) -> None:
        pixel_size_angst = imaging.setup.pixel_size_angst
        self._projectors = [
            None
            if one.volume is None
            else Projector(one.volume, pixel_size_angst=pixel_size_angst)
            for one in components
        ]
        volumes = [one.volume for one in components if one.volume is not None]
        self._device = volumes[0].device if volumes else torch.device("cpu")
        self._imaging = imaging
        self._box_px = box_px
        self._canvas_px = _canvas_px(box_px, imaging)

    def expose(self, truth: ParticleTruth, noise_seed: int) -> Tensor:
        """Return ``(n, box, box)`` relative contrast with noise, protein dark."""
        noise = torch_stream(noise_seed, Purpose.IMAGE, device=self._device)
        setup = self._imaging.setup
        contrast = self._contrast(self._phase(truth, noise), truth)
        mean_count = self._imaging.dose_e_per_angst2 * setup.pixel_size_angst**2
        expected = (mean_count * (1 + contrast)).clamp_min(0)
        counts: Tensor = torch.poisson(expected, generator=noise)
        return counts / mean_count - 1

    def _phase(self, truth: ParticleTruth, noise: torch.Generator) -> Tensor:
        """Return spectra of what particles and ice add to the phase, on the canvas."""
        setup, canvas_px = self._imaging.setup, self._canvas_px
        sigma = interaction_rad_per_volt_angst(setup.voltage_kv)
        ice_rad = math.sqrt(self._imaging.ice_power_rad2_angst2)
        shape = (len(truth.component), canvas_px, canvas_px)
        phase = torch.randn(shape, generator=noise, device=self._device)
        ice = torch.fft.rfft2(phase * (ice_rad / setup.pixel_size_angst))
        protein = torch.zeros_like(phase)
        rotations = torch.as_tensor(truth.rotations, dtype=torch.float32)
        for index, projector in enumerate(self._projectors):
            rows = torch.as_tensor(np.flatnonzero(truth.component == index))
            if projector is None or not len(rows):
                continue
            images = projector.project(rotations[rows].to(self._device))
            before = canvas_px // 2 - projector.box_px // 2
            after = canvas_px - projector.box_px - before
            protein[rows.to(self._device)] = sigma * pad(images, (before, after) * 2)
        origin = np.stack([truth.origin_x_angst, truth.origin_y_angst], axis=1)
        shift_px = torch.as_tensor(-origin / setup.pixel_size_angst).to(phase)
        spectra: Tensor = shifted(torch.fft.rfft2(protein), shift_px) + ice
        return spectra

    def _contrast(self, phase: Tensor, truth: ParticleTruth) -> Tensor:
        setup, canvas_px = self._imaging.setup, self._canvas_px
        transfer = contrast_transfer(
            (canvas_px, canvas_px),
            defocus_u_angst=float(truth.defocus_u_angst[0]),
            defocus_v_angst=float(truth.defocus_v_angst[0]),
            defocus_angle_deg=float(truth.defocus_angle_deg[0]),
            pixel_size_angst=setup.pixel_size_angst,
            voltage_kv=setup.voltage_kv,
            spherical_aberration_mm=setup.spherical_aberration_mm,
            amplitude_contrast=setup.amplitude_contrast,
            device=self._device,
        )
        transfer = transfer * _envelope(
            canvas_px,
            setup.pixel_size_angst,
            self._imaging.b_factor_angst2,
            self._device,
        )
        image: Tensor = 2 * torch.fft.irfft2(phase * transfer, s=(canvas_px, canvas_px))
        edge = canvas_px // 2 - self._box_px // 2
        return image[:, edge : edge + self._box_px, edge : edge + self._box_px]


def _check(
    components: Sequence[Component],
    count: int,
    box_px: int,
    imaging: Imaging,
    background_radius_angst: float | None,
) -> None:
    if not components or count < 1 or box_px < 8 or box_px % 2:
        raise BadSettings(
            f"{count} images of {box_px} px of {len(components)} components cannot be.",
            hint="Give 1 or more components and images, and an even box from 8 px.",
        )
    for one in components:
        if one.volume is not None and one.volume.shape[-1] > box_px:
            raise BadSettings(
                f"The volume of {one.species} has {one.volume.shape[-1]} px, the images"
                f" {box_px}.",
                hint="Make the volume in a box of at most the images' side.",
            )
    half_angst = box_px / 2 * imaging.setup.pixel_size_angst
    if background_radius_angst is not None and background_radius_angst > half_angst:
        raise BadSettings(
            f"Nothing lies further than {background_radius_angst} Å from the middle of"
            f" a box of {2 * half_angst:.0f} Å.",
            hint="Take a larger box or a smaller background radius.",
        )


def _canvas_px(box_px: int, imaging: Imaging) -> int:
    """Return the side on which what defocus spreads stays outside the box."""
    setup = imaging.setup
    wavelength = electron_wavelength_angst(setup.voltage_kv)
    g = 1 / (2 * setup.pixel_size_angst)
    defocus = imaging.defocus_range_angst[1]
    cs_angst = angst_from_mm(setup.spherical_aberration_mm)
    reach = abs(wavelength * defocus * g) + cs_angst * (wavelength * g) ** 3
    reach_px = (reach + imaging.largest_shift_angst) / setup.pixel_size_angst
    wanted = min(math.ceil(box_px + reach_px), _LARGEST_CANVAS_BOXES * box_px)
    return quick_even_side(wanted)


def _envelope(
    side_px: int, pixel_size_angst: float, b_angst2: float, device: torch.device
) -> Tensor:
    y = torch.fft.fftfreq(side_px, pixel_size_angst, device=device)
    x = torch.fft.rfftfreq(side_px, pixel_size_angst, device=device)
    return torch.exp(-b_angst2 / 4 * (y[:, None].square() + x.square()))


def _draw_truth(
    generator: np.random.Generator,
    components: Sequence[Component],
    imaging: Imaging,
    micrograph: int,
) -> ParticleTruth:
    """Draw one full micrograph."""
    count = imaging.particles_per_micrograph
    shares = np.array([one.share for one in components])
    component = generator.choice(len(components), size=count, p=shares / shares.sum())
    angles_deg = np.empty((count, 3))
    for index, one in enumerate(components):
        drawn = draw_orientations(generator, count, preference=one.preference)
        angles_deg[component == index] = drawn[component == index]
    most = imaging.largest_shift_angst
    origin_angst = generator.uniform(-most, most, size=(count, 2))
    mean_angst = generator.uniform(*imaging.defocus_range_angst)
    astigmatism_angst = generator.uniform(*imaging.astigmatism_range_angst)
    angle_deg = generator.uniform(0, 180)
    return ParticleTruth(
        component=component,
        rot_deg=angles_deg[:, 0],
        tilt_deg=angles_deg[:, 1],
        psi_deg=angles_deg[:, 2],
        origin_x_angst=origin_angst[:, 0],
        origin_y_angst=origin_angst[:, 1],
        micrograph=np.full(count, micrograph),
        defocus_u_angst=np.full(count, mean_angst + astigmatism_angst / 2),
        defocus_v_angst=np.full(count, mean_angst - astigmatism_angst / 2),
        defocus_angle_deg=np.full(count, angle_deg),
    )


def _first_rows(truth: ParticleTruth, count: int) -> ParticleTruth:
    return ParticleTruth(
        **{one.name: getattr(truth, one.name)[:count] for one in fields(truth)}
    )


def _normalised(images: Tensor, radius_px: float) -> Tensor:
    side = images.shape[-1]
    line = torch.arange(side, device=images.device) - side // 2
    outside = images[:, (line[:, None] ** 2 + line**2) > radius_px**2]
    mean = outside.mean(dim=1)[:, None, None]
    normalised: Tensor = (images - mean) / outside.std(dim=1)[:, None, None]
    return normalised
