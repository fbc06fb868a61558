"""Spectra without an image: the engine finds the defocus that made them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from icestream.cli import main
from icestream.domain.errors import BadSettings
from icestream.engines.ctf import (
    CtfSearch,
    estimate_ctf_of_spectrum,
)
from icestream.engines.ctf.spectrum import power_spectra
from icestream.io import write_mrc
from icestream.simulate.camera import take_frames, take_micrograph
from icestream.simulate.compose import compose_scene
from icestream.simulate.detector import CountingResponse
from icestream.simulate.optics import Microscope, Optics
from icestream.simulate.spectra import simulate_spectrum
from microscope import (
    CAGE,
    camera,
    exposure,
    projector,
    radial_power,
    recipe,
    ring_frequencies,
    seeded,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

MICROSCOPE = Microscope()
ENGINE: dict[str, Any] = {
    "voltage_kv": 300.0,
    "spherical_aberration_mm": 2.7,
    "amplitude_contrast": 0.07,
}


def spectrum(optics: Optics, seed: int = 1, **values: Any) -> Tensor:
    defaults: dict[str, Any] = {"pixel_size_angst": 1.4, "microscope": MICROSCOPE}
    return simulate_spectrum(optics, **(defaults | values), generator=seeded(seed))


@pytest.mark.parametrize(
    ("defocus_angst", "astigmatism_angst", "angle_deg", "phase_shift_deg"),
    [
        (8_000, 100, 20, 0),
        (12_000, 300, 35, 0),
        (20_000, 600, 120, 0),
        (9_000, 200, 75, 60),
    ],
)
def test_the_engine_finds_the_defocus(
    defocus_angst: float,
    astigmatism_angst: float,
    angle_deg: float,
    phase_shift_deg: float,
) -> None:
    optics = Optics(
        defocus_u_angst=defocus_angst + astigmatism_angst / 2,
        defocus_v_angst=defocus_angst - astigmatism_angst / 2,
        defocus_angle_deg=angle_deg,
        phase_shift_deg=phase_shift_deg,
    )
    found = estimate_ctf_of_spectrum(
        spectrum(optics),
        pixel_size_angst=1.4,
        search=CtfSearch(phase_shift_deg=phase_shift_deg),
        **ENGINE,
    ).ctf
    for name in ("defocus_u_angst", "defocus_v_angst"):
        assert getattr(found, name) == pytest.approx(getattr(optics, name), abs=40)
    away = (found.defocus_angle_deg - angle_deg + 90) % 180 - 90
    assert abs(away) < 15 * 100 / astigmatism_angst


def test_a_spectrum_is_that_of_a_micrograph() -> None:
    """Powers agree with an image's, ring by ring: ice alone, at rest."""
    how = recipe(1024, frame_count=2, pixel_size_angst=1.4)
    optics = Optics(defocus_u_angst=12_000, defocus_v_angst=12_000)
    one = exposure(
        how,
        optics=optics,
        thickness_angst=600.0,
        meniscus_angst=0.0,
        wedge_angst=(0.0, 0.0),
    )
    response = CountingResponse()
    runs = []
    for seed in range(4):
        generator = seeded(seed)
        scene = compose_scene(one, how, [], generator=generator)
        image = take_micrograph(
            scene, one, how, camera(response=response), generator=generator
        )
        runs.append(radial_power(image, 48) / image.mean())
    seen = torch.stack(runs).mean(0)

    power = spectrum(
        optics, box_px=512, thickness_angst=600.0, protein_angst=0.0, tile_count=100_000
    )
    line = torch.fft.fftshift(torch.fft.fftfreq(512))
    number = (torch.hypot(line[:, None], line) * 96).long()
    expected = torch.stack([power[number == n].mean() for n in range(48)])
    g = ring_frequencies(1.4, 48)
    expected -= 1 / (1 + (g / 0.03).square())  # the background, which the image lacks
    assert float(expected.max()) > 1.15
    # Four standard deviations of a ring, as four images measure it.
    error = 0.22 / torch.arange(1, 49).sqrt()
    assert ((seen - expected)[2:].abs() < error[2:] * expected[2:]).all()


