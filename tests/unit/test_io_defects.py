"""Lists of defects as SerialEM and MotionCor2 have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from icestream.domain.errors import UnreadableFile
from icestream.io.defects import read_defects

if TYPE_CHECKING:
    from pathlib import Path

SERIALEM = """CameraSizeX 96
CameraSizeY 64
RotationAndFlip 7
WasScaled {scaled}
K2Type 1
FalconType 0
NumToAvgSuperRes 0
UsableArea {usable}
PartialBadColumn 70 2 10 50
PartialBadRow 20 1 5 9
BadPixels 5 7 60 61
BadColumns 10 11
BadRows 40
"""


def listed(path: Path, text: str) -> Path:
    path.write_text(text, encoding="ascii")
    return path


def test_a_list_of_serialem_counts_rows_from_the_top(tmp_path: Path) -> None:
    text = SERIALEM.format(scaled=0, usable="0 0 0 0")
    path = listed(tmp_path / "defects_K2_Sep28.txt", text)
    # As the camera's picture is shown, row 0 on top.
    shown = np.zeros((64, 96), dtype=bool)
    shown[10:51, 70:72] = shown[20, 5:10] = shown[7, 5] = shown[61, 60] = True
    shown[:, 10:12] = shown[40] = True
    found = read_defects(path, shape=(64, 96))
    np.testing.assert_array_equal(found, shown[::-1])
    fine = read_defects(path, shape=(128, 192))
    np.testing.assert_array_equal(fine, shown[::-1].repeat(2, 0).repeat(2, 1))
    half = read_defects(path, shape=(32, 48))
    np.testing.assert_array_equal(half, fine[::4, ::4] | half)
    assert half.sum() < found.sum()
    assert half[31 - 3, 2]
    assert not half[31 - 3, 1]


def test_pixels_of_a_list_that_was_scaled_are_four(tmp_path: Path) -> None:
    path = listed(tmp_path / "d.txt", SERIALEM.format(scaled=1, usable="0 0 0 0"))
    plain = listed(tmp_path / "p.txt", SERIALEM.format(scaled=0, usable="0 0 0 0"))
    more = read_defects(path, shape=(64, 96)) & ~read_defects(plain, shape=(64, 96))
    assert {(63 - y, x) for y, x in np.argwhere(more)} == {
        (7, 6),
        (8, 5),
        (8, 6),
        (61, 61),
        (62, 60),
        (62, 61),
    }


def test_outside_the_usable_area_all_is_bad(tmp_path: Path) -> None:
    path = listed(tmp_path / "d.txt", SERIALEM.format(scaled=0, usable="2 3 60 90"))
    plain = listed(tmp_path / "p.txt", SERIALEM.format(scaled=0, usable="0 0 0 0"))
    inside = np.zeros((64, 96), dtype=bool)
    inside[2:61, 3:91] = True
    wanted = read_defects(plain, shape=(64, 96)) | ~inside[::-1]
    np.testing.assert_array_equal(read_defects(path, shape=(64, 96)), wanted)


def test_a_plain_list_counts_as_the_frames_do(tmp_path: Path) -> None:
    text = "# x y w h\n\n3 5 4 1\r\n0\t63 96 1\n"
    found = read_defects(listed(tmp_path / "d.txt", text), shape=(64, 96))
    wanted = np.zeros((64, 96), dtype=bool)
    wanted[5, 3:7] = wanted[63] = True
    np.testing.assert_array_equal(found, wanted)
    nothing = read_defects(listed(tmp_path / "e.txt", "# none\n"), shape=(64, 96))
    assert not nothing.any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("BadColumns 3\n", "0 x 0 px"),
        ("CameraSizeX 96\nCameraSizeY 65\n", "frames have 64 x 96"),
        ("CameraSizeX 64\nCameraSizeY 96\n", "96 x 64 px, the frames"),
        ("CameraSizeX 99999999\nCameraSizeY 99999999\n", "99999999"),
        ("CameraSizeX 96\nCameraSizeY 64\nBadColumns 96\n", "columns 96 to 96"),
        ("CameraSizeX 96\nCameraSizeY 64\nBadRows -1\n", "rows -1 to -1"),
        ("CameraSizeX 96\nCameraSizeY 64\nBadPixels 1 2 3\n", "3 numbers"),
        ("CameraSizeX 96\nCameraSizeY 64\nPartialBadColumn 1 2 3\n", "3 numbers"),
        ("CameraSizeX 96\nCameraSizeY 64\nBadColumns\n", "0 numbers"),
        ("CameraSizeX 96\nCameraSizeY x\n", "'x' are no whole numbers"),
        ("1 2 3\n", "3 numbers"),
        ("1 2 3 4.5\n", "whole numbers"),
        ("90 2 7 1\n", "columns 90 to 96 on 64 x 96 px"),
        ("\0\0\0\0", "no text"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UnreadableFile, match=words):
        read_defects(listed(tmp_path / "d.txt", text), shape=(64, 96))
