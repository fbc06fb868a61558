"""Movies of protein in ice that move as known, and what they show.

Each exposure is taken twice, without and with damage by the beam. Beside the two movies
lies what the programs must not see: the motion, the contrast of all but the ice without
noise, and images of the same exposures that never moved, on a perfect sensor.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

import icestream.simulate
from icestream.domain import MotionField as FoundField
from icestream.engines.fourier import quick_even_side
from icestream.engines.motion.average import average_frames
from icestream.engines.motion.dose import dose_weights
from icestream.simulate.camera import Camera, take_frames, take_micrograph
from icestream.simulate.compose import ComposedScene, compose_scene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.exposure import Recipe, draw_exposure
from icestream.simulate.instrument import write_tiff_movie
from icestream.simulate.instrument.gain import write_gain
from icestream.simulate.mixture import make_mixture
from icestream.simulate.motion import MotionField
from icestream.simulate.potential import potential_volume
from icestream.simulate.projection import Projector
from icestream.simulate.sensor import Sensor, flat_field_gain, simulate_sensor
from icestream.simulate.streams import Purpose, torch_stream
from icestream.simulate.warp import sharpening

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from icestream.simulate.render import Scene

Size: TypeAlias = Literal["4096", "k3"]

SEED = 4
SPECIMEN = "cage"
_FLAT_ELECTRONS_PER_PX = 3000.0
_ROWS_PER_STRIP = 128
_FREQUENCIES = 513
_BOX_DIAMETERS = 1.3

_SHAPES: dict[Size, tuple[int, int]] = {"4096": (4096, 4096), "k3": (4092, 5760)}
_PIXELS_ANGST: dict[Size, float] = {"4096": 0.9, "k3": 0.83}
_FRAMES: dict[Size, int] = {"4096": 24, "k3": 40}
_DOSES_E_PER_ANGST2: dict[Size, float] = {"4096": 40.0, "k3": 50.0}


def recipe_of(size: Size) -> Recipe:
    """Return what all exposures of a camera have in common."""
    return Recipe(
        shape=_SHAPES[size],
        pixel_size_angst=_PIXELS_ANGST[size],
        frame_count=_FRAMES[size],
        dose_e_per_angst2=_DOSES_E_PER_ANGST2[size],
        species=make_mixture([SPECIMEN], []).species,
        particle_count=230,
    )


@cache
def made_by(size: Size) -> str:
    """Return what tells movies of another recipe, seed or simulator, for file names."""
    told = hashlib.sha256(repr((recipe_of(size), SEED)).encode())
    simulator = Path(icestream.simulate.__file__).parent
    for source in (Path(__file__), *sorted(simulator.rglob("*.py"))):
        told.update(source.read_bytes())
    return told.hexdigest()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """Where an exposure's files are; what another simulator made is not found."""

    size: Size
    number: int
    folder: Path

    def movie(self, *, is_damaged: bool) -> Path:
        """TIFF, LZW, uint8 counts."""
        return self._file("damaged.tiff" if is_damaged else "plain.tiff")

    @property
    def gain(self) -> Path:
        """MRC, as RELION wants it."""
        return self.folder / f"{self.size}_{made_by(self.size)}_gain.mrc"

    @property
    def truth(self) -> Path:
        """What `Truth` reads; written last."""
        return self._file("truth.npz")

    def _file(self, ending: str) -> Path:
        known = f"{self.size}_{made_by(self.size)}_{self.number:02d}"
        return self.folder / f"{known}_{ending}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """What a movie shows, rows as in its file.

    Parameters
    ----------
    contrast
        ``(H, W)`` of frame 0 without noise and ice, larger than the image by
        ``margin_px`` at the top and on the left, sharpened for `warp`.
    margin_px
        As said.
    motion
        Of the content.
    still, still_damaged
        ``(h, w)`` images of the same dose that never moved: the plain sum without
        damage, and the dose-weighted sum with it.
    """

    contrast: torch.Tensor
    margin_px: int
    motion: MotionField
    still: NDArray[np.float32]
    still_damaged: NDArray[np.float32]

    @classmethod
    def read(cls, exposed: Exposed) -> Truth:
        """Read the truth of an exposure."""
        recipe = recipe_of(exposed.size)
        with np.load(exposed.truth) as kept:
            return cls(
                contrast=torch.from_numpy(kept["contrast"]),
                margin_px=int(kept["margin_px"]),
                motion=MotionField(
                    shape=recipe.shape,
                    pixel_size_angst=recipe.pixel_size_angst,
                    **{name: kept[name] for name in _MOTION},
                ),
                still=kept["still"],
                still_damaged=kept["still_damaged"],
            )


_MOTION = ("global_angst", "modes", "coefficients", "blur_angst")


def make_movies(
    folder: Path, counts: dict[Size, int], *, processes: int
) -> list[Exposed]:
    """Simulate what a folder does not hold yet; return all exposures."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        Exposed(size=size, number=number, folder=folder)
        for size, count in counts.items()
        for number in range(1, count + 1)
    ]
    for size in counts:
        _write_gain(next((one for one in wanted if one.size == size), None))
    absent = [one for one in wanted if not one.truth.is_file()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(processes, 1), mp_context=context) as pool:
        list(pool.map(_expose, absent))
    return wanted


