"""RELION's own motion correction, driven as an external program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import starfile
import torch

from icestream.domain import AcquisitionSetup, MotionField
from icestream.domain.errors import IncompleteFile, ProgramFailed
from icestream.external.relion import (
    RelionMovie,
    RelionOptions,
    correct_motion_with_relion,
    relion_version,
)
from icestream.io import read_header, read_stack, star_table, write_mrc, write_star
from icestream.io.relion_motion import (
    RelionMotion,
    read_relion_motion,
    write_relion_motion,
)
from icestream.io.relion_polynomial import node_places_px, polynomial_px
from icestream.simulate.instrument import (
    EerExposure,
    EventFrame,
    write_eer,
    write_tiff_movie,
)
from icestream.simulate.motion import simulate_motion
from icestream.simulate.phantom import phantom_frames
from icestream.simulate.score import motion_rmsd_angst
from relion_field import recovered_angst

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
SIDE, FRAMES = 512, 6
SETUP = AcquisitionSetup(name="my setup", pixel_size_angst=0.9, voltage_kv=300.0)
TRUTH = simulate_motion(
    np.random.default_rng(3),
    shape=(SIDE, SIDE),
    pixel_size_angst=0.9,
    frame_count=FRAMES,
    dose_e_per_angst2=2.0,
    doming_angst=4.0,
)
HOT_YX = (100, 200)


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """``(6, 512, 512)`` a moving grid at 5 e/px/frame, with one hot pixel."""
    drawn = phantom_frames(
        TRUTH,
        electrons_per_px=5.0,
        generator=torch.Generator().manual_seed(1),
        pitch_px=48.0,
        line_px=4.0,
    )
    counts = np.stack([frame.numpy() for frame in drawn]).astype(np.uint8)
    counts[:, HOT_YX[0], HOT_YX[1]] = 200
    return counts


@pytest.fixture
def movie(tmp_path: Path, frames: NDArray[np.uint8]) -> RelionMovie:
    """A name that RELION could not have in a STAR file."""
    path = tmp_path / "my movie.TIF"
    write_tiff_movie(path, iter(frames), rows_per_strip=64)
    return RelionMovie(
        path=path, frame_count=FRAMES, setup=SETUP, dose_e_per_angst2=2.0
    )


def moves(field: MotionField) -> NDArray[np.float64]:
    """``(frames, rows, columns, 2)`` Å at the field's nodes."""
    local = field.local_angst
    assert local is not None
    return field.shift_angst[:, None, None] + local


def truth_angst(*, is_flipped: bool) -> NDArray[np.float64]:
    """The true motion at 4 x 4 nodes, in RELION's rows."""
    y_px, x_px = node_places_px((SIDE, SIDE), (4, 4))
    if is_flipped:
        y_px = SIDE - 1 - y_px
    shift = np.stack([TRUTH.shift_angst(one, y_px, x_px) for one in range(FRAMES)])
    return shift * ([-1, 1] if is_flipped else [1, 1])


def test_a_tiff_movie(tmp_path: Path, movie: RelionMovie) -> None:
    before = movie.path.read_bytes()
    options = RelionOptions(keeps_unweighted=True)
    done = correct_motion_with_relion(movie, tmp_path / "out", options=options)
    tables: dict[str, Any] = starfile.read(tmp_path / "out/corrected/movie.star")
    places = node_places_px((SIDE, SIDE), (4, 4))
    _, expected = recovered_angst(tables, *places)
    found = moves(done.motion.field)
    assert np.abs(found - expected).max() < 1e-9
    # At 30 e/px a grid is followed within 0.12 Å, corners included.
    truth = truth_angst(is_flipped=True)
    assert motion_rmsd_angst(truth, np.zeros_like(truth)) > 1.0
    assert motion_rmsd_angst(truth, found) < 0.2
    # RELION turns the rows of a TIFF.
    assert done.motion.hot_px.tolist() == [[SIDE - 1 - HOT_YX[0], HOT_YX[1]]]
    assert done.motion.movie == str(movie.path)
    assert done.motion.voltage_kv == 300
    assert done.motion.dose_e_per_angst2 == 2
    check_images(done.image, done.unweighted_image)
    way = np.linalg.norm(np.diff(done.motion.field.shift_angst, axis=0), axis=1)
    assert done.total_angst == pytest.approx(way.sum(), abs=1e-4)
    # 4 e/Å2 is the end of the second frame.
    assert done.early_angst == pytest.approx(way[:1].sum(), abs=1e-4)
    assert done.late_angst == pytest.approx(way[1:].sum(), abs=1e-4)
    assert done.version == relion_version()
    assert "Using our own implementation" in done.run.log.read_text()
    assert "--use_own --dose_weighting --save_noDW" in done.run.command
    assert movie.path.read_bytes() == before


