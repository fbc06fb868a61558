"""RELION finds in simulated movies and micrographs what the truth says.

Signs, orientations, angles and units, held by another program: see
docs/explanation/conventions.md.
"""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import starfile
import tifffile
import torch

from icestream.engines.extraction import extract_particles
from icestream.engines.motion import estimate_motion, field_on_grid
from icestream.io import read_stack, write_mrc, write_star
from icestream.simulate.camera import take_frames, take_micrograph
from icestream.simulate.compose import compose_scene
from icestream.simulate.detector import CountingResponse, draw_events
from icestream.simulate.exposure import draw_exposure
from icestream.simulate.film import FilmEdge
from icestream.simulate.instrument import (
    EerExposure,
    EventFrame,
    write_eer,
    write_gain,
    write_tiff_movie,
)
from icestream.simulate.motion import MotionField, simulate_motion
from icestream.simulate.optics import Microscope, Optics, defocus_at_angst
from icestream.simulate.phantom import phantom_intensity
from icestream.simulate.potential import potential_volume
from icestream.simulate.projection import Projector
from icestream.simulate.proteins import make_specimen
from icestream.simulate.score import motion_rmsd_angst
from icestream.simulate.sensor import simulate_sensor
from microscope import CAGE, camera, exposure, projector, recipe, seeded
from relion_field import recovered_angst
from structures import shell_correlation

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = [
    pytest.mark.relion,
    pytest.mark.skipif(
        shutil.which("relion_run_motioncorr") is None,
        reason="RELION is not installed (apt install relion)",
    ),
]

SETUP: dict[str, list[Any]] = {
    "rlnOpticsGroupName": ["one"],
    "rlnOpticsGroup": [1],
    "rlnVoltage": [300.0],
    "rlnSphericalAberration": [2.7],
    "rlnAmplitudeContrast": [0.07],
}


def correct_motion(
    folder: Path, movie: str, pixel_size_angst: float, options: str
) -> dict[str, Any]:
    """Run RELION's own motion correction; return the tables of its STAR file."""
    optics = SETUP | {"rlnMicrographOriginalPixelSize": [pixel_size_angst]}
    movies: dict[str, list[Any]] = {
        "rlnMicrographMovieName": [movie],
        "rlnOpticsGroup": [1],
    }
    write_star(folder / "movies.star", {"optics": optics, "movies": movies})
    command = "relion_run_motioncorr --i movies.star --o out --use_own --j 4 " + options
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    (path,) = (folder / "out").glob(movie.split(".")[0] + ".star")
    tables: dict[str, Any] = starfile.read(path)
    return tables


def rmsd_angst(found: NDArray[Any], truth: NDArray[Any]) -> float:
    """Compare ``(frames, ..., 2)`` shifts by the length of their difference.

    Root 2 above the score's own figure, which averages over both components.
    """
    found = np.broadcast_to(found, truth.shape)
    return math.sqrt(2) * motion_rmsd_angst(truth, found)


def test_relion_recovers_the_motion_of_a_tiff_movie(tmp_path: Path) -> None:
    """A quarter of a K3, 24 frames of 1.25 e/px, on a film of carbon, with its gain.

    RELION's error here is the noise of the counts: at 50 e/px it is 0.05 Å.
    """
    how = recipe(
        2048,
        frame_count=24,
        dose_e_per_angst2=30.0,
        species=(CAGE,),
        particle_count=60,
    )
    motion = simulate_motion(
        np.random.default_rng(2),
        shape=how.shape,
        pixel_size_angst=1.0,
        frame_count=24,
        dose_e_per_angst2=1.25,
        doming_angst=4.0,
    )
    one = exposure(
        how,
        is_still=False,
        motion=motion,
        contaminants=(),
        film="carbon",
        film_edge=FilmEdge(angle_deg=0.0, distance_angst=-1e4),
    )
    sensor = simulate_sensor(how.shape, generator=seeded(4))
    draw = seeded()
    scene = compose_scene(one, how, [projector("cage", 1.0)], generator=draw)
    frames = take_frames(
        scene, one, how, camera(sensor, CountingResponse()), generator=draw
    )
    write_tiff_movie(
        tmp_path / "movie.tif",
        (frame.numpy() for frame in frames),
        rows_per_strip=128,
    )
    write_gain(
        tmp_path / "gain.mrc",
        sensor.gain.numpy(),
        movie_format="tiff",
        pixel_size_angst=1.0,
    )

    tables = correct_motion(
        tmp_path, "movie.tif", 1.0, "--gainref gain.mrc --patch_x 5 --patch_y 5"
    )
    places, truth = motion.lattice(side=5, margin_px=200.0)
    # RELION turns the rows of a TIFF upside down.
    truth = truth * [-1, 1]
    y_px = how.shape[0] - 1 - places[..., 0]
    whole, local = recovered_angst(tables, y_px, places[..., 1])
    assert rmsd_angst(np.zeros_like(truth), truth) > 1.5
    assert rmsd_angst(local, truth) < 0.4
    # The local model takes away most of the doming.
    assert rmsd_angst(local, truth) < 0.75 * rmsd_angst(whole, truth)
    assert rmsd_angst(2 * whole - local, truth) > 0.8
    # Our own estimate, rows as stored, is no worse. (0.28 Å, RELION's 0.29.)
    counts = torch.from_numpy(tifffile.imread(tmp_path / "movie.tif")) * sensor.gain
    binned = counts.view(24, 512, 4, 512, 4).sum((2, 4))
    estimate = estimate_motion(
        binned, pixel_size_angst=4.0, dose_e_per_angst2=1.25, shape_px=how.shape
    )
    ours = field_on_grid(estimate.field, places[:, 0, 0], places[0, :, 1]) * [-1, 1]
    assert rmsd_angst(ours, truth) < 1.1 * rmsd_angst(local, truth)