def test_noise_falls_with_tiles_and_is_symmetric() -> None:
    optics = Optics(defocus_u_angst=10_000, defocus_v_angst=10_000)
    clean = spectrum(optics, tile_count=10_000_000, box_px=256)
    for tiles in (3, 100):
        noisy = spectrum(optics, tile_count=tiles, box_px=256)
        assert torch.equal(noisy[1:, 1:], noisy[1:, 1:].flip(0, 1))
        ratio = noisy / clean
        assert float(ratio.mean()) == pytest.approx(1, abs=0.01)
        assert float(ratio.std()) == pytest.approx(tiles**-0.5, rel=0.03)
    assert torch.equal(spectrum(optics, 4), spectrum(optics, 4))
    assert not torch.equal(spectrum(optics, 4), spectrum(optics, 5))


@pytest.mark.parametrize(
    "values", [{"box_px": 255}, {"tile_count": 0}, {"dose_e_per_angst2": 0.0}]
)
def test_nonsense_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(BadSettings, match="cannot be"):
        spectrum(Optics(defocus_u_angst=9_000, defocus_v_angst=9_000), **values)


def centred(half: Tensor) -> Tensor:
    """Return the whole of a spectrum in the layout of rfft2."""
    mirror = (-torch.arange(len(half))) % len(half)
    whole = torch.cat([half, half[mirror, 1:-1].flip(1)], dim=1)
    shifted: Tensor = torch.fft.fftshift(whole)
    return shifted


def test_thon_rings_of_protein_in_ice_reach_4_angst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 µm, 300 Å of ice with protein, 40 e/Å2, 0.9 Å/px; nothing is tuned to pass.

    Rings about 4 Å come from water, those between 10 and 5 Å from protein: plain ice
    has little structure there. Smaller images may end there by the noise of their
    tiles: one fit of fourteen did at 2560 px.
    """
    how = recipe(
        4096,
        pixel_size_angst=0.9,
        frame_count=8,
        dose_e_per_angst2=40.0,
        species=(CAGE,),
        particle_count=700,
        ice_range_angst=(300.0, 300.0),
    )
    optics = Optics(
        defocus_u_angst=20_150, defocus_v_angst=19_850, defocus_angle_deg=30
    )
    one = exposure(
        how,
        optics=optics,
        wedge_angst=(0.0, 0.0),
        meniscus_angst=0.0,
        contaminants=(),
    )
    draw = seeded(1)
    scene = compose_scene(one, how, [projector("cage", 0.9)], generator=draw)
    usual = camera(response=CountingResponse())
    total, groups = torch.zeros(how.shape), []
    for frame in take_frames(scene, one, how, usual, generator=draw):
        total += frame
        groups.append(power_spectra(frame, pixel_size_angst=0.9))
    mean = torch.stack([group.mean for group in groups]).mean(dim=0)
    files = {
        "sum.mrc": (total, 0.9, ()),
        "groups.mrc": (
            centred(mean),
            groups[0].pixel_size_angst,
            ("--power-spectrum",),
        ),
    }
    for name, (image, pixel_angst, options) in files.items():
        path = tmp_path / name
        write_mrc(path, image.numpy(), pixel_size_angst=pixel_angst, dtype=np.float32)
        given = f"--pixel-size-angst {pixel_angst} --voltage-kv 300 --json"
        with pytest.raises(SystemExit) as end:
            main(
                [
                    "ctf",
                    str(path),
                    *given.split(),
                    *options,
                    "--amplitude-contrast",
                    "0.07",
                ]
            )
        assert not end.value.code
        (fit,) = json.loads(capsys.readouterr().out)
        assert fit["resolution_angst"] < 4.0
        assert fit["defocus_u_angst"] == pytest.approx(20_150, abs=100)
        assert fit["defocus_v_angst"] == pytest.approx(19_850, abs=100)
