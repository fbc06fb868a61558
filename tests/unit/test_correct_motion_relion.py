"""RELION's motion correction in place of ours: the same contract, and what differs."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from icestream.external.relion import relion_version
from icestream.io import read_header, read_stack
from icestream.io.relion_motion import read_relion_motion
from icestream.simulate.instrument import (
    EerExposure,
    EventFrame,
    write_eer,
    write_gain,
)
from icestream.streaming.execution import Fault
from movie_scene import (
    ELECTRONS,
    FRAMES,
    PIXEL_ANGST,
    SIDE,
    draw_frames,
    path_angst,
    still_scene,
    write_movie,
)
from movie_step import RELIONS, Done, correct, failure

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
DOSE = 40.0
# Each errs by 0.1 to 0.2 Å in a movie of 160 e/px and 512 x 512 px.
ALIKE_ANGST = 0.8
WHOLE: dict[str, Any] = {"patches_x": 1, "patches_y": 1}


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    counts = draw_frames()
    counts.flags.writeable = False
    return counts


@pytest.fixture(scope="module", params=[".tif", ".mrc"])
def movie(
    request: pytest.FixtureRequest,
    frames: NDArray[np.uint8],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    folder = tmp_path_factory.mktemp("movie")
    return write_movie(folder / f"my movie{request.param}", frames)


@pytest.fixture(scope="module")
def both(movie: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Done]:
    """The same movie as corrected by us, and by RELION."""
    ours = correct(
        tmp_path_factory.mktemp("ours"),
        movie,
        params={"keep_plain": True, "number_format": "float32"},
        dose_e_per_angst2=DOSE,
    )
    theirs = correct(
        tmp_path_factory.mktemp("theirs"),
        movie,
        protocol=RELIONS,
        params={"keep_plain": True, "number_format": "float32", "patches_x": 3},
        dose_e_per_angst2=DOSE,
    )
    return ours, theirs


def path_of(done: Done) -> NDArray[np.float64]:
    return np.stack([done.motion.shift_y_angst, done.motion.shift_x_angst], -1)


def image(done: Done, ending: str = ".mrc") -> NDArray[np.float64]:
    pixels: NDArray[np.float64] = read_stack(done.product(ending))[0].astype(float)
    return pixels


def likeness(one: NDArray[Any], other: NDArray[Any]) -> float:
    inner = (slice(24, -24), slice(24, -24))
    return float(np.corrcoef(one[inner].ravel(), other[inner].ravel())[0, 1])


def moved(
    pixels: NDArray[np.float64], shift_px: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Move content by a part of a pixel, around the borders."""
    gy, gx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    phase = np.exp(-2j * np.pi * (gy * shift_px[0] + gx * shift_px[1]))
    back: NDArray[np.float64] = np.fft.irfft2(
        np.fft.rfft2(pixels) * phase, s=(SIDE,) * 2
    )
    return back