def test_relion_recovers_the_motion_of_an_eer_movie(tmp_path: Path) -> None:
    """4096 x 4096, as RELION wants it: a moving grid, 6 fractions of 2 raw frames."""
    shape, fractions, raw_frames = (4096, 4096), 6, 2
    motion = simulate_motion(
        np.random.default_rng(5),
        shape=shape,
        pixel_size_angst=0.9,
        frame_count=fractions,
        dose_e_per_angst2=1.0,
        doming_angst=4.0,
    )
    draw = seeded()
    sensor = simulate_sensor(shape, generator=seeded(4), hot_count=0)
    write_eer(
        tmp_path / "movie.eer",
        _grid_events(motion, sensor.sensitivity, raw_frames, draw),
        exposure=EerExposure(
            started_at=datetime(2026, 11, 1, tzinfo=UTC),
            frame_rate_hz=320.0,
            pixel_size_angst=0.9,
            gain_reference="gain.gain",
        ),
    )
    write_gain(tmp_path / "gain.gain", sensor.gain.numpy(), movie_format="eer")

    tables = correct_motion(
        tmp_path,
        "movie.eer",
        0.9,
        f"--gainref gain.gain --eer_grouping {raw_frames} --patch_x 5 --patch_y 5",
    )
    places, truth = motion.lattice(side=5, margin_px=400.0)
    whole, local = recovered_angst(tables, places[..., 0], places[..., 1])
    assert rmsd_angst(np.zeros_like(truth), truth) > 1.0
    assert rmsd_angst(local, truth) < 0.4
    assert rmsd_angst(local, truth) < 0.75 * rmsd_angst(whole, truth)


_GRID_ELECTRONS_PER_PX = 0.15


def _grid_events(
    motion: MotionField,
    sensitivity: torch.Tensor,
    raw_frames: int,
    draw: torch.Generator,
) -> Iterator[EventFrame]:
    for frame in range(motion.frame_count):
        expected = phantom_intensity(
            motion, frame, pitch_px=128.0, line_px=3.0, depth=0.5
        )
        events = draw_events(
            expected.clamp_(min=0) * (sensitivity * _GRID_ELECTRONS_PER_PX),
            raw_frame_count=raw_frames,
            generator=draw,
        )
        for one in range(raw_frames):
            part = slice(int(events.starts[one]), int(events.starts[one + 1]))
            subpixel = 4 * events.sub_y[part] + events.sub_x[part]
            yield EventFrame(events.pixel[part].numpy(), subpixel.numpy())


BOX_PX, PIXEL_ANGST = 64, 2.5


@pytest.fixture(scope="module")
def small_volume() -> torch.Tensor:
    # No symmetry: a wrong hand or angle cannot hide.
    return potential_volume(
        make_specimen("small").atoms, box_px=BOX_PX, pixel_size_angst=PIXEL_ANGST
    )


