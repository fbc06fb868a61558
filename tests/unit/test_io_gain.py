"""Gain references of every kind end as the same factors; what is none is refused."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest
import tifffile

from digital_micrograph import Tag, Writer
from icestream.domain.errors import IncompleteFile, UnreadableFile, UnusableImage
from icestream.io import write_mrc
from icestream.io.gain import read_gain
from icestream.simulate.instrument.directory import ascii_field, bytes_field
from icestream.simulate.instrument.gain import MovieFormat, write_gain
from icestream.simulate.instrument.tiff import write_tiff

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DEFECTS = """<?xml version="1.0" encoding="utf-8"?>
<defects><!-- of a camera -->
  <row>3</row><col>5,7-8</col>
  <area>10,12,13,12</area><point>1,2</point><nonmaskingpoint>20,15</nonmaskingpoint>
  <version>2</version>
</defects>"""


def gain() -> NDArray[np.float32]:
    """Rows as the frames of the movie have them that are stored first."""
    made = np.random.default_rng(1).normal(1, 0.1, (20, 30)).astype(np.float32)
    made[3, 4] = 0
    return made


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int16", "uint16", "int32", "uint32", "uint8"]
)
def test_every_digital_micrograph_file_is_read(
    tmp_path: Path, version: int, order: int, dtype: str
) -> None:
    path = tmp_path / f"K3-gain.dm{version}"
    pixels = (gain() * 100).astype(dtype)
    path.write_bytes(Writer(version, is_little=order == 1).gain(pixels))
    found = read_gain(path)
    np.testing.assert_allclose(found.factors, pixels[::-1].astype(np.float32))
    assert found.factors.dtype == np.float32
    assert found.factors.flags.c_contiguous
    assert not found.was_inverse
    np.testing.assert_array_equal(np.argwhere(found.is_defect), [[16, 4]])


@pytest.mark.parametrize(
    ("movie_format", "name"),
    [
        ("tiff", "gain.tif"),
        ("tiff", "gain.TIFF"),
        ("tiff", "gain.mrc"),
        ("mrc", "gain.mrc"),
        ("mrc", "gain.tif"),
        ("eer", "20250314_120449_EER_GainReference.gain"),
        ("eer", "gain.mrc"),
        ("eer", "gain.tif"),
    ],
)
def test_each_gives_the_factors_in_the_rows_of_its_movie(
    tmp_path: Path, movie_format: MovieFormat, name: str
) -> None:
    """The simulator's files are those that RELION flattens movies with."""
    write_gain(tmp_path / name, gain(), movie_format=movie_format)
    found = read_gain(tmp_path / name, is_for_eer=movie_format == "eer")
    # RELION turns the rows of a TIFF movie, and so do we.
    wanted = gain()[::-1] if movie_format == "tiff" else gain()
    np.testing.assert_allclose(found.factors, wanted, rtol=1e-6)
    np.testing.assert_array_equal(found.is_defect, wanted == 0)
    assert found.was_inverse == (movie_format == "eer" and not name.endswith(".gain"))


def test_the_defects_in_an_eer_gain_are_read(tmp_path: Path) -> None:
    path = tmp_path / "EER_GainReference.gain"
    wanted = gain() == 0
    wanted[3], wanted[:, 5], wanted[:, 7:9] = True, True, True
    wanted[12, 10:14] = wanted[2, 1] = wanted[15, 20] = True
    for field in (ascii_field(DEFECTS), bytes_field(DEFECTS.encode() + b"\0")):
        write_tiff(path, gain(), extra_fields={65100: field})
        found = read_gain(path)
        np.testing.assert_array_equal(found.is_defect, wanted)
        np.testing.assert_array_equal(found.factors, gain())


@pytest.mark.parametrize(
    "text",
    [
        "<defects><row>20</row></defects>",
        "<defects><point>1,2,3</point></defects>",
        "<defects><point>-1,2</point></defects>",
        "<defects><col>a</col></defects>",
        "<defects><col>0-99999999999</col></defects>",
        "<defects>" + "<row>" + "0-65535," * 1000 + "0</row></defects>",
        "<defects><row>1</row>",
        '<!DOCTYPE d [<!ENTITY a "aa">]><defects>&a;</defects>',
        '<?xml version="1.0" encoding="klingon"?><defects/>',
        '<?xml version="1.0" encoding="utf-32"?><defects/>',
    ],
)
def test_defects_that_cannot_be_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "EER_GainReference.gain"
    write_tiff(path, gain(), extra_fields={65100: ascii_field(text)})
    with pytest.raises(UnreadableFile, match="EER_GainReference"):
        read_gain(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["gain.mrc", "gain.tif", "gain.gain", "gain.dm4"])
