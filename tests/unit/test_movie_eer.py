"""EER movies from their events to their image, against what was written."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
import tifffile

from icestream.domain import AcquisitionSetup
from icestream.io import EerSampling, check_complete, read_frames, read_stack
from icestream.protocols.movie_plan import MovieOptions, plan_movie
from icestream.simulate.instrument import EerExposure, EventFrame, write_eer
from icestream.streaming.execution import Fault
from movie_step import Done, correct, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 256
PIXEL_ANGST = 1.4
RATE = 0.4
DOSE = 40.0
FLOATS = {"number_format": "float32"}
EXPOSURE = EerExposure(
    started_at=datetime(2026, 11, 1, tzinfo=UTC),
    frame_rate_hz=320.0,
    pixel_size_angst=PIXEL_ANGST,
    gain_reference="",
)


@pytest.fixture(scope="module")
def scene() -> NDArray[np.float64]:
    """White detail on half pixels, ``(512, 512)``, of mean 1: it does not move."""
    draw = np.random.default_rng(5)
    return np.maximum(1 + 0.6 * draw.normal(size=(2 * SIDE, 2 * SIDE)), 0.02)


def events(
    scene: NDArray[np.float64], count: int, seed: int = 1
) -> Iterator[EventFrame]:
    """Raw frames of at most one electron a pixel, at the half it fell on."""
    draw = np.random.default_rng(seed)
    halves = scene.reshape(SIDE, 2, SIDE, 2).swapaxes(1, 2).reshape(SIDE, SIDE, 4)
    chance = 1 - np.exp(-RATE * halves.mean(-1))
    share = np.cumsum(halves, -1) / halves.sum(-1, keepdims=True)
    for _ in range(count):
        pixel = np.flatnonzero(draw.random((SIDE, SIDE)) < chance)
        at = share.reshape(-1, 4)[pixel]
        y, x = np.divmod((draw.random((len(pixel), 1)) > at[:, :3]).sum(-1), 2)
        fine = draw.integers(0, 2, (2, len(pixel)))
        code = 4 * (2 * y + fine[0]) + 2 * x + fine[1]
        yield EventFrame(pixel, code.astype(np.uint8))


def written(path: Path, scene: NDArray[np.float64], count: int, seed: int = 1) -> Path:
    frames = events(scene, count, seed)
    write_eer(path, frames, shape=(SIDE, SIDE), exposure=EXPOSURE)
    return path


@pytest.fixture(scope="module")
def movie(scene: NDArray[np.float64], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("eer") / "movie.eer", scene, 83)


def decoded_elsewhere(path: Path, finer: int) -> NDArray[np.int64]:
    """Raw frames as tifffile and imagecodecs decode them: none of it is ours."""
    frames = tifffile.imread(path, superres=finer - 1)
    return np.asarray(frames, np.int64)


def image_of(done: Done) -> NDArray[np.float64]:
    image: NDArray[np.float64] = read_stack(done.product(".mrc"))[0].astype(float)
    return image


@pytest.mark.parametrize("finer", [1, 2])
@pytest.mark.parametrize("together", [1, 10, 40])
def test_no_electron_is_lost_or_added(
    movie: Path, finer: Literal[1, 2], together: int
) -> None:
    raw = decoded_elsewhere(movie, finer)
    whole = len(raw) // together
    sampling = EerSampling(upsampling=finer, frames_per_fraction=together)
    ours = read_frames(movie, eer=sampling, threads=2)
    theirs = raw[: whole * together].reshape(whole, together, *raw.shape[1:]).sum(1)
    np.testing.assert_array_equal(ours, theirs)


def decode(path: Path) -> None:
    setup = AcquisitionSetup(name="a", pixel_size_angst=PIXEL_ANGST, voltage_kv=300.0)
    plan = plan_movie(path, setup=setup, options=MovieOptions(eer_frames=40))
    with plan.checked_frames(2):
        pass


@pytest.mark.parametrize("step", [check_complete, decode])
def test_a_movie_is_looked_through_once(
    movie: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[[Path], None]
) -> None:
    """A read for each raw frame: on a network the slowest part of all."""
    pread, offsets = os.pread, []

    def counted(descriptor: int, count: int, offset: int) -> bytes:
        offsets.append(offset)
        return pread(descriptor, count, offset)

    monkeypatch.setattr(os, "pread", counted)
    step(movie)
    assert 83 <= len(offsets) < 83 + 10


@pytest.mark.parametrize("raw_count", [80, 81, 89])
def test_raw_frames_may_be_more_or_fewer(
    scene: NDArray[np.float64], tmp_path: Path, raw_count: int
) -> None:
    """Exposures of one setup have the same dose; the image has all but the rest."""
    path = written(tmp_path / "movie.eer", scene, raw_count)
    params = FLOATS | {"eer_dose_e_per_angst2": 5.0}
    done = correct(tmp_path / "out", path, params=params, dose_e_per_angst2=DOSE)
    together = round(raw_count * 5.0 / DOSE)
    count, left = divmod(raw_count, together)
    assert done.motion.frame_count == count
    assert done.motion.left_over_frame_count == left
    assert (f"{left} raw frames at the end" in done.motion.notice) == (left > 0)
    per_fraction = DOSE * together / raw_count
    assert done.motion.dose_e_per_angst2 == pytest.approx(per_fraction)


def test_the_image_of_what_is_still_is_the_sum_of_its_electrons(
    movie: Path, tmp_path: Path
) -> None:
    done = correct(tmp_path / "out", movie, params=FLOATS | {"eer_frames": 10})
    raw = decoded_elsewhere(movie, 1)[:80]
    # Motion that is found where there is none mixes neighbours, and keeps the sum.
    assert done.motion.total_angst < 1.5
    assert image_of(done).mean() == pytest.approx(raw.sum(0).mean(), rel=1e-3)


def test_places_within_pixels_are_worth_their_while(
    scene: NDArray[np.float64], movie: Path, tmp_path: Path
) -> None:
    """Sampled twice as finely and binned back, detail near Nyquist is not lost.

    A pixel of the camera lets sinc(f) through and folds what is beyond Nyquist back;
    half a pixel lets sinc(f / 2) through, and the Fourier crop takes the rest away. The
    crop keeps the middle of the first fine pixel in the middle of the first pixel, as
    RELION's does: a quarter of a pixel from where the camera's pixel has it.
    """
    params = FLOATS | {"eer_frames": 40}
    coarse = correct(tmp_path / "coarse", movie, params=params)
    fine = {"eer_upsampling": 2, "binning": 2.0}
    finer = correct(tmp_path / "finer", movie, params=params | fine)
    assert finer.micrograph.pixel_size_angst == PIXEL_ANGST
    truths = [cropped(scene, offset_px=offset) for offset in (0.25, 0.0)]
    electrons = image_of(coarse).mean()
    for low, gained in ((0.1, 0.0), (0.2, 0.03), (0.3, 0.1), (0.4, 0.15)):
        middle = low + 0.05
        found = [
            ring_correlation(image_of(one), truth, low, low + 0.1)
            for one, truth in zip((coarse, finer), truths, strict=True)
        ]
        expected = expected_correlation(middle, electrons, scene.std())
        # Rings of 3,000 Fourier terms and more.
        assert found == pytest.approx(expected, abs=0.02)
        assert found[1] - found[0] > gained - 0.02


def expected_correlation(
    frequency: float, electrons: float, spread: float
) -> list[float]:
    """Ring correlation with a white scene on half pixels, of counts of electrons.

    Parameters
    ----------
    frequency
        Cycles a pixel of the camera.
    electrons
        On a pixel.
    spread
        Standard deviation of the scene over its mean, of half pixels.
    """
    y, x = np.meshgrid(*[np.fft.fftfreq(64)] * 2, indexing="ij")
    ring = np.abs(np.hypot(y, x) - frequency) < 0.02
    y, x = y[ring], x[ring]
    # Of a pixel, the mean of two half pixels each way: cos(pi f / 2), and its aliases.
    passed = (np.cos(np.pi * y / 2) * np.cos(np.pi * x / 2)) ** 2
    power, noise = spread**2 / 4, 1 / electrons
    coarse = np.sqrt(power * passed / (power + noise))
    return [float(coarse.mean()), float(np.sqrt(power / (power + noise)))]


def cropped(
    scene: NDArray[np.float64], *, offset_px: float = 0.25
) -> NDArray[np.float64]:
    """The scene on pixels of the camera, without what is beyond their Nyquist.

    A camera's pixel has its middle a quarter behind that of its first half.
    """
    rows = np.r_[0 : SIDE // 2, 2 * SIDE - SIDE // 2 : 2 * SIDE]
    spectrum = np.fft.fft2(scene)[np.ix_(rows, rows)]
    ramp = np.exp(2j * np.pi * np.fft.fftfreq(SIDE) * offset_px)
    return np.fft.ifft2(spectrum * np.outer(ramp, ramp)).real


def ring_correlation(
    one: NDArray[np.float64], other: NDArray[np.float64], low: float, high: float
) -> float:
    spectra = [np.fft.rfft2(each - each.mean()) for each in (one, other)]
    radius = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    first, second = (each[(radius >= low) & (radius < high)] for each in spectra)
    together = (first * second.conj()).real.sum()
    return float(together / np.linalg.norm(first) / np.linalg.norm(second))


def test_a_movie_cut_anywhere_is_refused(movie: Path, tmp_path: Path) -> None:
    whole = movie.read_bytes()
    path = tmp_path / "cut.eer"
    for end in (1, 7, 8, 100, *np.linspace(200, len(whole) - 1, 12).astype(int)):
        path.write_bytes(whole[:end])
        why = failure(tmp_path / "out", path, params={"eer_frames": 10})
        assert why.fault is Fault.INCOMPLETE
        assert str(path) in why.message


def test_the_gain_of_the_camera_and_its_defects(
    scene: NDArray[np.float64], tmp_path: Path
) -> None:
    """Defects stand in a tag of the ``.gain`` file; they count far too much here."""
    draw = np.random.default_rng(8)
    gain = np.exp(0.2 * draw.normal(size=(SIDE, SIDE)))
    seen = scene / np.kron(gain, np.ones((2, 2)))
    hot = np.zeros((SIDE, SIDE), bool)
    hot[60:66, 30:40] = hot[:, 200] = True
    seen[np.kron(hot, np.ones((2, 2), bool))] = 4.0
    path = written(tmp_path / "movie.eer", seen, 80)
    reference = tmp_path / "camera.gain"
    xml = b"<defects><col>200</col><area>30,60,39,65</area></defects>"
    tifffile.imwrite(
        reference,
        gain.astype(np.float32),
        photometric="minisblack",
        extratags=[(65100, 7, len(xml), xml, True)],
    )
    done = correct(
        tmp_path / "out",
        path,
        params=FLOATS | {"eer_frames": 10},
        gain=str(reference),
        dose_e_per_angst2=1.0,  # all but no weights
    )
    image = image_of(done)
    assert done.motion.bad_pixel_count >= hot.sum()
    usual = image[~hot]
    assert image[hot].mean() == pytest.approx(usual.mean(), abs=0.2 * usual.std())
    flat = ring_correlation(image, cropped(scene), 0.02, 0.3)
    none = correct(
        tmp_path / "none",
        path,
        params=FLOATS | {"eer_frames": 10},
        dose_e_per_angst2=1.0,
    )
    assert flat > ring_correlation(image_of(none), cropped(scene), 0.02, 0.3) + 0.1
