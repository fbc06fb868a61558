"""`icestream motion` on files: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from icestream.cli import main
from icestream.io import read_header, write_mrc
from movie_scene import FRAMES, PIXEL_ANGST, SIDE, draw_frames, path_angst, write_movie

OPTICS = ("--pixel-size-angst", PIXEL_ANGST, "--voltage-kv", 300)
ONE = (*OPTICS, "--threads", 1)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"
ENDINGS = [".mrc", ".star", "_spectrum.mrc", ".jpg"]


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("movies") / "good.tif"
    return write_movie(path, draw_frames())


@pytest.fixture
def blank(tmp_path: Path) -> Path:
    zeros = np.zeros((FRAMES, SIDE, SIDE), np.uint8)
    return write_movie(tmp_path / "blank.tif", zeros)


def run(
    capsys: pytest.CaptureFixture[str], *args: object, code: int = 0
) -> tuple[str, str]:
    with pytest.raises(SystemExit) as left:
        main(["motion", *(str(one) for one in args)])
    captured = capsys.readouterr()
    assert left.value.code == code, captured.err
    return captured.out, captured.err


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_json(capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path) -> None:
    out, err = run(
        capsys, movie, *ONE, "--out", tmp_path, "--dose-e-per-angst2", 40, "--json"
    )
    (found,) = json.loads(out)
    assert err == ""
    assert found["file"] == found["movie"] == str(movie)
    path = np.array([found["shift_y_angst"], found["shift_x_angst"]]).T
    assert np.abs(path - path_angst() * [-1, 1]).max() < 0.5
    assert found["height_px"] == found["width_px"] == SIDE
    assert found["pixel_size_angst"] == PIXEL_ANGST
    assert found["dose_e_per_angst2"] == 5.0
    assert found["gain_correlation"] is None
    assert found["notice"] == ""
    assert names(tmp_path) == sorted(f"good{one}" for one in ENDINGS)
    assert found["star"] == str(tmp_path / "good.star")


def test_what_the_page_says_of_json(
    capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
) -> None:
    out, _ = run(capsys, movie, *ONE, "--out", tmp_path, "--json")
    section = PAGE.read_text(encoding="utf-8")
    section = section.partition("\n## `icestream motion`")[2].partition("\n## ")[0]
    (found,) = json.loads(out)
    assert [one for one in found if f"`{one}`" not in section] == []


def test_a_bad_movie_is_told_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], movie: Path, blank: Path, tmp_path: Path
) -> None:
    out_folder = tmp_path / "out"
    gone = tmp_path / "gone.tif"
    out, err = run(
        capsys, blank, movie, gone, *ONE, "--out", out_folder, "--json", code=3
    )
    found = json.loads(out)
    assert [one["file"] for one in found] == [str(blank), str(movie), str(gone)]
    assert set(found[0]) == set(found[2]) == {"file", "error"}
    assert found[1]["frame_count"] == FRAMES
    assert "is blank" in found[0]["error"]
    assert len(err.splitlines()) == 2
    assert "Traceback" not in err
    assert names(out_folder) == sorted(f"good{one}" for one in ENDINGS)


def test_the_table_says_loudly_that_there_are_no_dose_weights(
    capsys: pytest.CaptureFixture[str],
    movie: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out, _ = run(capsys, movie, *ONE, "--out", tmp_path)
    assert "good.tif" in out
    assert f"{FRAMES} of {FRAMES}" in out
    assert "The dose is not known: no dose weights." in out


def test_parameters_of_the_protocol_are_options(
    capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
) -> None:
    options = ("--binning", 2, "--last-frame", 6, "--number-format", "float32")
    more = ("--keep-halves", "--keep-plain", "--no-local", "--json")
    out, _ = run(capsys, movie, *ONE, *options, *more, "--out", tmp_path)
    (found,) = json.loads(out)
    assert (found["height_px"], found["frame_count"]) == (SIDE // 2, 6)
    assert found["local_gain"] is None
    header = read_header(tmp_path / "good.mrc")
    assert header.height_px == SIDE // 2
    assert header.dtype == np.float32
    endings = [*ENDINGS, "_ODD.mrc", "_EVN.mrc", "_noDW.mrc"]
    assert names(tmp_path) == sorted(f"good{one}" for one in endings)


class TestDryRun:
    def test_nothing_is_written_and_its_size_is_told(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        out_folder = tmp_path / "out"
        args = (*ONE, "--out", out_folder, "--json")
        told, err = run(capsys, movie, *args, "--dry-run")
        assert err == ""
        assert not out_folder.exists()
        ((promised,),) = (json.loads(told),)
        assert promised["files"] == ENDINGS
        run(capsys, movie, *args)
        written = sum(one.stat().st_size for one in out_folder.iterdir())
        assert names(out_folder) == sorted(f"good{one}" for one in promised["files"])
        # The thumbnail's size depends on what it shows.
        assert promised["bytes"] == pytest.approx(written, rel=0.05)

    def test_only_eer_movies_become_finer(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        sizes: list[Any] = []
        for more in ((), ("--eer-upsampling", 2)):
            args = (*OPTICS, "--out", tmp_path / "out", "--json", "--dry-run", *more)
            sizes.append(json.loads(run(capsys, movie, *args)[0]))
        assert sizes[0] == sizes[1]

    def test_on_a_terminal(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        args = (*OPTICS, "--out", tmp_path / "out", "--dry-run")
        out, _ = run(capsys, movie, *args)
        assert "good.tif" in out
        assert "_spectrum.mrc" in out

    def test_a_bad_file(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        gone = tmp_path / "gone.tif"
        args = (*OPTICS, "--out", tmp_path / "out", "--dry-run", "--json")
        out, _ = run(capsys, movie, gone, *args, code=3)
        assert set(json.loads(out)[1]) == {"file", "error"}


class TestRefused:
    def test_a_gain_that_lies_otherwise(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """All movies would be wrong: the way that is right is told."""
        draw = np.random.default_rng(2)
        gain = np.exp(0.3 * draw.normal(size=(SIDE, SIDE))).astype(np.float32)
        counts = draw.poisson(draw_frames() / gain).astype(np.uint8)
        path = write_movie(tmp_path / "movie.mrc", counts)
        mirrored = tmp_path / "gain.mrc"
        write_mrc(mirrored, gain[:, ::-1], pixel_size_angst=1.0, dtype=np.float32)
        args = (path, *ONE, "--out", tmp_path / "out", "--gain", mirrored)
        _, err = run(capsys, *args, code=2)
        assert "does not lie as declared" in err
        assert "gain_mirror=true gain_turn_deg=0 gain_divides=false" in err
        out, _ = run(capsys, *args, "--gain-mirror", "--json")
        assert json.loads(out)[0]["gain_correlation"] > 0.5

    def test_a_movie_is_never_replaced(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        path = write_movie(tmp_path / "movie.mrc", draw_frames())
        before = path.read_bytes()
        _, err = run(capsys, path, *ONE, "--out", tmp_path, code=2)
        assert f"The movie {path} would be replaced" in err
        assert "--out" in err
        assert path.read_bytes() == before
        assert names(tmp_path) == ["movie.mrc"]

    def test_results_of_one_name(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "good.mrc"
        _, err = run(capsys, movie, other, *ONE, "--out", tmp_path / "out", code=2)
        assert "under one name" in err

    def test_frames_the_wrong_way_round(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        args = ("--first-frame", 4, "--last-frame", 4)
        _, err = run(capsys, movie, *ONE, *args, "--out", tmp_path / "out", code=2)
        assert "last_frame must lie behind first_frame" in err

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there(
        self, capsys: pytest.CaptureFixture[str], movie: Path, tmp_path: Path
    ) -> None:
        args = (*ONE, "--out", tmp_path / "out", "--device", "cuda")
        _, err = run(capsys, movie, *args, code=2)
        assert "There is no GPU that PyTorch can use." in err
