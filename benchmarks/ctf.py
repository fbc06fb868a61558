"""The CTF fit against simulated micrographs of known defocus.

``accuracy`` prints errors for each defocus and astigmatism beside the stated standard
errors; ``coverage`` how often the truth lies within one and two of these; ``speed`` the
time of one fit. All on one core.

    python benchmarks/ctf.py accuracy [--side 2048] [--count 12] [--phase-plate]
    python benchmarks/ctf.py coverage [--side 768] [--pixel 1.5] [--count 500]
    python benchmarks/ctf.py speed
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from icestream.domain.errors import CtfNotFound
from icestream.engines.ctf import (
    CtfSearch,
    estimate_ctf,
    estimate_ctf_of_spectrum,
    power_spectra,
)
from icestream.simulate import (
    Microscope,
    Optics,
    Projector,
    Recipe,
    potential_volume,
    simulate_micrograph,
)
from icestream.simulate.mixture import make_mixture
from icestream.simulate.spectra import simulate_spectrum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from icestream.domain import Ctf
    from icestream.simulate import SimulatedMicrograph

MICROSCOPE = Microscope(voltage_kv=300.0)
DEFOCUS_ANGST = (5_000.0, 10_000.0, 20_000.0, 40_000.0)
ASTIGMATISM_ANGST = (0.0, 300.0, 600.0)
ANGLE_FROM_ANGST = 150.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fit less the truth; ``sigma`` are the stated standard errors."""

    defocus_angst: float
    astigmatism_angst: float
    error: dict[str, float]
    sigma: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("accuracy", "coverage", "speed"))
    parser.add_argument("--side", type=int, default=0, help="of the images, px")
    parser.add_argument("--pixel", type=float, default=0.0, help="Å/px")
    parser.add_argument("--count", type=int, default=0, help="a setting, or in all")
    parser.add_argument("--phase-plate", action="store_true")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measure = {"accuracy": accuracy, "coverage": coverage, "speed": speed}[given.what]
    rows = measure(given)
    print(json.dumps(rows) if given.json else table(rows))


def accuracy(given: argparse.Namespace) -> list[dict[str, Any]]:
    """RMS errors of each setting."""
    side, pixel, count = given.side or 2048, given.pixel or 1.0, given.count or 12
    settings = [(d, a) for d in DEFOCUS_ANGST for a in ASTIGMATISM_ANGST]
    photographer = Photographer(side=side, pixel=pixel, phase_plate=given.phase_plate)
    rows = []
    for number, (defocus, astigmatism) in enumerate(settings):
        told(f"setting {number + 1} of {len(settings)}")
        drawn = ((defocus, astigmatism, n) for n in range(count))
        cases = [one for one in photographer.fits(drawn) if one is not None]
        rows.append(
            {"defocus": defocus, "astigmatism": astigmatism, "fits": len(cases)}
            | {
                f"{name} rms": rms(
                    [one.error[name] for one in cases if name in one.error]
                )
                for name in ("mean", "astig", "angle", "phase")
            }
            | {
                f"{name} sigma": median(
                    [one.sigma[name] for one in cases if name in one.sigma]
                )
                for name in ("mean", "U", "phase")
            }
        )
    return rows


def coverage(given: argparse.Namespace) -> list[dict[str, Any]]:
    """How often the truth lies within the stated errors."""
    side, pixel, count = given.side or 768, given.pixel or 1.5, given.count or 500
    photographer = Photographer(side=side, pixel=pixel, phase_plate=given.phase_plate)
    chance = np.random.default_rng(1)
    drawn = (
        (float(chance.uniform(5e3, 4e4)), float(chance.uniform(0, 600)), n)
        for n in range(count)
    )
    cases = []
    for number, one in enumerate(photographer.fits(drawn)):
        told(f"{number + 1} of {count}")
        cases += [] if one is None else [one]
    rows = []
    for name in ("mean", "U", "V", "angle", "phase"):
        pulls = np.array(
            [one.error[name] / one.sigma[name] for one in cases if name in one.error]
        )
        if len(pulls):
            rows.append(
                {
                    "of": name,
                    "fits": len(pulls),
                    "within 1": float((abs(pulls) < 1).mean()),
                    "within 2": float((abs(pulls) < 2).mean()),
                    "median sigma": median([one.sigma[name] for one in cases]),
                }
            )
    return rows


