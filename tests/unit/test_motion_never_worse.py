"""No movie becomes worse: parts against the whole, and the whole against nothing.

Twenty small movies of each hard kind, simulated. Of each, the motion of the whole and
that with parts is estimated, and frames are added up by either and as they are. The
truth is the sum of the same frames without noise, moved back by the true motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.domain import MotionField
from icestream.engines.motion import estimate_motion, field_on_grid
from icestream.engines.motion.average import average_frames
from icestream.simulate.compose import compose_scene
from icestream.simulate.detector import draw_poisson
from icestream.simulate.exposure import Exposure, Recipe, draw_exposure
from icestream.simulate.motion import simulate_motion
from icestream.simulate.render import render_frames
from icestream.simulate.score import motion_rmsd_angst
from microscope import CAGE, projector, recipe, seeded

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from icestream.simulate.exposure import Defect

MOVIES = 20
SIDE, ANGST, FRAMES = 256, 3.0, 8
DOSE_E_PER_ANGST2 = 2.0
USUAL_E_PER_PX = DOSE_E_PER_ANGST2 * ANGST**2
TOLERANCE_ANGST, TOLERANCE_FRC = 0.05, 0.01
# Where correlations are taken, Å.
COARSEST_ANGST, FINEST_ANGST, RINGS = 40.0, 7.0, 12
NODES = np.linspace(0, SIDE - 1, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """Frames without noise, ``(frames, h, w)`` of mean 1, and where content goes."""

    frames: Tensor
    field: MotionField

    @property
    def place(self) -> np.ndarray:
        """``(frames, 9, 9, 2)`` Å."""
        places = np.linspace(0, SIDE - 1, 9)
        return field_on_grid(self.field, places, places)

    def image(self, frames: Tensor, field: MotionField) -> Tensor:
        averages = average_frames(frames.numpy(), field=field, pixel_size_angst=ANGST)
        assert averages.plain is not None
        return averages.plain


def kind(**values: int) -> Recipe:
    return recipe(
        SIDE,
        pixel_size_angst=ANGST,
        frame_count=FRAMES,
        dose_e_per_angst2=DOSE_E_PER_ANGST2 * FRAMES,
        species=(CAGE,),
        **values,
    )


def moving(exposure: Exposure, recipe: Recipe, *, jump_angst: float) -> Moving:
    """Render an exposure; parts of every other one move apart by 3 Å, else by 0.5."""
    motion = simulate_motion(
        np.random.default_rng(exposure.number),
        shape=recipe.shape,
        pixel_size_angst=ANGST,
        frame_count=FRAMES,
        dose_e_per_angst2=DOSE_E_PER_ANGST2,
        jump_angst=jump_angst,
        doming_angst=3.0 if exposure.number % 2 else 0.5,
    )
    generator = seeded(exposure.number)
    composed = compose_scene(
        replace(exposure, motion=motion),
        recipe,
        [projector("cage", ANGST)],
        generator=generator,
    )
    rendered = render_frames(
        composed.scene,
        motion,
        voltage_kv=300,
        dose_e_per_angst2=DOSE_E_PER_ANGST2,
        generator=generator,
    )
    return Moving(
        frames=torch.stack(list(rendered)),
        field=field_of(
            np.stack(
                [
                    motion.shift_angst(frame, NODES[:, None], NODES)
                    for frame in range(FRAMES)
                ]
            )
        ),
    )


def field_of(nodes_angst: np.ndarray) -> MotionField:
    """Return the field of shifts at nodes, of mean 0 over time everywhere."""
    shift = nodes_angst - nodes_angst.mean(0)
    whole = shift.mean((1, 2))
    return MotionField(
        shape_px=(SIDE, SIDE),
        shift_angst=whole,
        local_angst=shift - whole[:, None, None],
    )


def some(moves: Moving, frames: slice) -> Moving:
    whole = moves.field.shift_angst[:, None, None]
    assert moves.field.local_angst is not None
    nodes = (whole + moves.field.local_angst)[frames]
    return Moving(frames=moves.frames[frames], field=field_of(nodes))


def empty_ice(number: int) -> Moving:
    nothing = kind(particle_count=0)
    return moving(draw(nothing, number), nothing, jump_angst=10)


def carbon(number: int) -> Moving:
    return filmed(number, "carbon", particle_count=4)


def gold(number: int) -> Moving:
    """Foil whose edge is stronger than all content, beside well-filled ice."""
    return filmed(number, "gold", particle_count=30)


def filmed(number: int, film: Defect, *, particle_count: int) -> Moving:
    some = kind(particle_count=particle_count)
    exposure = draw_exposure(some, number=number, seed=3, defect=film)
    return moving(exposure, some, jump_angst=10)


def one_particle(number: int) -> Moving:
    one = kind(particle_count=1)
    return moving(draw(one, number), one, jump_angst=10)


@cache
def protein(number: int) -> Moving:
    many = kind(particle_count=30)
    return moving(draw(many, number), many, jump_angst=10)


def jumping(number: int) -> Moving:
    many = kind(particle_count=30)
    return moving(draw(many, number), many, jump_angst=30)


def three_frames(number: int) -> Moving:
    return some(protein(number), slice(0, 3))


def draw(recipe: Recipe, number: int) -> Exposure:
    return draw_exposure(recipe, number=number, seed=3)


def counted(moves: Moving, number: int, electrons_per_px: float) -> Tensor:
    return draw_poisson(moves.frames * electrons_per_px, generator=seeded(number))


def usual(moves: Moving, number: int) -> Tensor:
    return counted(moves, number, USUAL_E_PER_PX)


def faint(moves: Moving, number: int) -> Tensor:
    """0.2 electrons in each pixel of 1 Å, of which nine make one here."""
    return counted(moves, number, 0.2 * ANGST**2)


def dark(moves: Moving, number: int) -> Tensor:
    return counted(moves, number, 0.2)


def with_wrong_gain(moves: Moving, number: int) -> Tensor:
    """5 % wrong at each pixel, and a tenth over one half."""
    wrong = 1 + 0.05 * torch.randn(SIDE, SIDE, generator=seeded(99))
    wrong[:, SIDE // 2 :] *= 1.1
    return usual(moves, number) * wrong


def with_bad_frame(moves: Moving, number: int) -> Tensor:
    """One in the middle is blank, or ten times as bright and empty."""
    frames = usual(moves, number)
    bright = torch.full((SIDE, SIDE), 10 * USUAL_E_PER_PX)
    bad = torch.zeros_like(bright)
    if number % 2:
        bad = draw_poisson(bright, generator=seeded(number))
    frames[FRAMES // 2] = bad
    return frames


@pytest.mark.parametrize(
    ("scene", "camera"),
    [
        (empty_ice, usual),
        (carbon, usual),
        (gold, usual),
        (one_particle, usual),
        (protein, faint),
        (protein, dark),
        (protein, with_wrong_gain),
        (protein, with_bad_frame),
        (jumping, usual),
        (three_frames, usual),
    ],
)
def test_parts_are_not_worse_than_the_whole_nor_that_than_nothing(
    scene: Callable[[int], Moving], camera: Callable[[Moving, int], Tensor]
) -> None:
    scores = np.array([scored(scene(n), camera, n) for n in range(1, MOVIES + 1)])
    (none, none_frc), (whole, whole_frc), (parts, parts_frc) = scores.mean(0)
    assert whole < none + TOLERANCE_ANGST
    assert parts < whole + TOLERANCE_ANGST
    assert whole_frc > none_frc - TOLERANCE_FRC * abs(none_frc)
    assert parts_frc > whole_frc - TOLERANCE_FRC * abs(whole_frc)


def scored(
    moves: Moving, camera: Callable[[Moving, int], Tensor], number: int
) -> list[tuple[float, float]]:
    """Return RMSD, Å, and FRC of no correction, of the whole, and with parts."""
    frames = camera(moves, number)
    wanted = moves.image(moves.frames, moves.field)
    still = MotionField(shape_px=(SIDE, SIDE), shift_angst=np.zeros((len(frames), 2)))
    fields = [still]
    for with_local in (False, True):
        motion = estimate_motion(
            frames,
            pixel_size_angst=ANGST,
            dose_e_per_angst2=DOSE_E_PER_ANGST2,
            with_local=with_local,
        )
        fields.append(motion.field)
    places = np.linspace(0, SIDE - 1, 9)
    return [
        (
            motion_rmsd_angst(moves.place, field_on_grid(field, places, places)),
            ring_correlation(moves.image(frames, field), wanted),
        )
        for field in fields
    ]


def ring_correlation(image: Tensor, wanted: Tensor) -> float:
    """Return the mean over rings of one width; the borders are cut and faded."""
    spectra = []
    for one in (image, wanted):
        middle = one[8:-8, 8:-8]
        fade = torch.hann_window(len(middle), periodic=False)
        spectra.append(torch.fft.rfft2((middle - middle.mean()) * fade * fade[:, None]))
    seen, known = spectra
    y, x = torch.fft.fftfreq(len(seen), ANGST), torch.fft.rfftfreq(len(seen), ANGST)
    place = torch.hypot(y[:, None], x)
    edges = np.linspace(1 / COARSEST_ANGST, 1 / FINEST_ANGST, RINGS + 1)
    found = []
    for low, high in pairwise(edges):
        ring = (place >= low) & (place < high)
        a, b = seen[ring], known[ring]
        power = a.abs().square().sum() * b.abs().square().sum()
        found.append(float((a * b.conj()).real.sum() / power.sqrt()))
    return float(np.mean(found))
