"""CTFFIND's dialogue and tables, with a program that asks as it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mrcfile
import numpy as np
import pytest

from fake_ctffind import write_ctffind
from icestream.domain import Micrograph
from icestream.domain.errors import BadSettings, CtfNotFound, ProgramFailed
from icestream.external.ctffind import ctffind_version, read_ctffind
from icestream.io import write_mrc
from icestream.protocols.estimate_ctf_ctffind import (
    EstimateCtfCtffind,
    EstimateCtfCtffindParams,
)
from icestream.streaming.protocol import AcquisitionView, Context

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.domain import Ctf

PIXEL_ANGST, KV = 1.25, 200.0


def micrograph(folder: Path, **fields: Any) -> Micrograph:
    image = np.random.default_rng(1).normal(10, 1, (128, 160)).astype(np.float32)
    write_mrc(folder / "image.mrc", image, pixel_size_angst=PIXEL_ANGST)
    values: dict[str, Any] = {
        "path": "image.mrc",
        "height_px": 128,
        "width_px": 160,
        "pixel_size_angst": PIXEL_ANGST,
        "setup": "k3",
        "mean": 10.0,
        "standard_deviation": 1.0,
        "thumbnail": "image.jpg",
    }
    return Micrograph(**(values | fields))


def estimate(
    folder: Path,
    program: Path,
    item: Micrograph,
    *,
    phase_plate: bool = False,
    **params: Any,
) -> tuple[Ctf, Context]:
    context = Context(
        key="import/a.mrc",
        acquisition=AcquisitionView(
            {
                "voltage_kv": KV,
                "spherical_aberration_mm": 2.7,
                "amplitude_contrast": 0.1,
                "phase_plate": phase_plate,
            }
        ),
        session_folder=folder,
        product_stem="product",
    )
    step = EstimateCtfCtffind(
        EstimateCtfCtffindParams.model_validate({"program": str(program), **params})
    )
    return step.process(context, micrograph=item)["ctf"], context


@pytest.mark.parametrize("version", ["4.1.14", "4.1.15", "5.0.2", "5.1"])
@pytest.mark.parametrize("phase_plate", [False, True])
def test_each_answer_comes_to_its_question(
    tmp_path: Path, version: str, phase_plate: bool
) -> None:
    program = write_ctffind(tmp_path, version=version)
    item = micrograph(tmp_path)
    ctf, context = estimate(tmp_path, program, item, phase_plate=phase_plate)
    # The larger of 10,000 + kV and 9,000 + 1,000 px is U.
    assert (ctf.defocus_u_angst, ctf.defocus_v_angst) == (10_250, 10_200)
    # V and U changed places, so the axis of U is across.
    assert ctf.defocus_angle_deg == pytest.approx(90 - 14.85)
    assert ctf.phase_shift_deg == pytest.approx(90 if phase_plate else 0, abs=1e-3)
    assert (ctf.score, ctf.resolution_angst) == (0.15, 4.5)
    (log,) = context.products
    text = log.temporary.read_text()
    assert text.startswith(f"CTFFIND {version}, ")
    assert "Amplitude contrast" in text


def test_of_a_movie_it_sees_the_spectrum_of_the_sum(tmp_path: Path) -> None:
    regions = np.random.default_rng(2).random((4, 128, 65)).astype(np.float32) + 1
    write_mrc(tmp_path / "spectrum.mrc", regions, pixel_size_angst=1.4, is_stack=True)
    keep = tmp_path / "seen.mrc"
    program = write_ctffind(
        tmp_path,
        trouble=f"import shutil; shutil.copyfile(image, {str(keep)!r})",
    )
    item = micrograph(
        tmp_path,
        spectrum="spectrum.mrc",
        spectrum_pixel_size_angst=1.4,
        spectrum_tile_count=(1, 1, 1, 1),
        spectrum_y_angst=(0.0,) * 4,
        spectrum_x_angst=(0.0,) * 4,
    )
    ctf, context = estimate(tmp_path, program, item)
    assert ctf.defocus_u_angst == pytest.approx(9_000 + 1_400)
    assert "--amplitude-spectrum-input" in context.products[0].temporary.read_text()
    seen = mrcfile.read(keep)
    assert seen.shape == (128, 128)
    assert seen.dtype == np.float32
    turned = np.roll(seen[::-1, ::-1], (1, 1), (0, 1))
    middle = np.s_[:, 66:127]
    np.testing.assert_allclose(seen[middle], turned[middle], rtol=1e-6)


@pytest.mark.parametrize(
    ("trouble", "what"),
    [
        ("sys.exit(3)", "status 3"),
        ("sys.exit(0)", "wrote no table"),
        ("import time; time.sleep(60)", "time-out"),
    ],
)
def test_trouble_is_told_with_what_it_said(
    tmp_path: Path, trouble: str, what: str
) -> None:
    program = write_ctffind(tmp_path, trouble=trouble)
    with pytest.raises(ProgramFailed, match=what) as error:
        estimate(tmp_path, program, micrograph(tmp_path), time_limit_s=3.0)
    (kept,) = tmp_path.glob("*.failed.log")
    assert "Minimum defocus" in kept.read_text()
    assert str(kept) in error.value.hint


def test_a_question_that_is_new_fails_and_does_not_hang(tmp_path: Path) -> None:
    program = write_ctffind(tmp_path)
    text = program.read_text()
    program.write_text(
        text.replace("told = [ask", 'ask("Input is a movie?", bool)\ntold = [ask')
    )
    with pytest.raises(ProgramFailed, match="yes or no: Input is a movie"):
        estimate(tmp_path, program, micrograph(tmp_path))


def test_where_it_is_not_installed_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="not on the PATH") as error:
        estimate(tmp_path, tmp_path / "none", micrograph(tmp_path))
    assert "CTFFIND 4.1 or 5" in error.value.hint


def test_another_program_of_its_name_is_refused(tmp_path: Path) -> None:
    program = write_ctffind(tmp_path, version="3.5")
    with pytest.raises(BadSettings, match=r"no CTFFIND 4\.1 or 5"):
        ctffind_version(str(program))


class TestTable:
    def test_of_a_real_run(self, shared_data: Path) -> None:
        folder = shared_data / "betagal_10204" / "program_output"
        ctf = read_ctffind((folder / "20170629_00021_frameImage_PS.txt").read_text())
        assert ctf.defocus_u_angst == pytest.approx(37034.93, abs=0.01)
        assert ctf.defocus_v_angst == pytest.approx(35846.54, abs=0.01)
        assert ctf.defocus_angle_deg == pytest.approx(180 - 14.85, abs=0.01)
        assert ctf.score == pytest.approx(0.017465)
        assert ctf.resolution_angst == pytest.approx(9.554261)

    def test_a_fit_that_is_no_number(self) -> None:
        with pytest.raises(CtfNotFound):
            read_ctffind("# x\n1 nan nan 0 0 0.1 5\n")

    def test_no_rings(self) -> None:
        assert read_ctffind("1 9000 8000 0 0 0.1 inf").resolution_angst is None

    @pytest.mark.parametrize("text", ["", "# only a comment\n", "1 2 3\n", "a b c d e"])
    def test_what_is_no_table(self, text: str) -> None:
        with pytest.raises(ProgramFailed, match="holds no fit"):
            read_ctffind(text)