def speed(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of processor of one fit."""
    optics = Optics(defocus_u_angst=15_300.0, defocus_v_angst=14_900.0)
    generator = torch.Generator().manual_seed(1)
    spectrum = simulate_spectrum(
        optics, microscope=MICROSCOPE, pixel_size_angst=1.4, generator=generator
    )
    side = given.side or 4096
    image = torch.randn(side, side, generator=generator)
    lens = _lens()
    return [
        {
            "what": "fit of a 512 px spectrum, s",
            "median": timed(
                lambda: estimate_ctf_of_spectrum(spectrum, pixel_size_angst=1.4, **lens)
            ),
        },
        {
            "what": f"spectra of a {side} px image, s",
            "median": timed(lambda: power_spectra(image, pixel_size_angst=1.0)),
        },
    ]


class Photographer:
    """Takes simulated micrographs and fits them."""

    def __init__(self, *, side: int, pixel: float, phase_plate: bool) -> None:
        self._side, self._pixel, self._phase_plate = side, pixel, phase_plate
        self._mixture = make_mixture(
            ("cage",), (), state_count=1, preferred_share=0, denatured_share=0
        )
        self._projectors = [
            Projector(
                potential_volume(one, box_px=_box_px(pixel), pixel_size_angst=pixel),
                pixel_size_angst=pixel,
            )
            for one in self._mixture.atoms
        ]

    def fits(self, drawn: Iterable[tuple[float, float, int]]) -> Iterator[Case | None]:
        """Fit one micrograph for each defocus, astigmatism and number."""
        search = CtfSearch(phase_shift_deg=None if self._phase_plate else 0.0)
        for defocus, astigmatism, number in drawn:
            taken = self._take(defocus, astigmatism, number)
            try:
                fit = estimate_ctf(
                    taken.image, pixel_size_angst=self._pixel, search=search, **_lens()
                )
            except CtfNotFound:
                yield None
                continue
            yield _case(fit.ctf, taken, has_phase=self._phase_plate)

    def _take(
        self, defocus: float, astigmatism: float, number: int
    ) -> SimulatedMicrograph:
        shape = (self._side, self._side)
        recipe = Recipe(
            shape=shape,
            pixel_size_angst=self._pixel,
            microscope=MICROSCOPE,
            species=self._mixture.species,
            particle_count=self._mixture.dense_count(shape, self._pixel),
            defocus_range_angst=(defocus, defocus),
            astigmatism_range_angst=(astigmatism, astigmatism),
            phase_shift_range_deg=(0.0, 180.0) if self._phase_plate else (0.0, 0.0),
        )
        return simulate_micrograph(
            recipe, self._projectors, number=number + 1, seed=round(defocus)
        )


def _box_px(pixel: float) -> int:
    return 2 * math.ceil(400.0 / pixel / 2)


def _lens() -> dict[str, Any]:
    return {
        "voltage_kv": MICROSCOPE.voltage_kv,
        "spherical_aberration_mm": MICROSCOPE.spherical_aberration_mm,
        "amplitude_contrast": MICROSCOPE.amplitude_contrast,
    }


def _case(ctf: Ctf, taken: SimulatedMicrograph, *, has_phase: bool) -> Case:
    """Compare with the truth: the mean height of what scatters is less underfocus."""
    true = taken.exposure.optics
    astigmatism = true.defocus_u_angst - true.defocus_v_angst
    heights = taken.exposure.particles.z_angst
    rise = float(np.mean(heights)) if len(heights) else 0.0
    u, v = true.defocus_u_angst - rise, true.defocus_v_angst - rise
    error = {
        "mean": ctf.defocus_angst - (u + v) / 2,
        "U": ctf.defocus_u_angst - u,
        "V": ctf.defocus_v_angst - v,
        "astig": ctf.astigmatism_angst - astigmatism,
    }
    if astigmatism > ANGLE_FROM_ANGST:
        error["angle"] = half_turn(ctf.defocus_angle_deg - true.defocus_angle_deg)
    if has_phase:
        error["phase"] = half_turn(ctf.phase_shift_deg - true.phase_shift_deg)
    stated = {
        "mean": ctf.defocus_error_angst,
        "U": ctf.defocus_u_error_angst,
        "V": ctf.defocus_v_error_angst,
        "angle": ctf.defocus_angle_error_deg,
        "phase": ctf.phase_shift_error_deg,
    }
    return Case(
        defocus_angst=true.defocus_angst,
        astigmatism_angst=astigmatism,
        error=error,
        sigma={name: one for name, one in stated.items() if one is not None},
    )


def half_turn(difference_deg: float) -> float:
    return (difference_deg + 90) % 180 - 90


def rms(values: Sequence[float]) -> float | None:
    return math.sqrt(float(np.mean(np.square(values)))) if values else None


def median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def timed(work: Any) -> float:  # noqa: ANN401 - any callable
    taken = []
    for _ in range(7):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return float(np.median(taken))


def told(words: str) -> None:
    print(f"\r{words}   ", end="", file=sys.stderr, flush=True)


def table(rows: Sequence[dict[str, Any]]) -> str:
    def shown(value: object) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value or "")

    names = list(rows[0])
    lines = [names, *([shown(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    return "\n" + "\n".join(
        "  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True))
        for line in lines
    )


if __name__ == "__main__":
    main()
