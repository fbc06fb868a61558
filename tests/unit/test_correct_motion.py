"""The steps of movies, from a file to its products, against what is known of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from icestream.domain import Ctf
from icestream.engines.ctf import power_spectra
from icestream.io import EerSampling, read_frames, read_header, read_stack
from icestream.io.relion_motion import read_relion_motion
from icestream.protocols.corrected_movie import path_lengths_angst
from icestream.simulate.instrument import (
    EerExposure,
    EventFrame,
    write_eer,
    write_gain,
)
from icestream.streaming.records import decode, encode
from movie_scene import (
    DEFOCUS_ANGST,
    ELECTRONS,
    FRAMES,
    PIXEL_ANGST,
    SIDE,
    draw_frames,
    path_angst,
    seen,
    still_scene,
    write_movie,
)
from movie_step import Done, correct, run_step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

DOSE = 40.0
# Twenty electrons a pixel and frame of 512 x 512 px tell a shift within 0.12 Å (RMS
# over four movies), and 0.18 Å where only five frames are used.
PATH_WITHIN_ANGST = 0.5


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    counts = draw_frames()
    counts.flags.writeable = False
    return counts


@pytest.fixture(scope="module")
def tiff(frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_movie(tmp_path_factory.mktemp("tiff") / "movie.tif", frames)


@pytest.fixture(scope="module")
def mrc(frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_movie(tmp_path_factory.mktemp("mrc") / "movie.mrc", frames)


@pytest.fixture(scope="module")
def eer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene with at most one electron a pixel in each of 75 raw frames."""
    path = tmp_path_factory.mktemp("eer") / "movie.eer"
    draw = np.random.default_rng(1)

    def events() -> Iterator[EventFrame]:
        for shift in path_angst(75) / PIXEL_ANGST:
            pixel = np.flatnonzero(draw.random((SIDE, SIDE)) < 0.4 * seen(*shift))
            place = draw.integers(0, 16, len(pixel)).astype(np.uint8)
            yield EventFrame(pixel, place)

    exposure = EerExposure(
        started_at=datetime(2026, 11, 1, tzinfo=UTC),
        frame_rate_hz=320.0,
        pixel_size_angst=PIXEL_ANGST,
        gain_reference="",
    )
    write_eer(path, events(), shape=(SIDE, SIDE), exposure=exposure)
    return path


