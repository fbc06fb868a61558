"""What can be chosen of an acquisition, in the files and in the truth."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import tifffile
import torch

from icestream.domain.errors import BadSettings
from icestream.io import read_micrograph
from icestream.simulate import (
    TRUTH_NAME,
    Acquisition,
    FaultRates,
    Truth,
    read_truth,
    simulate_acquisition,
    usual_acquisition,
)
from icestream.simulate.studio import chosen_device

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"shape": (128, 160), "pixel_size_angst": 4.0, "frame_count": 3}


def acquisition(count: int = 2, **values: object) -> Acquisition:
    given = SMALL | {"particle_count": 4, "defect_share": 0.0} | values
    return usual_acquisition(count, **given)  # type: ignore[arg-type]


def truth_of(folder: Path) -> Truth:
    return read_truth(folder / TRUTH_NAME)


def names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != TRUTH_NAME
    )


def one_text(folder: Path, pattern: str) -> str:
    (path,) = folder.rglob(pattern)
    return path.read_text(encoding="utf-8")


def test_the_magnification_changes_from_grid_to_grid(tmp_path: Path) -> None:
    made = acquisition(
        4, pixel_size_angst=(3.0, 4.0), particle_count=None, layout="serialem"
    )
    paths = simulate_acquisition(tmp_path, made)
    truth = truth_of(tmp_path)
    assert [one.pixel_size_angst for one in truth.exposures] == [3, 3, 4, 4]
    assert [one.grid for one in truth.exposures] == [1, 1, 2, 2]
    assert [one.square for one in truth.exposures] == [1, 1, 1, 1]
    assert [path.relative_to(tmp_path).parts[0] for path in paths] == [
        "grid1",
        "grid1",
        "grid2",
        "grid2",
    ]
    assert [path.name[:12] for path in paths] == 2 * ["frames_00001", "frames_00002"]
    means = [float(read_micrograph(path).mean()) for path in paths]
    # The same electrons an Å2, but for the ice: 16 to 9 a pixel.
    assert means[2] / means[0] == pytest.approx(16 / 9, rel=0.1)
    one, other = truth.about["grids"]
    assert (one["pixel_size_angst"], other["pixel_size_angst"]) == (3, 4)
    assert one["dose_e_per_angst2"] == other["dose_e_per_angst2"] == 40
    assert other["particle_count"] / one["particle_count"] == pytest.approx(
        16 / 9, rel=0.25
    )
    spacings = [
        re.findall(r"(?:PixelSpacing|Magnification) = (\d+)", one_text(tmp_path, name))
        for name in ("grid1/**/*_00001_*.mdoc", "grid2/**/*_00001_*.mdoc")
    ]
    assert spacings == [["26000", "3"], ["19500", "4"]]


def test_pixel_sizes_and_grids_have_to_fit() -> None:
    assert len(acquisition(4, pixel_size_angst=[4.0], grids=2).recipes) == 2
    assert len(acquisition(4, pixel_size_angst=[3.0, 4.0], grids=2).recipes) == 2
    with pytest.raises(BadSettings, match="2 pixel sizes do not fit 3 grids"):
        acquisition(4, pixel_size_angst=[3.0, 4.0], grids=3)
    with pytest.raises(BadSettings, match="0 pixel sizes do not fit"):
        acquisition(4, pixel_size_angst=[])


def test_files_tell_the_target_and_the_truth_what_came(tmp_path: Path) -> None:
    simulate_acquisition(tmp_path / "mdoc", acquisition(layout="serialem"))
    simulate_acquisition(tmp_path / "xml", acquisition(layout="epu"))
    second = truth_of(tmp_path / "xml").exposures[1]
    assert second.target_defocus_angst == 20_000
    mean_angst = (second.defocus_u_angst + second.defocus_v_angst) / 2
    assert 0 < abs(mean_angst - 20_000) < 3_000
    mdoc = one_text(tmp_path / "mdoc", "*_00002_*.mdoc")
    assert "TargetDefocus = -2\n" in mdoc
    assert "\nDefocus = -2\n" in mdoc
    xml = one_text(tmp_path / "xml", "*_Data_*_2_*.xml")
    assert "<Defocus>-2E-06</Defocus>" in xml
    assert re.search(r"AppliedDefocus</a:Key><a:Value [^>]*>-2E-06<", xml)
    assert re.search(r"PhasePlateUsed</a:Key><a:Value [^>]*>false<", xml)
    assert {one.phase_shift_deg for one in truth_of(tmp_path / "xml").exposures} == {0}


def test_a_phase_plate_is_told(tmp_path: Path) -> None:
    made = acquisition(3, layout="epu", has_phase_plate=True)
    simulate_acquisition(tmp_path, made)
    truth = truth_of(tmp_path)
    assert [one.target_defocus_angst for one in truth.exposures] == [11e3, 10e3, 9e3]
    assert all(15 < one.phase_shift_deg < 60 for one in truth.exposures)
    assert truth.about["grids"][0]["phase_shift_range_deg"] == [30, 150]
    xml = one_text(tmp_path, "*_Data_*_1_*.xml")
    assert re.search(r"PhasePlateUsed</a:Key><a:Value [^>]*>true<", xml)


@pytest.mark.parametrize("output", ["tiff", "mrc"])
def test_corrected_movies_are_counts_times_the_gain(
    tmp_path: Path, output: str
) -> None:
    counts, corrected = tmp_path / "counts", tmp_path / "corrected"
    made = {"count": 1, "output": output, "layout": "serialem"}
    (raw,) = simulate_acquisition(counts, acquisition(**made))  # type: ignore[arg-type]
    (done,) = simulate_acquisition(
        corrected,
        acquisition(**made, is_gain_applied=True),  # type: ignore[arg-type]
    )
    read = tifffile.imread if output == "tiff" else mrcfile.read
    # mrcfile takes bytes as signed, whatever IMOD's mark says.
    frames = read(raw).view(np.uint8)
    gain = read_micrograph(counts / "gain.mrc")
    # RELION turns TIFF upside down, so its gain lies that way as MRC.
    expected = frames * (gain[::-1] if output == "tiff" else gain)
    movie = read(done)
    assert movie.dtype == np.float32
    np.testing.assert_allclose(movie, expected, rtol=1e-6)
    assert (movie[:, gain[::-1] == 0 if output == "tiff" else gain == 0] == 0).all()
    assert not list(corrected.glob("gain*"))
    assert "GainReference = gain.mrc" in one_text(counts, "*.mdoc")
    assert "GainReference" not in one_text(corrected, "*.mdoc")
    about = truth_of(corrected).about
    assert (about["gain_applied"], about["gain_scale"]) == (True, None)


def test_epu_says_whether_movies_are_corrected(tmp_path: Path) -> None:
    for is_applied, said in ((True, "DarkGain"), (False, "None")):
        folder = tmp_path / said
        made = acquisition(
            1, output="mrc", layout="epu", is_gain_applied=is_applied, **FAULTY_GAIN
        )
        simulate_acquisition(folder, made)
        xml = one_text(folder, "*_Data_*.xml")
        assert f"<DarkGainCorrection>{said}</DarkGainCorrection>" in xml
        told = truth_of(folder).about["gain_faults"]
        assert told == ([] if is_applied else ["late_gain"])


FAULTY_GAIN = {"faults": FaultRates(late_gain=1)}


@pytest.mark.parametrize(
    ("scale", "shape"), [(0.5, (64, 80)), (1, (128, 160)), (2, (256, 320))]
)
def test_the_gain_has_another_size(
    tmp_path: Path, scale: float, shape: tuple[int, int]
) -> None:
    simulate_acquisition(tmp_path, acquisition(1, output="tiff", gain_scale=scale))
    assert truth_of(tmp_path).about["gain_scale"] == scale
    with mrcfile.open(tmp_path / "gain.mrc") as file:
        assert file.data.shape == shape
        assert float(file.voxel_size.x) == pytest.approx(4 / scale)


def test_super_resolution_is_told_as_serialem_does(tmp_path: Path) -> None:
    made = acquisition(1, output="mrc", layout="serialem", super_resolution=2)
    (path,) = simulate_acquisition(tmp_path, made)
    assert mrcfile.read(path).shape == (3, 256, 320)
    text = one_text(tmp_path, "*.mdoc")
    assert "PixelSpacing = 2\n" in text
    assert "Binning = 0.5\n" in text


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"is_gain_applied": True}, "of the kind micrograph"),
        (
            {"is_gain_applied": True, "output": "eer", "shape": (4096, 4096)},
            "of the kind eer",
        ),
        ({"gain_scale": 2}, "2 times"),
        ({"gain_scale": 3, "output": "tiff"}, "3 times"),
        ({"gain_scale": 0.5, "output": "tiff", "shape": (129, 160)}, "0.5 times"),
        ({"gain_scale": 2, "output": "tiff", "is_gain_applied": True}, "2 times"),
    ],
)
def test_gains_that_cannot_be_are_refused(wrong: dict[str, object], match: str) -> None:
    with pytest.raises(BadSettings, match=match):
        acquisition(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", ["epu", "serialem"])
def test_metadata_lie_below_another_root(tmp_path: Path, layout: str) -> None:
    made = {"layout": layout, "output": "mrc", "grids": 2}
    simulate_acquisition(tmp_path / "both", acquisition(**made))  # type: ignore[arg-type]
    images, metadata = tmp_path / "images", tmp_path / "far" / "metadata"
    faults = FaultRates(late_metadata=1.0)
    simulate_acquisition(
        images,
        acquisition(**made, faults=faults),  # type: ignore[arg-type]
        metadata_folder=metadata,
    )
    assert sorted(names(images) + names(metadata)) == names(tmp_path / "both")
    assert all(name.endswith(".mrc") for name in names(images))
    assert not any(name.endswith(".mrc") for name in names(metadata))
    assert len(names(images)) == 3  # and the gain
    assert {one.faults for one in truth_of(images).exposures} == {("late_metadata",)}


def test_a_session_keeps_its_name_elsewhere(tmp_path: Path) -> None:
    simulate_acquisition(
        tmp_path / "apple",
        acquisition(1, layout="epu"),
        metadata_folder=tmp_path / "pear",
    )
    text = one_text(tmp_path / "pear", "EpuSession.dm")
    assert "apple" in text
    assert "pear" not in text


def test_metadata_may_be_missing_elsewhere_too(tmp_path: Path) -> None:
    simulate_acquisition(
        tmp_path / "images",
        acquisition(layout="serialem", faults=FaultRates(missing_metadata=1.0)),
        metadata_folder=tmp_path / "metadata",
    )
    assert not (tmp_path / "metadata").exists()


def test_no_metadata_go_where_others_lie(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no metadata"):
        simulate_acquisition(
            tmp_path / "a", acquisition(), metadata_folder=tmp_path / "b"
        )
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("here")
    with pytest.raises(BadSettings, match="not empty"):
        simulate_acquisition(
            tmp_path / "a",
            acquisition(layout="epu"),
            metadata_folder=tmp_path / "b",
        )
    assert not (tmp_path / "a").exists()


def test_mixtures_are_the_same_whoever_takes_them(tmp_path: Path) -> None:
    made = acquisition(
        3,
        state_count=2,
        denatured_share=0.3,
        preferred_share=0.8,
        has_phase_plate=True,
        particle_count=12,
    )
    simulate_acquisition(tmp_path / "one", made)
    simulate_acquisition(tmp_path / "two", made, workers=2)
    assert names(tmp_path / "one") == names(tmp_path / "two")
    for name in [*names(tmp_path / "one"), TRUTH_NAME]:
        one, two = (tmp_path / which / name for which in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    truth = truth_of(tmp_path / "one")
    species = truth.about["species"]
    assert [(one["name"], one["state"]) for one in species[:3]] == [
        ("cage", 0),
        ("cage", 1),
        ("denatured_cage", 0),
    ]
    assert [one["is_denatured"] for one in species] == [False] * 2 + [True] * 3
    found = np.concatenate([one.particles.species for one in truth.exposures])
    assert len(set(found.tolist())) >= 4


def test_the_device_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert chosen_device("auto") == "cpu"
    assert chosen_device("cpu") == "cpu"
    with pytest.raises(BadSettings, match="no CUDA device"):
        simulate_acquisition(tmp_path / "a", acquisition(), device="cuda")
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert chosen_device("auto") == chosen_device("cuda") == "cuda"
    assert chosen_device("cpu") == "cpu"


def test_the_truth_tells_the_device(tmp_path: Path) -> None:
    simulate_acquisition(tmp_path, acquisition(1), device="cpu")
    assert truth_of(tmp_path).about["device"] == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("output", ["micrograph", "tiff"])
def test_a_gpu_takes_the_same_but_for_the_noise(tmp_path: Path, output: str) -> None:
    made = acquisition(8, output=output, denatured_share=0.2, defect_share=1.0)
    on_cpu, on_gpu = (
        simulate_acquisition(tmp_path / device, made, device=device)
        for device in ("cpu", "cuda")
    )
    assert truth_of(tmp_path / "cuda").about["device"] == "cuda"
    for one, other in zip(
        truth_of(tmp_path / "cpu").exposures,
        truth_of(tmp_path / "cuda").exposures,
        strict=True,
    ):
        assert one.file == other.file
        assert one.defocus_u_angst == other.defocus_u_angst
        assert np.array_equal(one.particles.x_px, other.particles.x_px)
    for path, twin in zip(on_cpu, on_gpu, strict=True):
        first, second = (
            tifffile.imread(file).sum(axis=0, dtype=float)
            if output == "tiff"
            else read_micrograph(file).astype(float)
            for file in (path, twin)
        )
        # 20,480 pixels of 640 electrons or fewer; texture of dirt and film differs.
        assert first.mean() == pytest.approx(second.mean(), rel=0.02)
        assert first.std() == pytest.approx(second.std(), rel=0.2)


def test_large_buffers_are_kept() -> None:
    """Page faults of buffers that are made again and again, in a process of its own."""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("not glibc")
    program = (
        "import resource, torch\n"
        "from icestream.simulate.crew import keep_memory\n"
        "def faults():\n"
        "    torch.ones(1 << 24)\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): torch.ones(1 << 24)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "left = faults()\n"
        "keep_memory()\n"
        "print(left, faults())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    left, kept = map(int, done.stdout.split())
    assert kept < left / 4