def binned(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(128, 128)`` means of squares: no noise of a pixel alone."""
    means: NDArray[np.float64] = pixels.reshape(128, 4, 128, 4).mean((1, 3))
    return means


def mean_px(done: Done) -> NDArray[np.float64]:
    """Where content lies on the average over time, against the image."""
    star = read_relion_motion(done.product(".star"))
    mean: NDArray[np.float64] = star.field.shift_angst.mean(0) / PIXEL_ANGST
    return mean


class TestAgainstOurs:
    def test_the_motion_is_the_same(self, both: tuple[Done, Done]) -> None:
        ours, theirs = both
        assert np.abs(path_of(ours) - path_of(theirs)).max() < ALIKE_ANGST
        assert theirs.motion.total_angst == pytest.approx(
            ours.motion.total_angst, rel=0.25
        )
        assert theirs.motion.early_angst == pytest.approx(
            ours.motion.early_angst, rel=0.25
        )

    def test_the_image_is_the_same_where_theirs_begins(
        self, both: tuple[Done, Done]
    ) -> None:
        """Theirs lies at the first frame, ours at the mean; its rows are the same."""
        ours, theirs = (image(one, "_noDW.mrc") for one in both)
        assert np.abs(mean_px(both[1])).max() > 1
        here = binned(moved(theirs, mean_px(both[1])))
        assert likeness(binned(ours), here) > 0.95
        assert likeness(binned(ours), binned(theirs)) < 0.7
        for turned in (here[::-1], here[:, ::-1], here[::-1, ::-1], here.T):
            assert likeness(binned(ours), turned) < 0.3

    def test_the_same_is_told(self, both: tuple[Done, Done]) -> None:
        ours, theirs = (one.micrograph for one in both)
        for name in ("height_px", "width_px", "pixel_size_angst", "setup", "path"):
            assert getattr(theirs, name) == getattr(ours, name)
        for name in ("thumbnail", "spectrum", "spectrum_pixel_size_angst"):
            assert getattr(theirs, name) == getattr(ours, name)
        for name in ("tile_count", "y_angst", "x_angst"):
            name = f"spectrum_{name}"
            assert getattr(theirs, name) == getattr(ours, name)
        for name in ("movie", "star", "frame_count", "dose_e_per_angst2", "notice"):
            assert getattr(both[1].motion, name) == getattr(both[0].motion, name)

    def test_what_relion_does_not_tell_is_absent(self, both: tuple[Done, Done]) -> None:
        motion = both[1].motion
        assert motion.error_angst is motion.seen_frame_count is None
        assert motion.still_fraction is motion.local_gain is None

    def test_files_are_the_same_and_its_log(self, both: tuple[Done, Done]) -> None:
        ours, theirs = ({one.name for one in done.folder.iterdir()} for done in both)
        assert theirs - ours == {"product_relion.log"}
        assert ours <= theirs

    def test_the_log_has_version_and_command(self, both: tuple[Done, Done]) -> None:
        lines = both[1].product("_relion.log").read_text().splitlines()
        assert lines[0].startswith(f"RELION {relion_version()}, ")
        assert "relion_run_motioncorr --use_own --dose_weighting" in lines[1]
        assert "--patch_x 3 --patch_y 5 --bfactor 150.0" in lines[1]
        assert any("Using our own implementation" in one for one in lines)


class TestChoices:
    @pytest.fixture
    def tiff(self, frames: NDArray[np.uint8], tmp_path: Path) -> Path:
        return write_movie(tmp_path / "movie.tif", frames)

    def test_one_image_in_float16(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        # No bytes: they tell no dose.
        movie = write_movie(tmp_path / "movie.mrc", frames.astype(np.int16))
        done = correct(tmp_path / "out", movie, protocol=RELIONS, params=WHOLE)
        assert read_header(done.product(".mrc")).dtype == np.float16
        assert not done.product("_noDW.mrc").exists()
        assert not done.motion.has_local
        assert done.motion.notice == "The dose is not known: no dose weights."
        assert done.motion.early_angst is None
        assert "dose" not in done.product("_relion.log").read_text().splitlines()[1]

    def test_binning(self, tiff: Path, tmp_path: Path) -> None:
        params = WHOLE | {"binning": 2.0}
        done = correct(tmp_path / "out", tiff, protocol=RELIONS, params=params)
        assert done.micrograph.height_px == SIDE // 2
        assert done.micrograph.pixel_size_angst == 2 * PIXEL_ANGST
        error = path_of(done) - path_angst() * [-1, 1]
        assert np.abs(error).max() < ALIKE_ANGST
        star = read_relion_motion(done.product(".star"))
        assert (star.binning, star.pixel_size_angst) == (2, PIXEL_ANGST)

    def test_gain_and_defects_of_a_setup(self, tmp_path: Path) -> None:
        """The gain declared mirrored, as a TIFF; and a patch that is listed as bad."""
        draw = np.random.default_rng(2)
        gain = np.exp(0.3 * draw.normal(size=(SIDE, SIDE))).astype(np.float32)
        counts = draw.poisson(draw_frames() / gain).astype(np.uint8)
        counts[:, SIDE - 230 : SIDE - 200, 300:330] = 10
        path = write_movie(tmp_path / "movie.tif", counts)
        gain_path = tmp_path / "gain.tif"
        write_gain(gain_path, gain, movie_format="tiff", is_mirrored=True)
        (tmp_path / "defects.txt").write_text("300 200 30 30\n")
        done = correct(
            tmp_path / "out",
            path,
            protocol=RELIONS,
            params=WHOLE | {"number_format": "float32", "keep_plain": True},
            gain=str(gain_path),
            gain_mirror=True,
            defects=str(tmp_path / "defects.txt"),
        )
        assert (done.motion.gain_correlation or 0) > 0.5
        corrected = image(done, "_noDW.mrc")
        assert likeness(moved(corrected, mean_px(done)), still_scene()[::-1]) > 0.6
        # RELION gets the dose by counts too.
        counted = ELECTRONS / PIXEL_ANGST**2
        assert done.motion.dose_e_per_angst2 == pytest.approx(counted, rel=0.05)
        assert "--dose_weighting" in done.product("_relion.log").read_text()
        patch = corrected[210:220, 310:320].mean()
        assert patch == pytest.approx(ELECTRONS * FRAMES, rel=0.15)
        assert read_relion_motion(done.product(".star")).gain == str(gain_path)

    def test_an_eer_movie(self, tmp_path: Path) -> None:
        """Seven raw frames, two in a fraction; the gain is inverted for RELION."""

        def events() -> Iterator[EventFrame]:
            draw = np.random.default_rng(0)
            for _ in range(7):
                pixel = np.unique(draw.integers(0, 4096 * 4096, 200_000))
                pixel = pixel[(pixel % 4096 < 2048) | (draw.random(len(pixel)) < 0.5)]
                yield EventFrame(pixel, np.zeros(len(pixel), np.uint8))

        path = tmp_path / "movie.eer"
        exposure = EerExposure(
            started_at=datetime(2026, 11, 1, tzinfo=UTC),
            frame_rate_hz=320.0,
            pixel_size_angst=0.9,
            gain_reference="",
        )
        write_eer(path, events(), exposure=exposure)
        gain = np.ones((4096, 4096), np.float32)
        gain[:, 2048:] = 2
        write_gain(tmp_path / "gain.gain", gain, movie_format="eer")
        done = correct(
            tmp_path / "out",
            path,
            protocol=RELIONS,
            params=WHOLE | {"eer_frames": 2, "number_format": "float32"},
            gain=str(tmp_path / "gain.gain"),
            pixel_size_angst=0.9,
        )
        assert done.motion.frame_count == 3
        assert done.motion.left_over_frame_count == 1
        corrected = image(done)
        halves = corrected[:, 100:1900].mean(), corrected[:, 2148:3900].mean()
        assert halves[0] == pytest.approx(halves[1], rel=0.1)


class TestFailures:
    @pytest.fixture
    def tiff(self, frames: NDArray[np.uint8], tmp_path: Path) -> Path:
        return write_movie(tmp_path / "movie.tif", frames)

    def test_its_time_is_limited_and_its_log_stays(
        self, tiff: Path, tmp_path: Path
    ) -> None:
        params = {"time_limit_s": 0.01}
        folder = tmp_path / "out"
        why = failure(
            folder, tiff, protocol=RELIONS, params=params, leaves=["_relion.log"]
        )
        assert (why.fault, why.cause) == (Fault.ITEM, "ProgramFailed")
        assert "its time-out" in why.message
        assert f"Its output is in {folder / 'product_relion.log'}" in why.message

    def test_a_blank_movie_is_not_given_to_it(self, tmp_path: Path) -> None:
        blank = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
        path = write_movie(tmp_path / "blank.tif", blank)
        why = failure(tmp_path / "out", path, protocol=RELIONS)
        assert f"{path} is blank" in why.message

    def test_without_relion_the_session_is_asked(
        self, tiff: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        why = failure(tmp_path / "out", tiff, protocol=RELIONS)
        assert why.fault is Fault.SESSION
        assert "relion_run_motioncorr is not on the PATH" in why.message
        assert "Install RELION" in why.message