def check_images(weighted: Path, unweighted: Path | None) -> None:
    assert unweighted is not None
    header = read_header(weighted)
    assert (header.height_px, header.width_px) == (SIDE, SIDE)
    first, second = read_stack(weighted), read_stack(unweighted)
    assert not np.allclose(first, second)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.5


def test_an_mrc_movie_keeps_its_rows(tmp_path: Path, frames: NDArray[np.uint8]) -> None:
    path = tmp_path / "movie.mrc"
    write_mrc(path, frames, pixel_size_angst=0.9, dtype=np.int16, is_stack=True)
    movie = RelionMovie(path=path, frame_count=FRAMES, setup=SETUP)
    done = correct_motion_with_relion(
        movie, tmp_path / "out", options=RelionOptions(threads=2)
    )
    found = moves(done.motion.field)
    assert motion_rmsd_angst(truth_angst(is_flipped=False), found) < 0.2
    assert done.motion.hot_px.tolist() == [list(HOT_YX)]
    # Nothing is made up where the dose is not known.
    assert done.unweighted_image is None
    assert done.motion.dose_e_per_angst2 is None
    assert done.early_angst is done.late_angst is None
    assert "dose" not in done.run.command


def test_binning_does_not_change_the_motion(tmp_path: Path, movie: RelionMovie) -> None:
    """RELION's STAR has the local model in binned pixels: half the numbers."""
    once, twice = (
        correct_motion_with_relion(
            movie, tmp_path / f"{binning}", options=RelionOptions(binning=binning)
        )
        for binning in (1.0, 2.0)
    )
    assert read_header(twice.image).height_px == SIDE // 2
    assert twice.motion.binning == 2
    assert twice.motion.field.shape_px == (SIDE, SIDE)
    full, half = once.motion.field.local_angst, twice.motion.field.local_angst
    assert full is not None
    assert half is not None
    assert np.sum(half * full) / np.sum(full**2) == pytest.approx(1, abs=0.15)
    truth = truth_angst(is_flipped=True)
    assert motion_rmsd_angst(truth, moves(twice.motion.field)) < 0.2


def test_few_patches_give_the_whole_alone(tmp_path: Path, movie: RelionMovie) -> None:
    options = RelionOptions(patch_count=(1, 1))
    done = correct_motion_with_relion(movie, tmp_path / "out", options=options)
    assert done.motion.field.local_angst is None
    assert done.motion.field.frame_count == FRAMES


