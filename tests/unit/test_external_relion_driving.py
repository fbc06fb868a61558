"""How RELION is driven, without RELION: what is refused, and what is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from icestream.domain import AcquisitionSetup
from icestream.domain.errors import (
    BadSettings,
    InternalError,
    ProgramFailed,
    UnreadableFile,
)
from icestream.external.relion import (
    RelionMovie,
    RelionOptions,
    correct_motion_with_relion,
    relion_version,
)

SETUP = AcquisitionSetup(name="k2", pixel_size_angst=0.9, voltage_kv=300.0)


@pytest.fixture
def movie(tmp_path: Path) -> RelionMovie:
    path = tmp_path / "a.tif"
    path.write_bytes(b"frames")
    return RelionMovie(path=path, frame_count=6, setup=SETUP)


def fake_relion(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "bin" / "relion_run_motioncorr"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


@pytest.mark.parametrize("version", ["3.1.3", "4.0.1-commit-ex417f", "5.0.0"])
def test_versions_as_relion_tells_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    told = f"RELION version: {version} \nPrecision: BASE=double"
    fake_relion(tmp_path, f'echo "{told}"', monkeypatch)
    assert relion_version() == version


def test_another_program_of_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_relion(tmp_path, "echo hello", monkeypatch)
    with pytest.raises(BadSettings, match=r"tells no version of RELION, but 'hello"):
        relion_version()


def test_absence_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, movie: RelionMovie
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadSettings, match=r"not on the PATH\. Install RELION 3\.1"):
        correct_motion_with_relion(movie, tmp_path / "out", options=RelionOptions())
    assert not (tmp_path / "out").exists()


def test_a_program_that_writes_nothing_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, movie: RelionMovie
) -> None:
    fake_relion(tmp_path, "echo RELION version: 9", monkeypatch)
    with pytest.raises(ProgramFailed, match=r"ended well, but wrote no movie\.mrc"):
        correct_motion_with_relion(movie, tmp_path / "out", options=RelionOptions())


def test_a_movie_or_gain_that_is_not_there_is_told_before_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, movie: RelionMovie
) -> None:
    fake_relion(tmp_path, "echo RELION version: 9", monkeypatch)
    absent = tmp_path / "absent.mrc"
    for one in (replace(movie, path=absent), replace(movie, gain=absent)):
        with pytest.raises(UnreadableFile, match=r"absent\.mrc does not exist"):
            correct_motion_with_relion(one, tmp_path / "out", options=RelionOptions())
        assert not (tmp_path / "out").exists()


def test_results_never_mix_with_older_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, movie: RelionMovie
) -> None:
    fake_relion(tmp_path, "echo RELION version: 9", monkeypatch)
    with pytest.raises(InternalError, match="would mix"):
        correct_motion_with_relion(movie, tmp_path, options=RelionOptions())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.eer", {}),
        ("a.tif", {"frame_count": 1}),
        ("a.tif", {"dose_e_per_angst2": 0.0}),
        ("a.tif", {"dose_e_per_angst2": float("nan")}),
        ("a.tif", {"pre_exposure_e_per_angst2": -1.0}),
    ],
)
def test_movies_that_cannot_be_are_refused(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(BadSettings, match=name):
        RelionMovie(
            path=Path("/data") / name, setup=SETUP, **({"frame_count": 6} | values)
        )