def test_what_is_no_number_is_refused_with_its_count(
    tmp_path: Path, name: str, bad: float
) -> None:
    values = gain()
    values[7, 7] = values[8, 9] = bad
    path = tmp_path / name
    if name.endswith("mrc"):
        write_mrc(path, gain(), pixel_size_angst=1, dtype=np.float32)
        path.write_bytes(path.read_bytes()[:1024] + values.tobytes())
    elif name.endswith("dm4"):
        path.write_bytes(Writer().gain(values))
    else:
        tifffile.imwrite(path, values)
    with pytest.raises(UnusableImage, match=f"{name} holds 2 gains .* of 600"):
        read_gain(path)


def test_what_is_below_zero_is_dead(tmp_path: Path) -> None:
    values = gain()
    values[0, 0] = -1
    values[1, 1] = 1e-40
    mrcfile.write(tmp_path / "gain.mrc", values)
    for is_for_eer in (False, True):
        found = read_gain(tmp_path / "gain.mrc", is_for_eer=is_for_eer)
        assert np.isfinite(found.factors).all()
        assert {tuple(one) for one in np.argwhere(found.factors == 0)} == {
            (0, 0),
            (1, 1),
            (3, 4),
        }
        assert found.is_defect[0, 0]


def test_what_is_no_gain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gain.mrc"
    mrcfile.write(path, np.zeros((8, 8), dtype=np.float32))
    with pytest.raises(UnusableImage, match="64 of 64"):
        read_gain(path)
    mrcfile.write(path, np.ones((3, 8, 8), dtype=np.float32), overwrite=True)
    with pytest.raises(UnreadableFile, match="3 images"):
        read_gain(path)
    with pytest.raises(UnreadableFile, match=r"Known are .*\.dm4"):
        read_gain(tmp_path / "gain.txt")
    with pytest.raises(UnreadableFile, match="does not exist"):
        read_gain(tmp_path / "gain.dm4")
    (tmp_path / "gain.gain").write_bytes(b"no TIFF at all")
    with pytest.raises(UnreadableFile, match=r"gain\.gain"):
        read_gain(tmp_path / "gain.gain")


@pytest.mark.parametrize("version", [3, 4])
def test_a_file_that_is_cut_short_anywhere_is_refused(
    tmp_path: Path, version: int
) -> None:
    path = tmp_path / "gain.dm4"
    whole = Writer(version).gain(gain())
    last = whole.index(b"InImageMode")
    for size in [*range(1, 600), *range(600, last, 97)]:
        path.write_bytes(whole[:size])
        with pytest.raises((IncompleteFile, UnreadableFile)):
            read_gain(path)


def test_hostile_files_are_refused(tmp_path: Path) -> None:
    path, writer = tmp_path / "gain.dm4", Writer()
    deep: Any = [("", writer.number(1))]
    for _ in range(100):
        deep = [("", deep)]
    wide: list[tuple[str, Tag]] = [("", writer.number(1 << 31))] * 2
    stack: list[tuple[str, Tag]] = [("", writer.number(side)) for side in (30, 10, 2)]
    less: list[tuple[str, Tag]] = [("", writer.number(30)), ("", writer.number(19))]

    def sized(dimensions: list[tuple[str, Tag]]) -> bytes:
        pixels: Any = writer.image(gain())
        inside = dict(pixels)["ImageData"]
        changed = [one for one in inside if one[0] != "Dimensions"]
        image: Tag = [("ImageData", [*changed, ("Dimensions", dimensions)])]
        return writer.file([("ImageList", [("", image)])])

    cases = {
        "deep": writer.file(deep),
        "described by 0": writer.file([("", b"%%%%" + bytes(8))]),
        "no DM3 or DM4": b"\0\0\0\7" + bytes(100),
        "holds no image": writer.file([("ImageList", [])]),
        "no image": sized(wide),
        "no image of": sized(stack),
        "30 px in 2400": sized(less),
        "kind 99": writer.file([("", writer.value([99], b""))]),
        "kind 15": writer.file([("", writer.value([20, 15, 0, 9, 0, 4, 1], b""))]),
        "fewer than": writer.file([("", writer.value([20, 7, 1 << 62], b""))]),
        "131072 tags": b"\0\0\0\3"
        + struct.pack(">II", 0, 1)
        + b"\1\0"
        + struct.pack(">I", 1 << 31)
        + struct.pack(">BHBBI", 20, 0, 1, 0, 0) * (1 << 18),
    }
    for words, raw in cases.items():
        path.write_bytes(raw)
        with pytest.raises(UnreadableFile, match=words):
            read_gain(path)


def test_a_damaged_byte_never_does_more_than_raise(tmp_path: Path) -> None:
    path = tmp_path / "gain.dm3"
    whole = bytearray(Writer(3).gain(gain()[:4, :5]))
    chance = np.random.default_rng(1)
    for _ in range(400):
        damaged = whole.copy()
        for place in chance.integers(0, len(whole), 3):
            damaged[place] = chance.integers(0, 256)
        path.write_bytes(damaged)
        try:
            found = read_gain(path)
        except (UnreadableFile, UnusableImage):
            continue
        assert np.isfinite(found.factors).all()
