from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icestream.cli import main
from icestream.io import read_stack, write_mrc
from icestream.simulate import (
    TRUTH_NAME,
    read_truth,
    simulate_acquisition,
    usual_acquisition,
)

_OPTICS = ("--pixel-size-angst", "1.5", "--voltage-kv", "300")
_CTF_NAMES = [
    "file",
    "defocus_u_angst",
    "defocus_v_angst",
    "defocus_angle_deg",
    "phase_shift_deg",
    "score",
    "resolution_angst",
    "defocus_error_angst",
    "defocus_u_error_angst",
    "defocus_v_error_angst",
    "defocus_angle_error_deg",
    "phase_shift_error_deg",
    "tilt_deg",
    "tilt_axis_deg",
    "tilt_error_deg",
    "tilt_axis_error_deg",
    "directional_loss",
    "smear_angst",
    "smear_axis_deg",
    "ring_contrast",
    "aliasing_angst",
]


@pytest.fixture(scope="module")
def micrograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    (path,) = simulate_acquisition(
        folder, usual_acquisition(1, defect_share=0.0, seed=1)
    )
    return path


@pytest.fixture(scope="module")
def truth(micrograph: Path) -> dict[str, Any]:
    (known,) = read_truth(micrograph.parent / TRUTH_NAME).exposures
    x_px, y_px = known.particles.x_px, known.particles.y_px
    is_inside = (x_px >= 0) & (x_px < 1024) & (y_px >= 0) & (y_px < 1024)
    return {
        "defocus_u_angst": known.defocus_u_angst,
        "x_px": x_px[is_inside],
        "y_px": y_px[is_inside],
    }


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.mrc"
    path.write_bytes(b"no image at all" * 100)
    return path


def _run(
    capsys: pytest.CaptureFixture[str], *args: object, code: int = 0
) -> tuple[str, str]:
    with pytest.raises(SystemExit) as left:
        main([str(one) for one in args])
    captured = capsys.readouterr()
    assert left.value.code == code, captured.err
    return captured.out, captured.err


def test_ctf_json(
    capsys: pytest.CaptureFixture[str], micrograph: Path, truth: dict[str, Any]
) -> None:
    out, err = _run(capsys, "ctf", micrograph, *_OPTICS, "--json")
    (found,) = json.loads(out)
    assert err == ""
    assert list(found) == _CTF_NAMES
    assert found["file"] == str(micrograph)
    # the engine's own tests judge accuracy; this is that the right image was fitted
    assert found["defocus_u_angst"] == pytest.approx(truth["defocus_u_angst"], rel=0.01)


def test_ctf_of_a_power_spectrum(
    capsys: pytest.CaptureFixture[str],
    micrograph: Path,
    truth: dict[str, Any],
    tmp_path: Path,
) -> None:
    from icestream.io import read_micrograph

    image = read_micrograph(micrograph)
    tiles = image.reshape(2, 512, 2, 512).swapaxes(1, 2).reshape(4, 512, 512)
    tiles = tiles - tiles.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fftshift(np.fft.fft2(tiles), axes=(1, 2))) ** 2).mean(0)
    path = tmp_path / "power.mrc"
    write_mrc(path, power.astype("f4"), pixel_size_angst=1.5, dtype=np.float32)
    out, _ = _run(capsys, "ctf", path, *_OPTICS, "--power-spectrum", "--json")
    (found,) = json.loads(out)
    assert found["defocus_u_angst"] == pytest.approx(truth["defocus_u_angst"], rel=0.02)


def test_a_bad_file_is_told_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], micrograph: Path, broken: Path, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.mrc"
    files = (broken, micrograph, gone)
    out, err = _run(capsys, "ctf", *files, *_OPTICS, "--json", code=3)
    found = json.loads(out)
    assert [one["file"] for one in found] == [str(one) for one in files]
    assert set(found[0]) == set(found[2]) == {"file", "error"}
    assert "score" in found[1]
    assert len(err.splitlines()) == 2
    assert str(broken) in err
    assert "Traceback" not in err


def test_ctf_table_and_star(
    capsys: pytest.CaptureFixture[str], micrograph: Path, tmp_path: Path
) -> None:
    star = tmp_path / "ctf.star"
    out, _ = _run(capsys, "ctf", micrograph, *_OPTICS, "--star", star)
    assert micrograph.name in out
    assert " ± " in out
    text = star.read_text()
    assert "_rlnDefocusU" in text
    assert f"{micrograph} 1 " in text


def test_parameters_of_the_protocol_are_options(
    capsys: pytest.CaptureFixture[str], micrograph: Path
) -> None:
    limits = ("--defocus-min-angst", "40000", "--defocus-max-angst", "50000")
    out, _ = _run(capsys, "ctf", micrograph, *_OPTICS, *limits, "--json", code=3)
    (found,) = json.loads(out)
    assert "error" in found


