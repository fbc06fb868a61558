"""The CTF of files: fitted to micrographs or to ready power spectra."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from icestream.cli.arguments import (
    AmplitudeContrast,
    Files,
    Json,
    PixelSize,
    SphericalAberration,
    Voltage,
)
from icestream.cli.exits import ITEMS_FAILED
from icestream.cli.files import FileResult, each_file, print_results_json
from icestream.cli.flags import with_params
from icestream.cli.images import load_image
from icestream.cli.output import make_table, stdout
from icestream.cli.star import write_ctf_star
from icestream.domain import AcquisitionSetup, Ctf
from icestream.engines.ctf import estimate_ctf, estimate_ctf_of_spectrum
from icestream.protocols.estimate_ctf import EstimateCtf, EstimateCtfParams

__all__ = ["ctf_command"]


@with_params(EstimateCtf)
def ctf_command(
    file: Files,
    pixel_size_angst: PixelSize,
    voltage_kv: Voltage,
    spherical_aberration_mm: SphericalAberration = 2.7,
    amplitude_contrast: AmplitudeContrast = 0.1,
    power_spectrum: Annotated[
        bool,
        typer.Option(
            "--power-spectrum",
            help="The files are centred square power or amplitude spectra; the pixel "
            "size is then that of the spectrum.",
        ),
    ] = False,
    phase_plate: Annotated[
        bool,
        typer.Option(
            "--phase-plate", help="Find the phase shift of a phase plate too."
        ),
    ] = False,
    star: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write micrographs with their CTF as RELION STAR."
        ),
    ] = None,
    json: Json = False,
    *,
    params: EstimateCtfParams,
) -> None:
    """Fit the CTF of micrographs or power spectra.

    A file that cannot be fitted is reported, the others go on; the exit code is then 3.
    """
    setup = AcquisitionSetup(
        name="opticsGroup1",
        pixel_size_angst=pixel_size_angst,
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
        phase_plate=phase_plate,
    )
    search = params.search(phase_plate=phase_plate)

    def fit(path: Path) -> Ctf:
        image = load_image(path)
        optics: dict[str, Any] = {
            name: getattr(setup, name)
            for name in (
                "pixel_size_angst",
                "voltage_kv",
                "spherical_aberration_mm",
                "amplitude_contrast",
            )
        }
        if power_spectrum:
            found = estimate_ctf_of_spectrum(image, **optics, search=search)
        else:
            found = estimate_ctf(image, **optics, search=search, box_px=params.box_px)
        return found.ctf

    results = each_file(file, fit, doing="Fitting the CTF")
    if star is not None:
        fits = {str(one.file): one.value for one in results if one.value is not None}
        write_ctf_star(star, fits, setup)
    if json:
        print_results_json(results, _describe)
    else:
        _print_table(results)
    if any(one.error for one in results):
        raise typer.Exit(ITEMS_FAILED)


def _describe(ctf: Ctf) -> Mapping[str, Any]:
    return asdict(ctf)


def _print_table(results: Sequence[FileResult[Ctf]]) -> None:
    numbers = ("U (Å)", "V (Å)", "angle (°)", "phase (°)", "score", "fit (Å)")
    table = make_table("file", *numbers, right=numbers)
    for one in results:
        ctf = one.value
        if ctf is None:
            continue
        resolution = ctf.resolution_angst
        table.add_row(
            one.file.name,
            _with_error(ctf.defocus_u_angst, ctf.defocus_u_error_angst),
            _with_error(ctf.defocus_v_angst, ctf.defocus_v_error_angst),
            _with_error(ctf.defocus_angle_deg, ctf.defocus_angle_error_deg),
            _with_error(ctf.phase_shift_deg, ctf.phase_shift_error_deg, ".1f"),
            f"{ctf.score:.3f}",
            "none" if resolution is None else f"{resolution:.2f}",
        )
    if table.row_count:
        stdout().print(table)


def _with_error(value: float, error: float | None, form: str = ",.0f") -> str:
    return f"{value:{form}}" + ("" if error is None else f" ± {error:{form}}")