def extracted(folder: Path, volume: torch.Tensor, optics: Optics, count: int) -> None:
    """Write boxes cut from whole micrographs, with the truth, as RELION reads them."""
    species = (replace(CAGE, name="small", diameter_angst=120),)
    how = recipe(
        1024,
        pixel_size_angst=PIXEL_ANGST,
        species=species,
        particle_count=200,
        touching_share=0.0,
        microscope=Microscope(b_factor_angst2=0.0),
    )
    one_projector = Projector(volume, pixel_size_angst=PIXEL_ANGST)
    boxes: list[torch.Tensor] = []
    rows: dict[str, list[Any]] = {}
    for number in range(count):
        draw = seeded(number)
        drawn = exposure(how, is_still=False, contaminants=(), optics=optics)
        fresh = draw_exposure(how, number=number + 1, seed=11).particles
        one = replace(drawn, particles=fresh)
        scene = compose_scene(one, how, [one_projector], generator=draw)
        image = take_micrograph(scene, one, how, camera(), generator=draw)
        particles = one.particles
        x_px, y_px = (
            torch.as_tensor(column) for column in (particles.x_px, particles.y_px)
        )
        cut, kept = extract_particles(image, x_px=x_px, y_px=y_px, box_px=BOX_PX)
        boxes.append(cut)
        further = defocus_at_angst(
            optics,
            x_angst=(x_px - 511.5) * PIXEL_ANGST,
            y_angst=(y_px - 511.5) * PIXEL_ANGST,
            z_angst=torch.as_tensor(particles.z_angst),
        )
        columns = {
            "rlnAngleRot": particles.rot_deg,
            "rlnAngleTilt": particles.tilt_deg,
            "rlnAnglePsi": particles.psi_deg,
            # The shift that brings it to the middle of the box.
            "rlnOriginXAngst": (x_px.round() - x_px).numpy() * PIXEL_ANGST,
            "rlnOriginYAngst": (y_px.round() - y_px).numpy() * PIXEL_ANGST,
            "rlnDefocusU": (optics.defocus_u_angst + further).numpy(),
            "rlnDefocusV": (optics.defocus_v_angst + further).numpy(),
            "rlnDefocusAngle": np.full(len(particles), optics.defocus_angle_deg),
        }
        for name, column in columns.items():
            rows.setdefault(name, []).extend(column[kept.numpy()].tolist())
    stack = torch.cat(boxes).numpy()
    write_mrc(
        folder / "boxes.mrcs",
        stack,
        pixel_size_angst=PIXEL_ANGST,
        dtype=np.float32,
        is_stack=True,
    )
    rows["rlnImageName"] = [f"{n + 1:06d}@boxes.mrcs" for n in range(len(stack))]
    rows["rlnOpticsGroup"] = [1] * len(stack)
    table: dict[str, list[Any]] = SETUP | {
        "rlnImagePixelSize": [PIXEL_ANGST],
        "rlnImageSize": [BOX_PX],
        "rlnImageDimensionality": [2],
    }
    for sign, name in ((1, "right"), (-1, "wrong")):
        tilted: dict[str, list[Any]] = {
            "rlnBeamTiltX": [sign * optics.beam_tilt_x_mrad],
            "rlnBeamTiltY": [sign * optics.beam_tilt_y_mrad],
        }
        write_star(
            folder / f"{name}.star", {"optics": table | tilted, "particles": rows}
        )


def reconstructed(folder: Path, name: str) -> NDArray[np.float32]:
    command = f"relion_reconstruct --i {name}.star --o {name}.mrc --ctf --j 4 --verb 0"
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return read_stack(folder / f"{name}.mrc")


def test_relion_reconstructs_from_boxes_of_whole_micrographs(
    small_volume: torch.Tensor, tmp_path: Path
) -> None:
    """Places, angles, origins and per-particle defocus on a tilted stage."""
    optics = Optics(
        defocus_u_angst=14_300,
        defocus_v_angst=13_700,
        defocus_angle_deg=25,
        tilt_deg=30.0,
        tilt_axis_deg=40.0,
    )
    extracted(tmp_path, small_volume, optics, 7)
    found = reconstructed(tmp_path, "right")
    truth = small_volume.numpy()
    # Shells of 160 Å: 8 is 20 Å, 16 is 10 Å.
    right = shell_correlation(found, truth)
    assert right[1:9].min() > 0.9
    assert right[9:15].min() > 0.6
    assert shell_correlation(found[::-1], truth)[6:12].max() < 0.6


def test_relion_takes_the_beam_tilt_as_it_is(
    small_volume: torch.Tensor, tmp_path: Path
) -> None:
    optics = Optics(
        defocus_u_angst=14_300,
        defocus_v_angst=13_700,
        defocus_angle_deg=25,
        beam_tilt_x_mrad=8.0,
        beam_tilt_y_mrad=-6.0,
    )
    extracted(tmp_path, small_volume, optics, 7)
    right, wrong = (
        shell_correlation(reconstructed(tmp_path, name), small_volume.numpy())
        for name in ("right", "wrong")
    )
    # At 8 Å the phase error of 10 mrad is 1.3 rad; the wrong sign makes it twice that.
    assert right[9:15].min() > 0.6
    assert wrong[19:24].mean() < 0.1 < 0.3 < right[19:24].mean()
