"""`icestream motion` with names and numbers that nobody should give."""

from __future__ import annotations

import json
import os
import resource
import sys
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING

import pytest
import torch

from icestream.cli import main
from icestream.io.relion_motion import read_relion_motion
from movie_scene import FRAMES, PIXEL_ANGST, draw_frames, write_movie

if TYPE_CHECKING:
    from pathlib import Path

OPTICS = ("--pixel-size-angst", PIXEL_ANGST, "--voltage-kv", 300)
ENDINGS = [".mrc", ".star", "_spectrum.mrc", ".jpg"]


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = draw_frames(electrons=5.0)[:, :256, :256]
    return write_movie(tmp_path_factory.mktemp("movies") / "good.tif", frames)


def run(
    capsys: pytest.CaptureFixture[str], *args: object, code: int = 0
) -> tuple[str, str]:
    with pytest.raises(SystemExit) as left:
        main(["motion", *(str(one) for one in args), *(str(one) for one in OPTICS)])
    captured = capsys.readouterr()
    assert left.value.code == code, captured.err
    return captured.out, captured.err


def made(names: list[str]) -> list[str]:
    return sorted(f"{name}{ending}" for name in names for ending in ENDINGS)


def left_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


class TestNames:
    def test_any_name_that_is_text(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        stems = ["a b", "it's", 'say "so"', "-dash", "[red]b", "ünï-粒子", "new\nline"]
        files = [tmp_path / "in" / f"{stem}.tif" for stem in stems]
        (tmp_path / "in").mkdir()
        for one in files:
            one.symlink_to(movie)
        out = tmp_path / "out"
        printed, err = run(capsys, *files, "--out", out, "--threads", 1, "--json")
        assert err == ""
        assert [one["file"] for one in json.loads(printed)] == [str(f) for f in files]
        assert left_in(out) == made(stems)
        for stem in stems:  # in one word, or no other program reads the file
            star = read_relion_motion(out / f"{stem}.star")
            bare = "".join("_" if one in " \n'\"" else one for one in stem)
            assert star.movie == str(tmp_path / "in" / f"{bare}.tif")

    def test_a_table_shows_a_name_as_it_is(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        link = tmp_path / "[red]b.tif"
        link.symlink_to(movie)
        out, _ = run(capsys, link, "--out", tmp_path / "out", "--threads", 1)
        assert "[red]b.tif" in out

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            (b"L" * 251 + b".tif", "too long"),
            ("é".encode() * 123 + b".tif", "too long"),
            (b"latin\xe9.tif", "no text in UTF-8"),
        ],
    )
    def test_others_are_the_fault_of_that_movie(
        self,
        capsys: pytest.CaptureFixture[str],
        movie: Path,
        tmp_path: Path,
        name: bytes,
        said: str,
    ) -> None:
        link = tmp_path / os.fsdecode(name)
        link.symlink_to(movie)
        out = tmp_path / "out"
        with pytest.MonkeyPatch.context() as patch:
            # A terminal of a usual locale, which takes no half of a surrogate.
            terminal = TextIOWrapper(BytesIO(), encoding="utf-8", errors="strict")
            patch.setattr(sys, "stdout", terminal)
            run(capsys, link, movie, "--out", out, "--threads", 1, "--json", code=3)
            terminal.flush()
            assert isinstance(terminal.buffer, BytesIO)
            bad, good = json.loads(terminal.buffer.getvalue())
        assert said in bad["error"]
        assert "Make a link" in bad["error"]
        assert good["frame_count"] == FRAMES
        assert left_in(out) == made(["good"])


class TestAllOrNothing:
    def test_what_cannot_be_written_to_its_end_leaves_what_was_there(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        """The image fits, the spectra behind it do not."""
        out = tmp_path / "out"
        args = (movie, "--out", out, "--threads", 1)
        run(capsys, *args)
        before = {one: one.read_bytes() for one in out.iterdir()}
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (140_000, hard))
        try:
            _, err = run(capsys, *args, "--last-frame", 6, code=4)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "good_spectrum.mrc cannot be written" in err
        assert {one: one.read_bytes() for one in out.iterdir()} == before

    def test_a_result_that_cannot_take_its_name(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "out" / "good.jpg").mkdir(parents=True)
        args = ("--out", tmp_path / "out", "--threads", 1)
        _, err = run(capsys, movie, *args, code=4)
        assert "good.jpg cannot be written" in err
        assert [one for one in left_in(tmp_path / "out") if one.startswith(".")] == []


class TestNumbers:
    def test_a_last_frame_beyond_any_machine(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        many = 10**20
        args = (movie, "--last-frame", many, "--out", tmp_path / "out")
        _, err = run(capsys, *args, code=3)
        assert f"has 8 frames; asked for were 1 to {many}" in err

    def test_more_threads_than_cores_are_not_started(
        self,
        capsys: pytest.CaptureFixture[str],
        movie: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        asked: list[int] = []
        monkeypatch.setattr(torch, "set_num_threads", asked.append)
        run(capsys, movie, "--threads", 10_000, "--out", tmp_path / "out")
        assert max(asked) <= len(os.sched_getaffinity(0))

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(
                (f"--{name}", value)
                for name in ("pixel-size-angst", "voltage-kv", "dose-e-per-angst2")
                for value in ("0", "-1", "nan", "inf", "1e30")
            ),
            *(("--dose-before-e-per-angst2", one) for one in ("-1", "nan", "inf")),
            *(("--binning", one) for one in ("0.99", "8.1", "nan")),
            *(("--first-frame", one) for one in ("0", "-1", "1.5")),
            *(("--last-frame", one) for one in ("1", "-1")),
            *(("--eer-dose-e-per-angst2", one) for one in ("0", "101", "nan")),
            *(("--eer-frames", one) for one in ("0", "65536")),
            *(("--eer-upsampling", one) for one in ("0", "3", "4")),
            *(("--thumbnail-px", one) for one in ("63", "2049")),
            *(("--threads", one) for one in ("0", "-1")),
            ("--gain-turn-deg", "45"),
            ("--number-format", "int8"),
            ("--device", "tpu"),
        ],
    )
    def test_what_cannot_be_is_refused_before_any_work(
        self,
        capsys: pytest.CaptureFixture[str],
        movie: Path,
        tmp_path: Path,
        option: str,
        value: str,
    ) -> None:
        out = tmp_path / "out"
        given = (*OPTICS, "--out", out, option, value)  # of two, the last counts
        with pytest.raises(SystemExit) as left:
            main(["motion", str(movie), *(str(one) for one in given)])
        err = capsys.readouterr().err
        assert left.value.code == 2
        assert "Traceback" not in err
        named = (option, option.removeprefix("--").replace("-", "_"))
        assert any(one in err for one in named), err
        assert not out.exists()