def _write_gain(exposed: Exposed | None) -> None:
    if exposed is None or exposed.gain.is_file():
        return
    measured = flat_field_gain(
        _sensor(exposed.size),
        electrons_per_px=_FLAT_ELECTRONS_PER_PX,
        generator=torch_stream(SEED, Purpose.FLAT_FIELD),
    )
    write_gain(
        exposed.gain,
        measured.numpy(),
        movie_format="tiff",
        pixel_size_angst=_PIXELS_ANGST[exposed.size],
    )


def _expose(exposed: Exposed) -> None:
    torch.set_num_threads(1)
    recipe = recipe_of(exposed.size)
    exposure = draw_exposure(recipe, number=exposed.number, seed=SEED)
    generator = torch_stream(exposure.seed, Purpose.IMAGE)
    composed = compose_scene(
        exposure, recipe, [_projector(exposed.size)], generator=generator
    )
    whole = _undamaged(composed)
    camera = Camera(response=CountingResponse(), sensor=_sensor(exposed.size))
    for is_damaged, scene in ((False, whole), (True, composed)):
        frames = take_frames(scene, exposure, recipe, camera, generator=generator)
        write_tiff_movie(
            exposed.movie(is_damaged=is_damaged),
            (frame.numpy() for frame in frames),
            rows_per_strip=_ROWS_PER_STRIP,
        )
    motionless = replace(exposure, motion=_stopped(exposure.motion))
    perfect = replace(camera, sensor=None)
    still = take_micrograph(whole, motionless, recipe, perfect, generator=generator)
    faded = np.stack(
        [
            frame.numpy()
            for frame in take_frames(
                composed, motionless, recipe, perfect, generator=generator
            )
        ]
    )
    np.savez(
        exposed.truth,
        contrast=_sharpened(_noiseless(composed.scene)).numpy(),
        margin_px=composed.scene.margin_px,
        still=still.numpy(),
        still_damaged=_weighted(faded, recipe),
        **{name: getattr(exposure.motion, name) for name in _MOTION},
    )


def _undamaged(composed: ComposedScene) -> ComposedScene:
    """Return the same where nothing fades."""
    lasting = _noiseless(composed.scene)
    scene = replace(composed.scene, fading=torch.zeros_like(lasting), lasting=lasting)
    return replace(composed, scene=scene)


def _noiseless(scene: Scene) -> torch.Tensor:
    """Return the contrast of everything but the ice, before damage."""
    return scene.fading if scene.lasting is None else scene.fading + scene.lasting


def _stopped(motion: MotionField) -> MotionField:
    still = {
        name: np.zeros_like(getattr(motion, name))
        for name in ("global_angst", "modes", "blur_angst")
    }
    return replace(motion, **still)


def _weighted(frames: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.float32]:
    """Return the dose-weighted sum of frames that do not move."""
    averages = average_frames(
        frames,
        field=FoundField(shape_px=recipe.shape, shift_angst=np.zeros((len(frames), 2))),
        pixel_size_angst=recipe.pixel_size_angst,
        weights=dose_weights(
            np.linspace(0, 0.5 / recipe.pixel_size_angst, _FREQUENCIES),
            frame_count=len(frames),
            dose_e_per_angst2=recipe.frame_dose_e_per_angst2,
            voltage_kv=recipe.microscope.voltage_kv,
        ),
        with_plain=False,
    )
    assert averages.dose_weighted is not None
    return averages.dose_weighted.numpy()


def _sharpened(contrast: torch.Tensor) -> torch.Tensor:
    """Filter as `warp` wants it."""
    height, width = contrast.shape
    along_y = sharpening(torch.fft.fftfreq(height))
    along_x = sharpening(torch.fft.rfftfreq(width))
    spectrum = torch.fft.rfft2(contrast) * along_y[:, None] * along_x
    filtered: torch.Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return filtered


@cache
def _projector(size: Size) -> Projector:
    mixture = make_mixture([SPECIMEN], [])
    pixel_angst = _PIXELS_ANGST[size]
    box_px = quick_even_side(
        round(_BOX_DIAMETERS * mixture.species[0].diameter_angst / pixel_angst)
    )
    volume = potential_volume(
        mixture.atoms[0], box_px=box_px, pixel_size_angst=pixel_angst
    )
    return Projector(volume, pixel_size_angst=pixel_angst)


@cache
def _sensor(size: Size) -> Sensor:
    return simulate_sensor(_SHAPES[size], generator=torch_stream(SEED, Purpose.SENSOR))