@pytest.fixture(scope="module")
def usual(tiff: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A TIFF movie of known dose, as everything is by default."""
    folder = tmp_path_factory.mktemp("usual")
    return correct(folder, tiff, dose_e_per_angst2=DOSE)


def image(path: Path) -> NDArray[np.float64]:
    pixels: NDArray[np.float64] = read_stack(path)[0].astype(np.float64)
    return pixels


def inside(pixels: NDArray[Any]) -> NDArray[Any]:
    """Without the borders, which content enters and leaves."""
    return pixels[24:-24, 24:-24]


def likeness(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.corrcoef(inside(one).ravel(), inside(other).ravel())[0, 1])


def path_of(done: Done) -> NDArray[np.float64]:
    return np.stack([done.motion.shift_y_angst, done.motion.shift_x_angst], -1)


class TestWhatIsMade:
    def test_the_path_of_a_tiff_is_upside_down(self, usual: Done) -> None:
        assert np.abs(path_of(usual) - path_angst() * [-1, 1]).max() < PATH_WITHIN_ANGST
        assert path_of(usual).mean(0) == pytest.approx(0, abs=1e-9)

    def test_the_path_of_an_mrc_is_as_stored(self, mrc: Path, tmp_path: Path) -> None:
        done = correct(tmp_path, mrc, dose_e_per_angst2=DOSE)
        assert np.abs(path_of(done) - path_angst()).max() < PATH_WITHIN_ANGST

    def test_the_image_shows_the_scene(self, usual: Done, tiff: Path) -> None:
        corrected = image(usual.product(".mrc"))
        truth = still_scene()[::-1]
        summed = read_frames(tiff).sum(0, dtype=np.float64)
        # What is blurred is likened less, what lies otherwise not at all.
        assert likeness(corrected, truth) > likeness(summed, truth) + 0.1
        assert likeness(corrected, truth) > likeness(corrected, truth[::-1]) + 0.2

    def test_what_is_told_of_the_image(self, usual: Done) -> None:
        micrograph, corrected = usual.micrograph, image(usual.product(".mrc"))
        assert micrograph.path == "product.mrc"
        assert (micrograph.height_px, micrograph.width_px) == corrected.shape
        assert corrected.shape == (SIDE, SIDE)
        assert micrograph.pixel_size_angst == PIXEL_ANGST
        assert micrograph.setup == "krios"
        # The sum of all frames keeps its mean; float16 holds 11 bits.
        assert micrograph.mean == pytest.approx(corrected.mean(), rel=1e-3)
        assert micrograph.mean == pytest.approx(ELECTRONS * FRAMES, rel=0.02)
        assert micrograph.standard_deviation == pytest.approx(corrected.std(), rel=1e-2)

    def test_the_star_is_relions(self, usual: Done, tiff: Path) -> None:
        star = read_relion_motion(usual.product(".star"))
        assert np.abs(star.field.shift_angst - path_of(usual)).max() < 1e-4
        assert star.movie == str(tiff)
        assert (star.frame_count, star.first_frame, star.binning) == (FRAMES, 1, 1)
        assert star.dose_e_per_angst2 == DOSE / FRAMES
        assert star.pre_exposure_e_per_angst2 == 0
        assert star.field.shape_px == (SIDE, SIDE)
        assert usual.motion.star == "product.star"

    def test_the_ctf_is_that_of_the_scene(self, usual: Done) -> None:
        """From the spectrum, which is of the image without dose weights."""
        outcome = run_step(
            "icestream.protocols.estimate_ctf:EstimateCtf",
            usual.folder,
            {"micrograph": encode(usual.micrograph)},
            setup=usual.setup,
        )
        assert outcome.failure is None, outcome.failure.details
        ctf: Ctf = decode(outcome.outputs["ctf"], Ctf)
        mean = (ctf.defocus_u_angst + ctf.defocus_v_angst) / 2
        assert mean == pytest.approx(DEFOCUS_ANGST, abs=100)
        # Upside down, an angle of 40 degrees is one of -40.
        assert ctf.defocus_u_angst - ctf.defocus_v_angst == pytest.approx(300, abs=150)
        assert (ctf.defocus_angle_deg + 40 + 90) % 180 - 90 == pytest.approx(0, abs=15)
        # Regions tell the error, and that the scene is flat.
        assert ctf.tilt_deg is not None
        assert ctf.tilt_error_deg is not None
        assert abs(ctf.tilt_deg) < 4 * ctf.tilt_error_deg

    def test_spectra_of_regions_are_kept(self, usual: Done) -> None:
        told = usual.micrograph
        kept = read_stack(usual.product("_spectrum.mrc"))
        count, side, half = kept.shape
        # Of so small an image the tiles are smaller than a usual box.
        assert side == 2 * (half - 1) < SIDE
        assert read_header(usual.product("_spectrum.mrc")).dtype == np.float16
        assert kept.mean() == pytest.approx(1, rel=1e-3)
        assert told.spectrum == "product_spectrum.mrc"
        assert told.spectrum_pixel_size_angst == pytest.approx(PIXEL_ANGST)
        places = told.spectrum_y_angst, told.spectrum_x_angst
        assert [len(told.spectrum_tile_count), *map(len, places)] == [count] * 3

    def test_the_thumbnail_is_of_the_image(self, usual: Done) -> None:
        assert usual.micrograph.thumbnail == "product.jpg"
        assert usual.product(".jpg").read_bytes()[:2] == b"\xff\xd8"

    def test_by_default_there_is_one_image(self, usual: Done) -> None:
        names = sorted(one.name for one in usual.folder.iterdir())
        assert names == [
            "product.jpg",
            "product.mrc",
            "product.star",
            "product_spectrum.mrc",
        ]
        assert read_header(usual.product(".mrc")).dtype == np.float16


class TestChoices:
    def test_float32_holds_the_same_image(
        self, usual: Done, tiff: Path, tmp_path: Path
    ) -> None:
        params = {"number_format": "float32"}
        done = correct(tmp_path, tiff, params=params, dose_e_per_angst2=DOSE)
        assert read_header(done.product(".mrc")).dtype == np.float32
        coarse, fine = (image(one.product(".mrc")) for one in (usual, done))
        assert not np.array_equal(coarse, fine)
        # Eleven bits.
        np.testing.assert_allclose(coarse, fine, rtol=2**-11 * 1.01, atol=1e-3)

    def test_halves_and_plain(self, tiff: Path, tmp_path: Path) -> None:
        params = {"keep_halves": True, "keep_plain": True, "number_format": "float32"}
        done = correct(tmp_path, tiff, params=params, dose_e_per_angst2=DOSE)
        weighted, plain, odd, even = (
            image(done.product(end))
            for end in (".mrc", "_noDW.mrc", "_ODD.mrc", "_EVN.mrc")
        )
        np.testing.assert_allclose(odd + even, plain, atol=1e-3)
        # Half the electrons each, of noise that is not shared.
        assert odd.mean() == pytest.approx(even.mean(), rel=0.02)
        assert 0.1 < likeness(odd, even) < likeness(odd, plain)
        assert not np.allclose(weighted, plain, atol=1)
        # The spectra are those of the image without weights.
        spectra = power_spectra(
            torch.from_numpy(plain.astype("f4")), pixel_size_angst=PIXEL_ANGST
        )
        amplitude = spectra.power.sqrt().numpy()
        kept = read_stack(done.product("_spectrum.mrc")) * amplitude.mean()
        # Eleven bits.
        np.testing.assert_allclose(kept, amplitude, rtol=2**-11 * 1.01, atol=1e-3)
        told = done.micrograph
        assert told.spectrum_tile_count == tuple(spectra.tile_count.int().tolist())
        place = np.stack([told.spectrum_y_angst, told.spectrum_x_angst], 1)
        np.testing.assert_allclose(place, spectra.place_angst)

    def test_binning_by_two(self, tiff: Path, tmp_path: Path) -> None:
        params = {"binning": 2.0, "number_format": "float32"}
        done = correct(tmp_path, tiff, params=params)
        binned = image(done.product(".mrc"))
        assert binned.shape == (SIDE // 2, SIDE // 2)
        assert done.micrograph.pixel_size_angst == 2 * PIXEL_ANGST
        truth = still_scene()[::-1].reshape(SIDE // 2, 2, SIDE // 2, 2).mean((1, 3))
        assert likeness(binned, truth) > 0.6
        star = read_relion_motion(done.product(".star"))
        assert (star.binning, star.pixel_size_angst) == (2, PIXEL_ANGST)
        assert star.field.shape_px == (SIDE, SIDE)

    def test_a_range_of_frames(self, tiff: Path, tmp_path: Path) -> None:
        """The dose of frames that are left out was had all the same."""
        params = {"first_frame": 3, "last_frame": 7, "number_format": "float32"}
        done = correct(
            tmp_path,
            tiff,
            params=params,
            dose_e_per_angst2=DOSE,
            dose_before_e_per_angst2=0.5,
        )
        part = path_angst()[2:7] * [-1, 1]
        found = path_of(done)
        assert np.abs(found - (part - part.mean(0))).max() < PATH_WITHIN_ANGST
        assert done.motion.frame_count == 5
        # 0.5 e/Å2 before, and two frames of 5: nothing of this was early.
        assert done.motion.early_angst == 0
        assert done.motion.dose_e_per_angst2 == DOSE / FRAMES
        star = read_relion_motion(done.product(".star"))
        assert (star.frame_count, star.first_frame) == (FRAMES, 3)
        assert star.pre_exposure_e_per_angst2 == 0.5
        assert done.micrograph.mean == pytest.approx(ELECTRONS * 5, rel=0.02)

    def test_an_unknown_dose_is_said_loudly(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        params = {"keep_plain": True}
        # No bytes: perhaps multiplied, they tell no dose.
        movie = write_movie(tmp_path / "movie.mrc", frames.astype(np.int16))
        done = correct(tmp_path, movie, params=params)
        motion = done.motion
        assert motion.dose_origin == "unknown"
        assert motion.notice == "The dose is not known: no dose weights."
        assert motion.dose_e_per_angst2 is None
        assert motion.early_angst is motion.late_angst is None
        assert read_relion_motion(done.product(".star")).dose_e_per_angst2 is None
        # No weights, so both are one image.
        first, second = (image(done.product(end)) for end in (".mrc", "_noDW.mrc"))
        np.testing.assert_array_equal(first, second)

    def test_a_known_dose_needs_no_notice(self, usual: Done) -> None:
        assert usual.motion.notice == ""
        assert usual.motion.dose_origin == "user"

    def test_bytes_are_counted_where_no_dose_is_known(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        """Poisson counts of mean 20: within 1 %, whatever hot pixels there are."""
        hot = frames.copy()
        hot[:, 15::256, ::256] = 255  # among the pixels that are looked at
        done = correct(tmp_path, write_movie(tmp_path / "movie.tif", hot))
        motion = done.motion
        expected = ELECTRONS / PIXEL_ANGST**2
        assert motion.dose_e_per_angst2 == pytest.approx(expected, rel=0.01)
        assert motion.dose_origin == "counts"
        assert "an estimate from the counts" in motion.notice
        star = read_relion_motion(done.product(".star"))
        assert star.dose_e_per_angst2 == pytest.approx(expected, rel=0.01)
        assert motion.early_angst is not None


class TestPathLengths:
    SHIFT = np.cumsum([[0.0, 0.0], [3, 4], [0, 5], [4, 3], [5, 0]], axis=0)

    def test_halfway_between_two_middles(self) -> None:
        """Steps of 5 Å; frames of 1 e/Å2 have their middles at 0.5, 1.5, ... 4.5."""
        found = path_lengths_angst(self.SHIFT, dose_e_per_angst2=1.0)
        assert found == pytest.approx((20.0, 17.5, 2.5))

    def test_what_it_had_before_counts(self) -> None:
        found = path_lengths_angst(
            self.SHIFT, dose_e_per_angst2=1.0, before_e_per_angst2=2.0
        )
        assert found == pytest.approx((20.0, 7.5, 12.5))

    def test_a_dose_of_its_own_for_each_end(self) -> None:
        late = path_lengths_angst(self.SHIFT, dose_e_per_angst2=10.0)
        early = path_lengths_angst(self.SHIFT, dose_e_per_angst2=0.1)
        assert late == pytest.approx((20.0, 0.0, 20.0))
        assert early == pytest.approx((20.0, 20.0, 0.0))

    def test_without_a_dose_there_is_no_early(self) -> None:
        found = path_lengths_angst(self.SHIFT, dose_e_per_angst2=None)
        assert found == (20.0, None, None)


class TestFlaws:
    def test_the_gain_of_a_setup(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        """Counts under an uneven camera; even ones come out."""
        draw = np.random.default_rng(2)
        gain = np.exp(0.3 * draw.normal(size=(SIDE, SIDE))).astype(np.float32)
        counts = draw.poisson(frames / gain).astype(np.uint8)
        movie = write_movie(tmp_path / "movie.tif", counts)
        write_gain(tmp_path / "gain.mrc", gain, movie_format="tiff")
        done = correct(tmp_path / "with", movie, gain=str(tmp_path / "gain.mrc"))
        without = correct(tmp_path / "without", movie)
        assert done.motion.gain_correlation is not None
        assert done.motion.gain_correlation > 0.5
        assert without.motion.gain_correlation is None
        still = [one.motion.still_fraction or 0.0 for one in (done, without)]
        assert still[0] < 0.3 < still[1]
        truth = still_scene()[::-1]
        with_gain, raw = (image(one.product(".mrc")) for one in (done, without))
        assert likeness(with_gain, truth) > likeness(raw, truth) + 0.05
        star = read_relion_motion(done.product(".star"))
        assert star.gain == str(tmp_path / "gain.mrc")

    def test_a_gain_to_divide_by(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        """The same image, whether counts are multiplied or divided."""
        gain = np.exp(0.3 * np.random.default_rng(2).normal(size=(SIDE, SIDE)))
        counts = np.random.default_rng(3).poisson(frames / gain).astype(np.uint8)
        movie = write_movie(tmp_path / "movie.tif", counts)
        images = []
        for name, values in (("times", gain), ("over", 1 / gain)):
            path = tmp_path / f"{name}.tif"
            write_gain(path, values, movie_format="tiff")
            divides = name == "over"
            folder = tmp_path / name
            done = correct(folder, movie, gain=str(path), gain_divides=divides)
            images.append(image(done.product(".mrc")))
        first, second = images
        np.testing.assert_allclose(first, second, rtol=2e-3)

    def test_a_list_of_defects(self, frames: NDArray[np.uint8], tmp_path: Path) -> None:
        """Dim pixels that do not stand out are filled only because they are listed.

        MotionCor2 counts rows from the bottom, as RELION has those of a TIFF.
        """
        counts = frames.copy()
        counts[:, SIDE - 1 - 210 : SIDE - 1 - 200, 300:310] = 14
        movie = write_movie(tmp_path / "movie.tif", counts)
        (tmp_path / "defects.txt").write_text("300 201 10 10\n")
        listed = correct(
            tmp_path / "with", movie, defects=str(tmp_path / "defects.txt")
        )
        without = correct(tmp_path / "without", movie)
        assert listed.motion.bad_pixel_count >= 100
        assert without.motion.bad_pixel_count < 20
        patch = (slice(201, 211), slice(300, 310))
        means = [image(one.product(".mrc"))[patch].mean() for one in (listed, without)]
        assert means[0] == pytest.approx(ELECTRONS * FRAMES, rel=0.1)
        assert means[1] < 0.8 * ELECTRONS * FRAMES

    def test_a_hot_pixel_stands_in_the_star(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        counts = frames.copy()
        counts[:, 100, 200] = 255
        done = correct(tmp_path, write_movie(tmp_path / "movie.tif", counts))
        star = read_relion_motion(done.product(".star"))
        assert [SIDE - 1 - 100, 200] in star.hot_px.tolist()
        assert len(star.hot_px) == done.motion.bad_pixel_count
        assert image(done.product(".mrc")).max() < 3 * ELECTRONS * FRAMES

    def test_a_blank_frame_in_the_middle_is_not_seen(
        self, frames: NDArray[np.uint8], tmp_path: Path
    ) -> None:
        counts = frames.copy()
        counts[4] = 0
        done = correct(tmp_path, write_movie(tmp_path / "movie.tif", counts))
        assert done.motion.seen_frame_count == FRAMES - 1
        assert done.motion.frame_count == FRAMES
        others = np.arange(FRAMES) != 4
        error = path_of(done) - path_angst() * [-1, 1]
        assert np.abs(error[others]).max() < PATH_WITHIN_ANGST
        # In between it lies where its neighbours are.
        assert np.abs(error[4]).max() < 1.5


class TestEer:
    def test_fractions_of_a_dose(self, eer: Path, tmp_path: Path) -> None:
        """37.5 e/Å2 in 75 raw frames: 12 in a fraction of 6 e/Å2, and 3 left over."""
        params = {"eer_dose_e_per_angst2": 6.0, "number_format": "float32"}
        done = correct(tmp_path, eer, params=params, dose_e_per_angst2=37.5)
        assert done.motion.frame_count == 6
        assert done.motion.dose_e_per_angst2 == 6.0
        assert done.motion.left_over_frame_count == 3
        assert done.motion.notice.startswith("3 raw frames at the end fill no fraction")
        star = read_relion_motion(done.product(".star"))
        assert (star.eer_grouping, star.eer_upsampling) == (12, 1)
        assert (star.frame_count, star.dose_e_per_angst2) == (6, 6.0)
        counts = read_frames(eer, eer=EerSampling(frames_per_fraction=12)).sum(0)
        assert done.micrograph.mean == pytest.approx(counts.mean(), rel=1e-2)

    def test_nothing_is_left_over_unsaid(self, eer: Path, tmp_path: Path) -> None:
        params = {"eer_frames": 15}
        done = correct(tmp_path, eer, params=params, dose_e_per_angst2=37.5)
        assert done.motion.frame_count == 5
        assert done.motion.left_over_frame_count == 0
        assert done.motion.notice == ""

    def test_twice_as_fine(self, eer: Path, tmp_path: Path) -> None:
        """Binned back, it is the same scene that has moved alike."""
        plain = {"eer_frames": 7, "number_format": "float32"}
        fine = {"eer_upsampling": 2, "binning": 2.0}
        one = correct(tmp_path / "one", eer, params=plain)
        two = correct(tmp_path / "two", eer, params=plain | fine)
        assert two.micrograph.pixel_size_angst == PIXEL_ANGST
        assert two.micrograph.height_px == SIDE
        star = read_relion_motion(two.product(".star"))
        assert (star.pixel_size_angst, star.eer_upsampling) == (PIXEL_ANGST / 2, 2)
        # Events are counted: 0.4 a pixel of the camera in each of 7 raw frames.
        for done in (one, two):
            assert done.motion.dose_origin == "counts"
            counted = done.motion.dose_e_per_angst2
            assert counted == pytest.approx(2.8 / PIXEL_ANGST**2, rel=0.03)
        assert np.abs(path_of(one) - path_of(two)).max() < PATH_WITHIN_ANGST
        images = [image(each.product(".mrc")) for each in (one, two)]
        # What they differ by is 0.2 Å, and what a square of pixels lets through.
        assert likeness(*images) > 0.5
        # A pixel is four of the finer ones, and the image has the mean of theirs.
        assert images[1].mean() == pytest.approx(images[0].mean() / 4, rel=0.01)
