"""`icestream simulate`: what it refuses, and that each choice reaches the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from icestream.cli import main
from icestream.cli.output import progress_bar
from icestream.domain.errors import BadSettings
from icestream.simulate import TRUTH_NAME, read_truth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.progress import Progress, Task, TaskID

    Run = Callable[..., tuple[int, str]]

QUICK = (
    *("--size", "160x128", "--frames", "1", "--dose", "10"),
    *("--defects", "0%", "--workers", "1"),
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Exit code, and standard error as one line."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*args: object) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            main(["simulate", *(str(one) for one in args)])
        assert isinstance(left.value.code, int)
        return left.value.code, " ".join(capsys.readouterr().err.split())

    return call


def test_every_choice_is_taken(run: Run, tmp_path: Path) -> None:
    images, metadata = tmp_path / "images", tmp_path / "metadata"
    code, error = run(
        images,
        *("--count", 2, "--pixel", 3, "--pixel", 4, "--particles", 3),
        *("--states", 2, "--preferred", "80%", "--denatured", "25%", "--phase-plate"),
        *("--output", "mrc", "--layout", "serialem", "--gain-applied"),
        *("--metadata-dir", metadata, "--device", "cpu"),
        *QUICK,
    )
    assert code == 0, error
    truth = read_truth(images / TRUTH_NAME)
    assert [one.pixel_size_angst for one in truth.exposures] == [3, 4]
    assert [one.file.split("/")[0] for one in truth.exposures] == ["grid1", "grid2"]
    assert all(one.phase_shift_deg > 0 for one in truth.exposures)
    assert truth.about["gain_applied"]
    assert truth.about["device"] == "cpu"
    species = truth.about["species"]
    assert [one["preferred_share"] for one in species] == [0.8, 0.8, 0, 0, 0]
    assert sum(one["share"] for one in species if one["is_denatured"]) == 0.25
    assert len(list(metadata.rglob("*.mdoc"))) == 2
    assert not list(images.rglob("*.mdoc"))
    assert not list(images.rglob("gain*"))


def test_a_gain_of_another_size(run: Run, tmp_path: Path) -> None:
    choice = ("--count", 1, "--pixel", 4, "--output", "tiff", "--gain-scale", "0.5")
    code, error = run(tmp_path / "a", *choice, *QUICK)
    assert code == 0, error
    assert read_truth(tmp_path / "a" / TRUTH_NAME).about["gain_scale"] == 0.5


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            ("--pixel", 1, "--pixel", 2, "--grids", 3),
            "2 pixel sizes do not fit 3 grids",
        ),
        (("--seed", -1), "greater than or equal to 0"),
        (("--super-resolution",), "Files of the kind micrograph with super-resolution"),
        (
            ("--output", "tiff", "--frames", 1, "--dose", 100),
            "100 e/Å2 over 1 frame on pixels of 1.5 Å are 225 electrons",
        ),
        (
            ("--dose", 1e4, "--pixel", 3),
            "are 90,000 electrons a pixel: micrograph files",
        ),
        (("--tilt", 80), "less than or equal to 70"),
        (("--states", 5), "less than or equal to 4"),
        (("--preferred", "120%"), "not from 0 to 100%"),
        (("--denatured", "some"), "no share"),
        (("--gain-applied",), "of the kind micrograph"),
        (("--gain-scale", "3"), "'3' is not one of"),
        (("--gain-scale", "2"), "2 times as large"),
        (("--metadata-dir", "elsewhere"), "no metadata"),
        (("--device", "cuda"), "no CUDA device"),
        (("--device", "tpu"), "'tpu' is not one of"),
        (("--specimen", "cage", "--specimen", "cage"), "called cage"),
        (("--faults", "5%%"), "no share"),
        (("--rate", "inf"), "--rate inf cannot be"),
        (("--speed", "inf"), "--speed inf cannot be"),
        (("--voltage-kv", "nan"), "less than or equal to 1000"),
        (("--pixel", "1", "--pixel", "nan"), "less than or equal to 10"),
        (("--dose", "1e9"), "less than or equal to 1000"),
        (("--dose", "nan"), "less than or equal to 1000"),
        (("--tilt", "nan"), "less than or equal to 70"),
        (("--tilt", "-inf"), "greater than or equal to -70"),
        (("--tilt", "90"), "less than or equal to 70"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: tuple[object, ...],
    said: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, error = run(tmp_path / "out", *wrong)
    assert code == 2
    assert said in error
    assert not (tmp_path / "out").exists()


def test_a_structure_has_one_conformation(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.cif"
    file.write_text("data_\n", encoding="utf-8")
    code, error = run(tmp_path / "out", "--structure", file, "--states", 2)
    assert code == 2
    assert "one conformation, not 2" in error
    assert "Give a file for each" in error


def test_a_bar_shows_while_particles_are_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def make(*_: object, **__: object) -> None:
        shown.extend(name for name, one in bars[0].items() if not one.started)
        raise BadSettings("enough")

    bars: list[dict[str, Task]] = []

    def bar(*given: Any, **named: Any) -> tuple[Progress, TaskID]:
        made, task = progress_bar(*given, **named)
        bars.append({made.tasks[0].description: made.tasks[0]})
        return made, task

    monkeypatch.setattr("icestream.cli.simulate.progress_bar", bar)
    monkeypatch.setattr("icestream.cli.simulate.usual_acquisition", make)
    assert run(tmp_path / "out") == (2, "Error: enough")
    assert shown == ["Making particles"]
