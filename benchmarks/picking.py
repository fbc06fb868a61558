"""Picking of real apoferritin against manual centres, beside RELION where installed.

Both programs are told 110-140 Å. Picks are paired with centres one to one, as many as
can be, within half a diameter (43 px) and within 20 px (30 Å). Then images of pure
noise, in which every pick is false.

    python benchmarks/picking.py [DATA] [--noise-images 40] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import starfile
import torch

from icestream.domain import Coordinates
from icestream.engines.picking import match_coordinates, pick_particles
from icestream.io import read_micrograph, write_mrc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Picks = Mapping[str, Coordinates]

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "apoferritin_10146"
PIXEL_SIZE_ANGST = 1.5
DIAMETER_ANGST = (110.0, 140.0)
DISTANCES_PX = (43.0, 20.0)
NOISE_SHAPES_PX = ((512, 512), (1024, 1024), (1200, 1240))
NOISE_EXPONENTS = (0.0, 1.0, 2.0)  # of the fall of power with frequency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", type=Path, default=DATA)
    parser.add_argument("--noise-images", type=int, default=40, help="of each kind")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    given = parser.parse_args()
    centres = given.data / "centres_xy_px.json"
    if not centres.is_file():
        sys.exit(f"There is no {centres}: give the folder of the apoferritin images.")
    torch.set_num_threads(1)
    truth = {
        name: _coordinates(np.array(places))
        for name, places in json.loads(centres.read_text()).items()
    }
    images = {
        name: read_micrograph(given.data / f"{name}.bin_avg.png") for name in truth
    }
    found, seconds = run_icestream(images)
    results = {"icestream": _score(found, truth, seconds)}
    if shutil.which("relion_autopick"):
        found, seconds = run_relion(images)
        results["RELION LoG"] = _score(found, truth, seconds)
    noise = noise_picks(given.noise_images)
    if given.json:
        print(json.dumps({"apoferritin": results, "noise": noise}))
        return
    _print(results, noise)


def run_icestream(
    images: Mapping[str, NDArray[np.float32]],
) -> tuple[dict[str, Coordinates], float]:
    """Pick all images on one core; processor seconds of all."""
    tensors = {name: torch.from_numpy(image) for name, image in images.items()}
    _pick(next(iter(tensors.values())))
    start = time.process_time()
    found = {name: _pick(image) for name, image in tensors.items()}
    return found, time.process_time() - start


def run_relion(
    images: Mapping[str, NDArray[np.float32]],
) -> tuple[dict[str, Coordinates], float]:
    """Pick all images by RELION's Laplacian of Gaussian; processor seconds of all."""
    with tempfile.TemporaryDirectory(prefix="icestream-relion-") as name:
        folder = Path(name)
        for stem, image in images.items():
            path = folder / f"{stem}.mrc"
            write_mrc(path, image, pixel_size_angst=PIXEL_SIZE_ANGST, dtype="float32")
        low, high = (f"{value:g}" for value in DIAMETER_ANGST)
        command = ["relion_autopick", "--i", "*.mrc", "--odir", "picks/", "--LoG"]
        command += ["--LoG_diam_min", low, "--LoG_diam_max", high]
        command += ["--LoG_adjust_threshold", "-1", "--pickname", "log"]
        command += ["--angpix", f"{PIXEL_SIZE_ANGST:g}"]
        before = os.times()
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        after = os.times()
        seconds = after.children_user - before.children_user
        seconds += after.children_system - before.children_system
        found = {
            stem: _coordinates(_relion_places(folder / "picks" / f"{stem}_log.star"))
            for stem in images
        }
    return found, seconds


def noise_picks(count: int) -> dict[str, float]:
    """Pick images of noise whose power falls as 1, 1/f and 1/f²."""
    generator = torch.Generator().manual_seed(0)
    picks = [
        len(_pick(_noise(shape, exponent, generator)))
        for shape in NOISE_SHAPES_PX
        for exponent in NOISE_EXPONENTS
        for _ in range(count)
    ]
    return {
        "images": len(picks),
        "mean_picks": float(np.mean(picks)) if picks else 0.0,
        "most_picks": max(picks, default=0),
    }


def _pick(image: torch.Tensor) -> Coordinates:
    return pick_particles(
        image, pixel_size_angst=PIXEL_SIZE_ANGST, diameter_angst=DIAMETER_ANGST
    )


def _noise(
    shape: tuple[int, int], exponent: float, generator: torch.Generator
) -> torch.Tensor:
    white = torch.randn(shape, generator=generator)
    y, x = torch.fft.fftfreq(shape[0]), torch.fft.rfftfreq(shape[1])
    frequency = torch.hypot(y[:, None], x).clamp_min(1 / max(shape))
    amplitude = frequency ** (-exponent / 2)
    coloured: torch.Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, shape)
    return coloured


def _relion_places(path: Path) -> NDArray[np.float64]:
    if not path.is_file():
        return np.empty((0, 2))
    table = starfile.read(path)
    places: NDArray[np.float64] = table[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()
    return places


def _coordinates(places_xy_px: NDArray[np.float64]) -> Coordinates:
    x_px, y_px = np.float32(places_xy_px.T).reshape(2, -1)
    same = np.ones_like(x_px)
    return Coordinates(x_px=x_px, y_px=y_px, score=same, diameter_angst=same)


def _score(found: Picks, truth: Picks, seconds: float) -> dict[str, float]:
    """Pool all images: one long list of pairs."""
    result = {"picks": float(sum(len(picks) for picks in found.values()))}
    centres = sum(len(places) for places in truth.values())
    for distance_px in DISTANCES_PX:
        errors_px = np.concatenate(
            [
                match_coordinates(
                    found[name], truth[name], max_distance_px=distance_px
                ).distance_px
                for name in truth
            ]
        )
        within = f"within_{distance_px:g}_px"
        result[f"precision_{within}"] = len(errors_px) / max(result["picks"], 1)
        result[f"recall_{within}"] = len(errors_px) / centres
        result[f"f1_{within}"] = 2 * len(errors_px) / (result["picks"] + centres)
        result[f"median_error_px_{within}"] = (
            float(np.median(errors_px)) if len(errors_px) else float("nan")
        )
    result["cpu_s_per_micrograph"] = seconds / len(truth)
    return result


def _print(
    results: Mapping[str, Mapping[str, float]], noise: Mapping[str, float]
) -> None:
    print(f"{'':32}" + "".join(f"{name:>14}" for name in results))
    for row in next(iter(results.values())):
        print(f"{row:32}" + "".join(f"{done[row]:14.3f}" for done in results.values()))
    if "RELION LoG" not in results:
        print("RELION is not installed: icestream only.")
    print("false picks in noise: " + ", ".join(f"{k} {v:g}" for k, v in noise.items()))


if __name__ == "__main__":
    main()
