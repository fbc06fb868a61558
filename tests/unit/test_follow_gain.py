"""The aggregate that follows gains: every way in which one may not fit, few movies."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gain_scene import counts, measured_gain, sensor
from icestream.domain import Movie
from icestream.engines.gain import Orientation
from icestream.io.defects import read_defects
from icestream.io.gain import read_gain
from icestream.io.writing import write_mrc
from icestream.protocols.follow_gain import (
    FollowedGains,
    FollowGain,
    GainStandings,
)
from icestream.protocols.gain_sample import as_stored, defect_list
from icestream.protocols.gain_standing import GainStanding
from icestream.simulate.instrument import write_mrc_movie
from icestream.streaming.execution import STATE, Envelope, TaskId, execute
from icestream.streaming.records import Record, decode, encode
from movie_scene import write_movie

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SIDE = 512
PROTOCOL = f"{FollowGain.__module__}:{FollowGain.__qualname__}"


@dataclass
class Follower:
    """The aggregate as the service runs it, and what it has come to."""

    folder: Path
    params: dict[str, Any] = field(default_factory=dict)
    state: Record | None = None
    snapshot: GainStandings | None = None
    _updates: int = 0

    def update(
        self, added: Iterable[Movie] = (), withdrawn: Iterable[Movie] = ()
    ) -> GainStandings:
        self._updates += 1
        outcome = execute(
            Envelope(
                task=TaskId("gain", "", "identity", 1),
                protocol=PROTOCOL,
                params=self.params,
                inputs={} if self.state is None else {STATE: self.state},
                added=[encode(one) for one in added],
                withdrawn=[encode(one) for one in withdrawn],
                session_folder=str(self.folder),
                product_stem=f"products/gain/identity.{self._updates}",
            )
        )
        assert outcome.failure is None, outcome.failure.details
        self.state = outcome.outputs[STATE]
        self.snapshot = decode(outcome.outputs["gains"], GainStandings)
        return self.snapshot

    @property
    def notices(self) -> tuple[str, ...]:
        return self._decoded().notices

    @property
    def standings(self) -> list[GainStanding]:
        return [GainStanding.unpacked(one) for one in self._decoded().standings]

    def _decoded(self) -> FollowedGains:
        assert self.state is not None
        state: FollowedGains = decode(self.state, FollowedGains)
        return state


@pytest.fixture
def follower(tmp_path: Path) -> Follower:
    return Follower(tmp_path)


def movie(folder: Path, number: int, gain: Path | None = None, **values: Any) -> Movie:
    """A movie of the usual sensor; of a perfect one, or corrected, by ``seed``."""
    path = folder / f"{number}.mrc"
    seed = values.pop("seed", 1)
    if not path.exists():
        total = np.minimum(counts(number, seed=seed), 500)
        half = np.floor(total / 2)
        write_mrc_movie(
            path, np.stack([half, total - half]).astype(np.uint8), pixel_size_angst=1.0
        )
    return declared(path, gain, **values)


def declared(path: Path, gain: Path | None = None, **values: Any) -> Movie:
    given: dict[str, Any] = {
        "path": str(path),
        "height_px": SIDE,
        "width_px": SIDE,
        "frame_count": 2,
        "pixel_size_angst": 1.0,
        "dose_e_per_angst2": None,
        "dose_origin": "unknown",
        "may_count_dose": False,
        "setup": "k3",
        "gain": None if gain is None else str(gain),
        "gain_fingerprint": "" if gain is None else "it",
    }
    return Movie(**(given | values))


def write_gain(path: Path, gain: NDArray[np.float32]) -> Path:
    write_mrc(path, gain, pixel_size_angst=1.0, dtype=np.float32)
    return path


def inverse(gain: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.divide(1, gain, out=np.zeros_like(gain), where=gain > 0)


def test_a_right_gain_fits_and_leaves_nothing(
    tmp_path: Path, follower: Follower
) -> None:
    gain = write_gain(tmp_path / "gain.mrc", measured_gain())
    found = follower.update(movie(tmp_path, n, gain) for n in range(1, 6))
    assert found.setup == ("k3",)
    assert found.verdict == ("as declared",)
    assert (found.movies, found.looked_at) == ((5,), (5,))
    # As the engine has it from one movie: 0.1 to 0.2, more from five.
    assert 0.2 < (found.correlation[0] or 0) < 0.4
    assert (found.z_score[0] or 0) > 60
    (standing,) = follower.standings
    ((window, count, deviation, limit),) = standing.residuals
    assert (found.window, found.residual) == ((window,), (deviation,))
    assert found.residual_limit == (limit,)
    assert (window, count) == (0, 5)
    assert limit < 0.014
    # The noise of the gain: 10,000 electrons a pixel.
    assert deviation < limit
    assert follower.notices == ()
    assert found.estimate == ("",)


@pytest.mark.parametrize(
    ("turns", "is_mirrored"), [(1, False), (2, False), (0, True), (1, True), (2, True)]
)
def test_a_gain_that_lies_otherwise_is_told_with_the_way(
    tmp_path: Path, follower: Follower, turns: int, is_mirrored: bool
) -> None:
    way = Orientation(quarter_turns=turns, is_mirrored=is_mirrored)
    gain = write_gain(tmp_path / "gain.mrc", way.apply(measured_gain()))
    found = follower.update(movie(tmp_path, n, gain) for n in (1, 2))
    assert found.verdict == ("turned",)
    # Seams between panels are a little alike in all orientations.
    assert abs(found.correlation[0] or 0) < 0.05
    assert 0.15 < (found.best_correlation[0] or 0) < 0.3
    (told,) = follower.notices
    assert f"The gain {gain} of setup 'k3' does not lie as declared: " in told
    assert f"{found.best_correlation[0]:.3f} {found.best_way[0]}" in told
    words = told.partition(" Set ")[2].rstrip(".").replace("setups.k3.", "").split()
    settings = {name: value for name, _, value in (one.partition("=") for one in words)}
    right = Orientation(
        quarter_turns=int(settings["gain_turn_deg"]) // 90,
        is_mirrored=settings["gain_mirror"] == "true",
    )
    assert settings["gain_divides"] == "false"
    np.testing.assert_array_equal(
        right.apply(way.apply(measured_gain())), measured_gain()
    )


def test_an_inverted_gain_is_told(tmp_path: Path, follower: Follower) -> None:
    gain = write_gain(tmp_path / "gain.mrc", inverse(measured_gain()))
    found = follower.update(movie(tmp_path, n, gain) for n in (1, 2))
    assert found.verdict == ("inverted",)
    (told,) = follower.notices
    assert f"The gain {gain} of setup 'k3' is inverted: by 2 movies" in told
    name = "setups.k3.gain_"
    assert f"Set {name}mirror=false {name}turn_deg=0 {name}divides=true." in told
    right = Follower(tmp_path)
    divided = [movie(tmp_path, n, gain, gain_divides=True) for n in (1, 2)]
    assert right.update(divided).verdict == ("as declared",)
    assert right.notices == ()


def test_a_missing_gain_is_told(tmp_path: Path, follower: Follower) -> None:
    follower.params = {"movies": 8}
    follower.update([movie(tmp_path, 1)])
    assert not follower.notices
    found = follower.update(movie(tmp_path, n) for n in range(2, 9))
    assert found.verdict == ("missing: the movies have a fixed pattern",)
    assert found.pattern[0] == pytest.approx(0.03, abs=0.005)
    (missing,) = follower.notices
    assert missing.startswith("The gain of setup 'k3' is missing: 8 movies of 512 x")
    assert f"fixed pattern of {100 * (found.pattern[0] or 0):.1f} %" in missing
    # 8 movies of 30 counts leave 6.5 % of noise in a pixel, for a pattern of 3 %.
    assert found.estimate == ("",)


def test_the_list_of_bad_pixels_is_what_the_sensor_has(
    tmp_path: Path, follower: Follower
) -> None:
    gain = write_gain(tmp_path / "gain.mrc", measured_gain())
    found = follower.update(movie(tmp_path, n, gain) for n in range(1, 9))
    path = tmp_path / found.defects[0]
    head = path.read_text().splitlines()[0]
    assert head == "# Bad in more than 30 % of 8 movies: x, y, width, height"
    is_bad = read_defects(path, shape=(SIDE, SIDE))
    assert int(is_bad.sum()) == found.bad_pixels[0]
    what = sensor()
    hot = what.noisy_index.numpy()[what.noisy_share.numpy() == 1]
    dead = what.sensitivity.numpy() == 0
    assert is_bad.reshape(-1)[hot].all()
    assert is_bad[dead].all()
    assert found.bad_pixels[0] <= dead.sum() + len(what.noisy_index) + 2


def test_the_list_of_bad_pixels_is_written_anew_when_one_comes(
    tmp_path: Path, follower: Follower
) -> None:
    """One is hot from the first movie on, another from the fifth on."""
    movies = []
    for number in range(8):
        chance = np.random.default_rng(number)
        frames = chance.poisson(30, (2, 64, 64)).astype(np.uint8)
        frames[:, 20, 30] = 250
        frames[:, 40, 50] = 250 if number >= 4 else 30
        path = write_movie(tmp_path / f"{number}.mrc", frames)
        movies.append(declared(path, height_px=64, width_px=64))
    assert follower.update(movies[:4]).defects == ("",), "too few to be sure"
    lists = []
    for one, expected in zip(movies[4:], (1, 2, 2, 2), strict=True):
        found = follower.update([one])
        lists.append(found.defects[0])
        is_bad = read_defects(tmp_path / lists[-1], shape=(64, 64))
        assert int(is_bad.sum()) == found.bad_pixels[0] == expected
    assert len(set(lists)) == 2, "written when it changes"


@pytest.mark.parametrize("suffix", [".mrc", ".tif"])
def test_an_estimate_is_used_as_a_gain(
    tmp_path: Path, follower: Follower, suffix: str
) -> None:
    """Of a pattern of 5 %, from 20 movies of 60 counts; more of them make it better."""
    true = (1 / np.random.default_rng(5).normal(1, 0.05, (64, 64))).astype(np.float32)
    movies = [faint(tmp_path, number, true, suffix) for number in range(40)]
    if suffix == ".tif":
        true = true[::-1]  # a TIFF's last row is row 0
    first = follower.update(movies[:20]).estimate[0]
    assert f"setups.k3.gain={tmp_path / first} to use it." in follower.notices[-1]
    error = read_gain(tmp_path / first).factors / true
    # Shot noise of 20 x 60 counts.
    assert error.std() == pytest.approx(1 / math.sqrt(1200), rel=0.1)
    found = follower.update(movies[20:])
    assert found.estimate[0] != first
    assert (tmp_path / first).is_file(), "somebody may use it by now"
    error = read_gain(tmp_path / found.estimate[0]).factors / true
    count = found.looked_at[0]
    assert 20 < count < 36
    assert error.std() == pytest.approx(1 / math.sqrt(60 * count), rel=0.1)
    again = [
        declared(
            tmp_path / f"{number}{suffix}",
            tmp_path / found.estimate[0],
            height_px=64,
            width_px=64,
        )
        for number in range(40)
    ]
    other = follower.update(again, movies)
    assert other.verdict == ("as declared",)
    assert other.movies == (40,), "the movies without it are gone"


def test_a_gain_for_eer_is_the_inverse(tmp_path: Path) -> None:
    factors = np.array([[0.0, 0.5], [2.0, 1.0]], np.float32)
    np.testing.assert_array_equal(
        as_stored(factors, is_for_eer=True), [[0.0, 2.0], [0.5, 1.0]]
    )
    path = write_gain(tmp_path / "gain.mrc", as_stored(factors, is_for_eer=True))
    np.testing.assert_array_equal(read_gain(path, is_for_eer=True).factors, factors)
    assert as_stored(factors, is_for_eer=False) is factors


def faint(
    folder: Path, number: int, gain: NDArray[np.float32], suffix: str = ".mrc"
) -> Movie:
    chance = np.random.default_rng(number)
    frames = chance.poisson(30 / gain, (2, *gain.shape)).astype(np.uint8)
    path = write_movie(folder / f"{number}{suffix}", frames)
    return declared(path, height_px=gain.shape[0], width_px=gain.shape[1])


@pytest.mark.parametrize("has_gain", [False, True])
def test_corrected_movies_lack_no_gain(
    tmp_path: Path, follower: Follower, has_gain: bool
) -> None:
    gain = write_gain(tmp_path / "gain.mrc", measured_gain()) if has_gain else None
    movies = []
    for number in range(1, 9):
        path = tmp_path / f"corrected{number}.mrc"
        flat = counts(number) * measured_gain() / 2
        write_mrc(
            path,
            np.stack([flat, flat]),
            pixel_size_angst=1.0,
            dtype=np.float32,
            is_stack=True,
        )
        movies.append(declared(path, gain))
    found = follower.update(movies)
    assert found.verdict == ("no gain visible: the movies are corrected already",)
    assert found.estimate == ("",)
    if gain is None:
        assert follower.notices == ()
    else:
        (told,) = follower.notices
        assert f"The gain {gain} of setup 'k3' is not wanted: 8 movies" in told


def test_a_gain_of_another_camera_is_told(tmp_path: Path, follower: Follower) -> None:
    gain = write_gain(tmp_path / "gain.mrc", measured_gain(seed=2))
    found = follower.update(movie(tmp_path, n, gain) for n in range(1, 6))
    assert found.verdict == ("not of these movies: they have another pattern",)
    assert "fits its movies in no way: by" in follower.notices[0]


def test_a_gain_that_cannot_be_used_is_told(tmp_path: Path, follower: Follower) -> None:
    gain = write_gain(tmp_path / "gain.mrc", np.ones((100, 100), np.float32))
    found = follower.update(movie(tmp_path, n, gain) for n in (1, 2))
    assert found.verdict == ("not to be used with these movies",)
    (told,) = follower.notices
    assert f"The gain {gain} of setup 'k3' cannot be used: " in told
    assert "100 x 100 px does not fit frames of 512 x 512 px" in told


def test_a_file_that_is_no_movie_leaves_room_for_the_next(
    tmp_path: Path, follower: Follower
) -> None:
    (tmp_path / "bad.mrc").write_bytes(b"no movie" * 200)
    follower.params = {"movies": 2}
    found = follower.update([declared(tmp_path / "bad.mrc"), movie(tmp_path, 1)])
    assert (found.movies, found.looked_at) == ((2,), (1,))
    assert follower.update([movie(tmp_path, 2)]).looked_at == (2,)


def test_windows_tell_when_a_gain_does_not_fit_any_more(
    tmp_path: Path, follower: Follower
) -> None:
    """Ten movies a window, all on their own; the camera changes by 5 %."""
    chance = np.random.default_rng(3)
    true = (1 / chance.normal(1, 0.1, (64, 64))).astype(np.float32)
    gain = write_gain(tmp_path / "gain.mrc", true)
    drifted = true * chance.normal(1, 0.05, true.shape).astype(np.float32)
    follower.params = {"movies": 4, "window": 10}
    for number in range(30):
        made = faint(tmp_path, number, true if number < 20 else drifted)
        follower.update(
            [declared(tmp_path / f"{number}.mrc", gain, height_px=64, width_px=64)]
        )
        assert made.gain is None
    (standing,) = follower.standings
    residuals = standing.residuals
    assert [tuple(one[:2]) for one in residuals] == [(0, 4), (1, 5), (2, 5)]
    steady = [deviation < max(limit, 0.02) for _, _, deviation, limit in residuals[:2]]
    assert steady == [True, True]
    assert residuals[2][2] == pytest.approx(0.05, abs=0.015)
    (told, *_) = follower.notices
    assert "keep a fixed pattern of" in told
    assert "(window 2, " in told


def test_gains_and_setups_are_told_apart_and_go(
    tmp_path: Path, follower: Follower
) -> None:
    gain = write_gain(tmp_path / "gain.mrc", measured_gain())
    with_gain = [movie(tmp_path, n, gain) for n in (1, 2)]
    without = [movie(tmp_path, n) for n in (3, 4)]
    other = [movie(tmp_path, 5, setup="falcon")]
    found = follower.update([*with_gain, *without, *other])
    assert found.setup == ("k3", "k3", "falcon")
    assert found.gain == (str(gain), None, None)
    assert found.movies == (2, 2, 1)
    found = follower.update((), [with_gain[0], *without])
    assert found.movies == (1, 1)
    assert found.withdrawn == (1, 0)
    assert follower.notices == ()
    assert follower.update([with_gain[0]]).withdrawn == (0, 0)


def test_movies_of_which_more_is_known_are_no_new_ones(
    tmp_path: Path, follower: Follower
) -> None:
    """Metadata that come late replace all movies: none is counted twice."""
    follower.params = {"movies": 4, "window": 10}
    movies = [movie(tmp_path, number) for number in range(1, 7)]
    before = follower.update(movies)
    after = [replace(one, dose_e_per_angst2=40.0) for one in movies]
    found = follower.update(after, movies)
    assert found == before
    (standing,) = follower.standings
    assert (standing.movie_count, standing.seen_count) == (6, 6)
    assert len(standing.sampled) == 4


def test_a_movie_that_was_written_anew_in_another_shape_is_left_out(
    tmp_path: Path, follower: Follower
) -> None:
    rewritten = movie(tmp_path, 2)
    frames = np.ones((2, 64, 64), np.uint8)
    write_mrc_movie(tmp_path / "2.mrc", frames, pixel_size_angst=1.0)
    found = follower.update([movie(tmp_path, 1), rewritten, movie(tmp_path, 3)])
    assert (found.movies, found.looked_at) == ((3,), (2,))


def test_movies_one_by_one_come_to_the_same_as_all_at_once(tmp_path: Path) -> None:
    single, whole = Follower(tmp_path / "a"), Follower(tmp_path / "b")
    movies = [movie(tmp_path, n) for n in range(1, 6)]
    for one in movies:
        single.update([one])
    whole.update(movies)
    assert single.snapshot is not None
    assert whole.snapshot is not None
    assert single.snapshot.pattern == whole.snapshot.pattern
    assert single.snapshot.residual == whole.snapshot.residual
    assert single.snapshot.bad_pixels == whole.snapshot.bad_pixels


@pytest.mark.parametrize(
    ("boxes", "lines"),
    [
        ([], []),
        ([(2, 3, 1, 1)], ["2 3 1 1"]),
        ([(0, 0, 12, 2), (4, 0, 1, 9)], ["0 0 12 2", "4 2 1 7"]),
        ([(3, 8, 2, 1), (3, 6, 2, 1)], ["3 6 2 1", "3 8 2 1"]),
        ([(11, 8, 1, 1)], ["11 8 1 1"]),
    ],
)
def test_defects_become_boxes_and_come_back(
    tmp_path: Path, boxes: Sequence[tuple[int, int, int, int]], lines: list[str]
) -> None:
    is_bad = np.zeros((9, 12), dtype=bool)
    for x, y, width, height in boxes:
        is_bad[y : y + height, x : x + width] = True
    text = defect_list(is_bad)
    assert text.splitlines() == lines
    (tmp_path / "defects.txt").write_text(f"# x, y, width, height\n{text}")
    np.testing.assert_array_equal(
        read_defects(tmp_path / "defects.txt", shape=is_bad.shape), is_bad
    )
