"""The workflow from movies to particles, with either correction of motion."""

from __future__ import annotations

import shutil
from importlib.resources import files
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest

from icestream.app.run import run_session
from icestream.app.session import Session, create_session
from icestream.domain import Ctf, MovieMotion
from icestream.streaming.inline import InlineExecutor
from icestream.streaming.records import Record, decode
from movie_scene import (
    DEFOCUS_ANGST,
    PIXEL_ANGST,
    draw_frames,
    path_angst,
    write_movie,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

T = TypeVar("T")
# RELION errs by up to 0.6 Å in a frame of such a movie, ours by 0.3 Å.
PATH_WITHIN_ANGST = 0.8

needs_relion = pytest.mark.skipif(
    shutil.which("relion_run_motioncorr") is None,
    reason="RELION is not installed (apt install relion)",
)


def made(folder: Path, protocol: str) -> Session:
    """A session of two movies, of which one is no movie."""
    template = files("icestream.app") / "templates" / "movies.yaml"
    text = template.read_text(encoding="utf-8")
    assert "protocol: correct_motion\n" in text
    (folder / "mine.yaml").write_text(
        text.replace("protocol: correct_motion\n", f"protocol: {protocol}\n")
    )
    (folder / "movies").mkdir()
    write_movie(folder / "movies" / "good.tif", draw_frames())
    write_movie(folder / "movies" / "one_frame.tif", draw_frames(frames=1))
    return create_session(
        folder / "session",
        template=str(folder / "mine.yaml"),
        changes=[
            f"sources.grid.folder={folder / 'movies'}",
            f"setups.grid.pixel_size_angst={PIXEL_ANGST}",
            "setups.grid.voltage_kv=300",
            "setups.grid.dose_e_per_angst2=40",
        ],
    )


@pytest.mark.parametrize(
    "protocol",
    [
        "correct_motion",
        pytest.param("correct_motion_relion", marks=[pytest.mark.relion, needs_relion]),
    ],
)
def test_movies_become_micrographs_with_their_ctf(
    tmp_path: Path, protocol: str
) -> None:
    session = made(tmp_path, protocol)
    run_session(session, executor=InlineExecutor(), finish=True)
    reader = session.read()
    try:
        failed = {one.key: one.run for one in reader.failed_attempts()}
        (motion,) = decoded(reader.records("motion", "motion"), MovieMotion)
        (ctf,) = decoded(reader.records("ctf", "ctf"), Ctf)
    finally:
        reader.close()
    assert failed == {"grid/one_frame.tif": "import"}
    assert motion.movie == str(tmp_path / "movies" / "good.tif")
    assert (session.folder / motion.star).is_file()
    found = np.stack([motion.shift_y_angst, motion.shift_x_angst], -1)
    assert np.abs(found - path_angst() * [-1, 1]).max() < PATH_WITHIN_ANGST
    mean = (ctf.defocus_u_angst + ctf.defocus_v_angst) / 2
    assert mean == pytest.approx(DEFOCUS_ANGST, abs=100)


def decoded(records: Mapping[str, Record], kind: type[T]) -> list[T]:
    return [decode(one, kind) for one in records.values()]