def test_the_gain_is_applied(
    tmp_path: Path, movie: RelionMovie, frames: NDArray[np.uint8]
) -> None:
    gain = np.ones((SIDE, SIDE), np.float32)
    gain[:, : SIDE // 2] = 2
    write_mrc(tmp_path / "my gain.mrc", gain, pixel_size_angst=0.9, dtype=np.float32)
    with_gain = replace(movie, gain=tmp_path / "my gain.mrc", dose_e_per_angst2=None)
    done = correct_motion_with_relion(
        with_gain, tmp_path / "out", options=RelionOptions()
    )
    image = read_stack(done.image)[0]
    ratio = image[:, 50:200].mean() / image[:, 300:450].mean()
    assert ratio == pytest.approx(
        2 * frames[..., 50:200].mean() / frames[..., 300:450].mean(), rel=0.02
    )
    assert done.motion.gain == str(tmp_path / "my gain.mrc")


def test_an_eer_movie_in_groups(tmp_path: Path) -> None:
    """Seven raw frames in groups of two: the last one is left out."""

    def events() -> Iterator[EventFrame]:
        draw = np.random.default_rng(0)
        for _ in range(7):
            pixel = np.unique(draw.integers(0, 4096 * 4096, 100_000))
            place = draw.integers(0, 16, len(pixel)).astype(np.uint8)
            yield EventFrame(pixel, place)

    path = tmp_path / "movie.eer"
    exposure = EerExposure(
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        frame_rate_hz=320.0,
        pixel_size_angst=0.9,
        gain_reference="gain.gain",
    )
    write_eer(path, events(), exposure=exposure)
    movie = RelionMovie(path=path, frame_count=3, setup=SETUP, eer_grouping=2)
    options = RelionOptions(patch_count=(1, 1), threads=2)
    done = correct_motion_with_relion(movie, tmp_path / "out", options=options)
    assert done.motion.field.frame_count == 3
    assert (done.motion.eer_grouping, done.motion.eer_upsampling) == (2, 1)


def test_a_movie_that_it_cannot_open_fails_in_its_words(
    tmp_path: Path, movie: RelionMovie
) -> None:
    movie.path.write_bytes(movie.path.read_bytes()[:60_000])
    with pytest.raises(ProgramFailed) as caught:
        correct_motion_with_relion(movie, tmp_path / "out", options=RelionOptions())
    assert "relion_run_motioncorr left with status 1" in caught.value.what
    assert "cannot open: movie.tif" in caught.value.what
    assert str(tmp_path / "out" / "relion.log") in caught.value.hint


def test_a_movie_cut_short_is_not_taken_for_a_shorter_one(
    tmp_path: Path, movie: RelionMovie
) -> None:
    """RELION itself ends well with the frames that it finds."""
    movie.path.write_bytes(movie.path.read_bytes()[:-150_000])
    with pytest.raises(IncompleteFile, match=r"found 4 frames in .*TIF, not 6"):
        correct_motion_with_relion(movie, tmp_path / "out", options=RelionOptions())


def test_a_gain_of_another_shape_fails_in_its_words(
    tmp_path: Path, movie: RelionMovie
) -> None:
    gain = tmp_path / "gain.mrc"
    ones = np.ones((64, 64), np.float32)
    write_mrc(gain, ones, pixel_size_angst=1.0, dtype=np.float32)
    with pytest.raises(ProgramFailed) as caught:
        correct_motion_with_relion(
            replace(movie, gain=gain), tmp_path / "out", options=RelionOptions()
        )
    assert "size of the gain reference do not match" in caught.value.what


def test_its_time_is_limited(tmp_path: Path, movie: RelionMovie) -> None:
    options = RelionOptions(timeout_s=0.01)
    with pytest.raises(ProgramFailed, match="its time-out"):
        correct_motion_with_relion(movie, tmp_path / "out", options=options)


def test_its_polishing_reads_what_we_write(tmp_path: Path, movie: RelionMovie) -> None:
    """Tracks before any refinement are the motion of the STAR, at the particles.

    A motion that is not 0 in the first frame, as ours are of mean 0.
    """
    y_px, x_px = node_places_px((SIDE, SIDE), (5, 6))
    values = np.random.default_rng(1).normal(size=(2, 6, 3)) * [0.5, 0.1, 0.01]
    local = polynomial_px(
        values,
        frame=np.arange(FRAMES)[:, None, None],
        y_px=y_px,
        x_px=x_px,
        shape_px=(SIDE, SIDE),
    )
    shift = np.cumsum(np.random.default_rng(2).normal(size=(FRAMES, 2)), axis=0)
    field = MotionField(shape_px=(SIDE, SIDE), shift_angst=shift, local_angst=local)
    motion = RelionMotion(movie="movie.tif", pixel_size_angst=0.9, field=field)
    (tmp_path / "movie.tif").symlink_to(movie.path)
    assert write_relion_motion(tmp_path / "movie.star", motion) < 1e-9
    places = [(90.0, 100.0), (256.0, 100.0), (410.0, 400.0)]
    tracks = polishing_tracks_angst(tmp_path, places)
    for (x_at, y_at), track in zip(places, tracks, strict=True):
        expected = shift + polynomial_px(
            values,
            frame=np.arange(FRAMES),
            y_px=y_at,
            x_px=x_at,
            shape_px=(SIDE, SIDE),
        )
        # Six digits in both files.
        assert np.abs(track - expected).max() < 1e-4


def test_the_star_goes_around_through_relions_own(
    tmp_path: Path, movie: RelionMovie
) -> None:
    done = correct_motion_with_relion(movie, tmp_path / "out", options=RelionOptions())
    again = tmp_path / "again.star"
    write_relion_motion(again, replace(done.motion, movie="movie.tif"))
    found = read_relion_motion(again)
    assert np.abs(moves(found.field) - moves(done.motion.field)).max() < 2e-6


def polishing_tracks_angst(
    folder: Path, places: list[tuple[float, float]]
) -> list[NDArray[np.float64]]:
    """Return the tracks with which RELION's polishing begins, ``(frames, 2)`` y, x.

    Parameters
    ----------
    folder
        Holds ``movie.tif`` and ``movie.star``.
    places
        x and y of particles.
    """
    box = 32
    draw = np.random.default_rng(0)
    radius = np.sqrt(((np.indices((box,) * 3) - box // 2) ** 2).sum(0))
    volume = draw.normal(size=(box,) * 3) * (radius < 10)
    for name, values in (("map", volume), ("mask", radius < 12)):
        write_mrc(
            folder / f"{name}.mrc",
            values.astype(np.float32),
            pixel_size_angst=0.9,
            dtype=np.float32,
        )
    images = draw.normal(size=(len(places), box, box)).astype(np.float32)
    write_mrc(
        folder / "boxes.mrcs",
        images,
        pixel_size_angst=0.9,
        dtype=np.float32,
        is_stack=True,
    )
    optics: dict[str, list[Any]] = {
        "rlnOpticsGroupName": ["one"],
        "rlnOpticsGroup": [1],
        "rlnMicrographOriginalPixelSize": [0.9],
        "rlnVoltage": [300.0],
        "rlnSphericalAberration": [2.7],
        "rlnAmplitudeContrast": [0.1],
        "rlnImagePixelSize": [0.9],
        "rlnImageSize": [box],
        "rlnImageDimensionality": [2],
    }
    count = len(places)
    zeros = ("AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst")
    particles: dict[str, list[Any]] = {
        "rlnCoordinateX": [x_px for x_px, _ in places],
        "rlnCoordinateY": [y_px for _, y_px in places],
        "rlnImageName": [f"{one + 1:06d}@boxes.mrcs" for one in range(count)],
        "rlnMicrographName": ["movie.mrc"] * count,
        "rlnOpticsGroup": [1] * count,
        "rlnRandomSubset": [1 + one % 2 for one in range(count)],
        "rlnDefocusU": [1e4] * count,
        "rlnDefocusV": [1e4] * count,
        "rlnDefocusAngle": [0.0] * count,
    }
    particles |= {f"rln{name}": [0.0] * count for name in zeros}
    write_star(folder / "particles.star", {"optics": optics, "particles": particles})
    micrograph: dict[str, list[Any]] = {
        "rlnMicrographName": ["movie.mrc"],
        "rlnMicrographMetadata": ["movie.star"],
        "rlnOpticsGroup": [1],
    }
    write_star(folder / "corrected.star", {"optics": optics, "micrographs": micrograph})
    shells = range(box // 2 + 1)
    fsc: dict[str, list[Any]] = {
        "rlnSpectralIndex": list(shells),
        "rlnAngstromResolution": [box * 0.9 / max(one, 0.1) for one in shells],
        "rlnFourierShellCorrelationCorrected": [0.9 if n < 8 else 0.0 for n in shells],
    }
    (folder / "fsc.star").write_text(star_table("fsc", fsc))
    command = (
        "relion_motion_refine --i particles.star --f fsc.star --corr_mic corrected.star"
        " --m1 map.mrc --m2 map.mrc --mask mask.mrc --angpix_ref 0.9 --o refined/"
        " --max_iters 0 --fdose 2"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    tables = starfile.read(folder / "refined" / "movie_tracks.star")
    names = ["rlnOriginYAngst", "rlnOriginXAngst"]
    return [tables[str(one)][names].to_numpy() for one in range(count)]
