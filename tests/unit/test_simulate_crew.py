"""Several processes, or one: the same bytes, memory used once, and clear ends."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.cli.simulate import usual_workers
from icestream.domain.errors import BadSettings, SessionError
from icestream.simulate import (
    TRUTH_NAME,
    Acquisition,
    read_truth,
    simulate_acquisition,
    usual_acquisition,
)
from icestream.simulate.handover import pack, unpack
from icestream.simulate.studio import one_thread
from microscope import projector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icestream.simulate.layouts import Output


def acquisition(count: int = 4, **values: object) -> Acquisition:
    small = {"shape": (128, 160), "pixel_size_angst": 4.0, "frame_count": 4}
    given = small | {"particle_count": 6, "defect_share": 0.0} | values
    return usual_acquisition(count, **given)  # type: ignore[arg-type]


@pytest.fixture
def three_threads() -> Iterator[None]:
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("output", ["micrograph", "tiff"])
def test_threads_workers_and_what_follows_change_nothing(
    tmp_path: Path, output: Output
) -> None:
    """Two taken here in three threads, and the same two as the first of three there.

    The first one is dirty: its texture is where threads showed, as did the volume of
    this pixel size.
    """
    given = {"shape": (512, 640), "pixel_size_angst": 1.5, "defect_share": 1.0}
    given |= {"output": output, "seed": 21}
    here, there = tmp_path / "here", tmp_path / "there"
    simulate_acquisition(here, acquisition(2, **given))
    assert torch.get_num_threads() == 3
    simulate_acquisition(there, acquisition(3, **given), workers=2)
    found, expected = (read_truth(one / TRUTH_NAME).exposures for one in (here, there))
    assert "dirty" in {one.defect for one in found}
    for one, other in zip(found, expected[:2], strict=True):
        assert (here / one.file).read_bytes() == (there / other.file).read_bytes()
        assert one.defocus_u_angst == other.defocus_u_angst
        assert np.array_equal(one.motion_angst, other.motion_angst)
        assert np.array_equal(one.masked, other.masked)
    if output == "tiff":
        gains = [(one / "gain.mrc").read_bytes() for one in (here, there)]
        assert gains[0] == gains[1]


@pytest.mark.usefixtures("three_threads")
def test_threads_are_given_back_after_an_error() -> None:
    with contextlib.suppress(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == 3


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    made = projector("small", 4.0)
    turned = torch.arange(12.0).reshape(3, 4).T[1:]
    empty = torch.empty(0, dtype=torch.int64)
    pack({"two": [made, made], "turned": turned, "empty": empty, "n": 3}, tmp_path)
    found = unpack(tmp_path)
    assert found["n"] == 3
    assert found["empty"].dtype == torch.int64
    assert torch.equal(found["turned"], turned)
    assert found["turned"].stride() == turned.stride()
    one, other = found["two"]
    assert one is other
    rotations = torch.eye(3)[None]
    assert torch.equal(one.project(rotations), made.project(rotations))


def test_processes_share_files_and_no_shared_memory(tmp_path: Path) -> None:
    maps: list[str] = []

    def look(_: Path) -> None:
        children = multiprocessing.active_children()
        maps.extend(Path(f"/proc/{one.pid}/maps").read_text() for one in children)
        maps.append(Path("/proc/self/maps").read_text())

    simulate_acquisition(
        tmp_path, acquisition(output="tiff"), workers=2, on_delivered=look
    )
    assert not any("/torch_" in one for one in maps)
    # Volume and sensor: what each process reads of them is in memory once.
    assert sum("/.camera/.shared/0.bin" in one for one in maps) >= 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"FoilHole_000{n}_fractions.tiff" for n in (1, 2, 3, 4)),
        "gain.mrc",
        TRUTH_NAME,
    ]


def test_a_process_that_was_ended_is_told(tmp_path: Path) -> None:
    def end(_: Path) -> None:
        for one in multiprocessing.active_children():
            if one.pid is not None:
                os.kill(one.pid, signal.SIGKILL)

    with pytest.raises(SessionError, match=r"was ended.*Use fewer workers"):
        simulate_acquisition(tmp_path, acquisition(8), workers=2, on_delivered=end)
    assert not (tmp_path / ".camera").exists()


def test_nothing_is_kept_when_it_is_done(tmp_path: Path) -> None:
    def kept_bytes() -> int:
        gc.collect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some objects warn when they are looked at
            tensors = [one for one in gc.get_objects() if torch.is_tensor(one)]
        return sum(one.nbytes for one in tensors)

    before = kept_bytes()
    made = acquisition(1, shape=(300, 300), output="tiff")
    simulate_acquisition(tmp_path, made)
    assert kept_bytes() < before + 300_000


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"workers": 0}, "workers: 0 cannot be"),
        ({"speed": 0.0}, "speed: 0 cannot be"),
        ({"speed": -1.0}, "speed: -1 cannot be"),
        ({"speed": float("nan")}, "speed: nan cannot be"),
    ],
)
def test_workers_and_speeds_that_cannot_be(
    tmp_path: Path, wrong: dict[str, float], said: str
) -> None:
    with pytest.raises(BadSettings, match=said):
        simulate_acquisition(tmp_path / "out", acquisition(1), **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_there_is_a_worker_for_each_processor_that_may_be_used() -> None:
    allowed = os.sched_getaffinity(0)
    assert usual_workers("cpu", 1_000) == len(allowed)
    assert usual_workers("cpu", 1) == usual_workers("cuda", 9) == 1
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usual_workers("cpu", 1_000) == 1
    finally:
        os.sched_setaffinity(0, allowed)