def test_pick_json(
    capsys: pytest.CaptureFixture[str], micrograph: Path, truth: dict[str, Any]
) -> None:
    size = ("--pixel-size-angst", "1.5", "--diameter-angst", "110", "140")
    out, err = _run(capsys, "pick", micrograph, *size, "--json")
    (found,) = json.loads(out)
    assert err == ""
    assert list(found) == ["file", "diameter_angst", "x_px", "y_px", "score"]
    assert 100 < found["diameter_angst"] < 150
    assert len(found["x_px"]) == len(found["y_px"]) == len(found["score"])
    xy = np.array([found["x_px"], found["y_px"]]).T
    known = np.array([truth["x_px"], truth["y_px"]]).T
    nearest = np.sqrt(((known[:, None] - xy) ** 2).sum(2)).min(1)
    # half of a particle is 42 px: a swapped axis would leave most of them alone
    assert np.median(nearest) < 15


def test_pick_star_and_table(
    capsys: pytest.CaptureFixture[str], micrograph: Path, broken: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "picks"
    args = ("--pixel-size-angst", "1.5", "--star", folder)
    out, _ = _run(capsys, "pick", micrograph, broken, *args, code=3)
    assert micrograph.name in out
    text = (folder / f"{micrograph.stem}_picks.star").read_text()
    assert "_rlnCoordinateX" in text


_EXTRACT = ("--pixel-size-angst", "1.5", "--box-px", "160", "--crop-to-px", "64")


@pytest.mark.parametrize("written", ["json", "star", "folder"])
def test_extract_takes_what_pick_writes(
    capsys: pytest.CaptureFixture[str], micrograph: Path, tmp_path: Path, written: str
) -> None:
    picks = tmp_path / "picks"
    args = ("--pixel-size-angst", "1.5", "--star", picks, "--json")
    found, _ = _run(capsys, "pick", micrograph, *args)
    coordinates = {
        "json": tmp_path / "picks.json",
        "star": picks / f"{micrograph.stem}_picks.star",
        "folder": picks,
    }[written]
    if written == "json":
        coordinates.write_text(found)
    out = tmp_path / "out"
    more = ("--coordinates", coordinates, "--out", out, "--json")
    text, err = _run(capsys, "extract", micrograph, *_EXTRACT, *more)
    (row,) = json.loads(text)
    assert err == ""
    assert list(row) == ["file", "stack", "particle_count"]
    stack = read_stack(Path(row["stack"]))
    assert stack.shape == (row["particle_count"], 64, 64)
    (picked,) = json.loads(found)
    assert 0 < row["particle_count"] <= len(picked["x_px"])
    # bright particles on dark: the wall of the mean particle stands out
    mean = stack.mean(0)
    y, x = np.mgrid[:64, :64] - 32
    radius_angst = np.hypot(y, x) * 1.5 * 160 / 64
    assert mean[radius_angst < 60].mean() > 5 * abs(mean[radius_angst > 90].mean())
    star = (out / "particles.star").read_text()
    assert f"000001@{micrograph.stem}.mrcs {micrograph} 1" in star


@pytest.mark.parametrize(("number_format", "mode"), [("float16", 12), ("float32", 2)])
def test_extract_stores_pixels_as_it_is_told(
    capsys: pytest.CaptureFixture[str],
    micrograph: Path,
    tmp_path: Path,
    number_format: str,
    mode: int,
) -> None:
    picks = tmp_path / "picks.json"
    found, _ = _run(capsys, "pick", micrograph, "--pixel-size-angst", "1.5", "--json")
    picks.write_text(found)
    more = ("--coordinates", picks, "--out", tmp_path, "--json")
    how = ("--number-format", number_format)
    text, _ = _run(capsys, "extract", micrograph, *_EXTRACT, *more, *how)
    (row,) = json.loads(text)
    header = np.fromfile(row["stack"], dtype=np.int32, count=4)
    assert header[3] == mode


def test_extract_says_what_it_lacks(
    capsys: pytest.CaptureFixture[str], micrograph: Path, tmp_path: Path
) -> None:
    picks = tmp_path / "picks.json"
    picks.write_text('[{"file": "other.mrc", "x_px": [1], "y_px": [2]}]')
    more = ("--coordinates", picks, "--out", tmp_path / "out")
    _, err = _run(capsys, "extract", micrograph, *_EXTRACT, *more, code=3)
    assert f"has no coordinates of {micrograph.name}" in err
    picks.write_text("[1]")
    _, err = _run(capsys, "extract", micrograph, *_EXTRACT, *more, code=2)
    assert "cannot be read as coordinates" in err
    odd = ("--pixel-size-angst", "1.5", "--box-px", "161")
    _, err = _run(capsys, "extract", micrograph, *odd, *more, code=2)
    assert "161 px" in err


def test_files_of_one_name_are_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    files = (tmp_path / "a" / "x.mrc", tmp_path / "b" / "x.mrc")
    args = ("--pixel-size-angst", "1.5", "--star", tmp_path / "picks")
    _, err = _run(capsys, "pick", *files, *args, code=2)
    assert "under one name" in err
    assert not (tmp_path / "picks").exists()
