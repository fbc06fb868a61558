from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from icestream.cli.app import main
from icestream.io import write_mrc
from icestream.simulate import simulate_acquisition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPTICS = ("--pixel-size-angst", "1.5", "--voltage-kv", "300")
_CTF_NAMES = [
    "file",
    "defocus_u_angst",
    "defocus_v_angst",
    "defocus_angle_deg",
    "phase_shift_deg",
    "score",
    "resolution_angst",
    "defocus_u_error_angst",
    "defocus_v_error_angst",
    "defocus_angle_error_deg",
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Many threads are slower than one where many tests share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def micrograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    (path,) = simulate_acquisition(folder, count=1, blank_every=None, seed=3)
    return path


@pytest.fixture(scope="module")
def truth(micrograph: Path) -> dict[str, Any]:
    known = json.loads((micrograph.parent / "truth.json").read_text())
    return dict(known["exposures"][micrograph.name])


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
