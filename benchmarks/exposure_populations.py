"""How many bad exposures pass the default limits, how many good ones are rejected.

Small exposures of each kind are simulated, so what is good and what is bad is known;
tests/exposure_scene.py says how. Each goes through CTF, mask and quality, and then
through the gate with its default limits, past the exposures of a new setup that the
gate spares. A wrong one is an accepted CTF that is off the truth by more than 5
standard errors and 3 %.

    PYTHONPATH=tests python benchmarks/exposure_populations.py [--count 500] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from exposure_scene import (
    DOSE_E_PER_ANGST2,
    KINDS,
    PIXEL_SIZE_ANGST,
    Population,
    fitted,
)
from icestream.domain.errors import CtfNotFound
from icestream.domain.quality import MaskClass
from icestream.domain.table import Table
from icestream.engines.quality import ice_order, mask_micrograph, measure_intensity
from icestream.protocols.curate_exposures import (
    CurateExposures,
    CurateExposuresParams,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from exposure_scene import Kind, TakenExposure

    Numbers = Mapping[str, float]

PAST_SPARED = 10_000
WRONG_SIGMAS, WRONG_SHARE = 5.0, 0.03
NO_CTF, ACCEPTED = "CtfNotFound", "accepted"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    population = Population()
    found = {kind: judged_kind(population, kind, given.count) for kind in given.kinds}
    if given.json:
        print(json.dumps(found))
        return
    print("kind            count  passed  wrong  rejected by")
    for kind, one in found.items():
        rules = ", ".join(f"{rule} {n}" for rule, n in one["rejected"].items())
        print(f"{kind:14}{one['count']:>7}{one['passed']:>8}{one['wrong']:>7}  {rules}")


def judged_kind(population: Population, kind: Kind, count: int) -> dict[str, Any]:
    """Take, measure and judge so many of a kind."""
    taken, rows = [], []
    numbers = range(1, count + 1)
    bar = Console(stderr=True)
    for number in track(numbers, kind, console=bar, transient=True):
        one = population.take(kind, number)
        taken.append(one.optics)
        rows.append(measure(one))
    ends = judge(rows)
    rejected = Counter(end for end in ends if end != ACCEPTED)
    wrong = sum(
        end == ACCEPTED and optics is not None and is_wrong(row, optics.defocus_angst)
        for end, row, optics in zip(ends, rows, taken, strict=True)
    )
    return {
        "count": count,
        "passed": ends.count(ACCEPTED),
        "wrong": wrong,
        "rejected": dict(rejected.most_common()),
    }


def measure(taken: TakenExposure) -> Numbers:
    """Return what a gate would be given; no defocus where no CTF was found."""
    numbers = _quality(taken.image)
    try:
        ctf = fitted(taken.image)
    except CtfNotFound:
        return numbers
    return {**numbers, **_known(asdict(ctf))}


def judge(rows: Sequence[Numbers]) -> list[str]:
    """Return for each what rejects it, or that nothing does."""
    table = _table([{"pixel_size_angst": PIXEL_SIZE_ANGST, **row} for row in rows])
    gate = CurateExposures(CurateExposuresParams())
    return [
        (ACCEPTED if one.accepted else one.rule) if "score" in row else NO_CTF
        for row, one in zip(rows, gate.judge(table), strict=True)
    ]


def is_wrong(row: Numbers, defocus_angst: float) -> bool:
    """Tell whether a defocus is far off, beyond what its standard error says."""
    mean = (row["defocus_u_angst"] + row["defocus_v_angst"]) / 2
    error = math.hypot(row["defocus_u_error_angst"], row["defocus_v_error_angst"]) / 2
    limit = max(WRONG_SIGMAS * error, WRONG_SHARE * defocus_angst)
    return abs(mean - defocus_angst) > limit


def _quality(image: Tensor) -> dict[str, float]:
    mask = mask_micrograph(image, pixel_size_angst=PIXEL_SIZE_ANGST)
    light = measure_intensity(
        image, pixel_size_angst=PIXEL_SIZE_ANGST, classes=mask.classes
    )
    order = ice_order(image, pixel_size_angst=PIXEL_SIZE_ANGST, classes=mask.classes)
    usual = DOSE_E_PER_ANGST2 * PIXEL_SIZE_ANGST**2
    found = {
        "mean_intensity": light.mean,
        "masked_fraction": 1 - mask.fraction(MaskClass.GOOD),
        "ice_thickness_relative": math.log(usual / light.mean),
    }
    if order is not None:
        found |= {
            "ice_ring_ratio": order.ring_ratio,
            "crystal_ratio": order.crystal_ratio,
        }
    return found


def _known(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(one) for name, one in values.items() if one is not None}


def _table(rows: Sequence[Numbers]) -> Table:
    names = sorted(set().union(*rows))
    count = len(rows)
    return Table(
        numbers={
            name: np.array([row.get(name, math.nan) for row in rows]) for name in names
        },
        words={},
        rank=np.full(count, PAST_SPARED),
        standing=np.full(count, -1, np.int8),
        asked=np.arange(count),
    )


if __name__ == "__main__":
    main()
