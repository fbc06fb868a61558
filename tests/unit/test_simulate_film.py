"""Carbon, gold and dirt scatter and lie where their truth says."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch

from icestream.domain.errors import BadSettings
from icestream.simulate.film import (
    ContaminantKind,
    FilmEdge,
    Layer,
    carbon_film,
    combine_layers,
    contaminant,
    edge_distance_angst,
)
from icestream.simulate.gold import gold_foil
from icestream.simulate.ice import (
    ICE_POTENTIAL_VOLT,
    ice_phase_power,
    radial_frequency,
)
from icestream.simulate.scattering import atom_volt_angst3

SHAPE = (256, 300)
COVERING = FilmEdge(angle_deg=0.0, distance_angst=-1e5)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def carbon(edge: FilmEdge, **values: Any) -> Layer:
    defaults: dict[str, Any] = {
        "pixel_size_angst": 1.0,
        "voltage_kv": 300.0,
        "generator": generator(),
    }
    return carbon_film(SHAPE, edge, **(defaults | values))


def dirt(kind: ContaminantKind, **values: Any) -> Layer:
    defaults: dict[str, Any] = {
        "centre_px": (120.0, 170.0),
        "diameter_angst": 400.0,
        "pixel_size_angst": 4.0,
        "voltage_kv": 300.0,
        "generator": generator(),
    }
    return contaminant(kind, SHAPE, **(defaults | values))


def test_a_straight_edge_lies_where_it_should() -> None:
    edge = FilmEdge(angle_deg=90.0, distance_angst=50.0, roughness_angst=0.0)
    depth = edge_distance_angst(
        SHAPE, edge, pixel_size_angst=2.0, generator=generator()
    )
    # +y is down: 50 Å below the middle row 127.5.
    torch.testing.assert_close(depth[:, 7], (torch.arange(256) - 127.5) * 2 - 50)


def test_a_hole_s_edge_is_curved() -> None:
    edge = FilmEdge(
        angle_deg=0.0,
        distance_angst=100.0,
        hole_radius_angst=500.0,
        roughness_angst=0.0,
    )
    depth = edge_distance_angst(
        (255, 301), edge, pixel_size_angst=4.0, generator=generator()
    )
    assert float(depth[127, 175]) == pytest.approx(0, abs=1e-3)
    assert float(depth[127, 200]) == pytest.approx(100, abs=1e-3)
    assert float(depth[127, 50]) < -490
    # On the circle, 60 degrees up from its centre at x = -400 Å.
    y, x = 127 + 500 * math.sin(math.pi / 3) / 4, 150 + (-400 + 250) / 4
    assert abs(float(depth[round(y), round(x)])) < 3


def test_a_rough_edge_strays_by_its_roughness() -> None:
    even, rough = (
        edge_distance_angst(
            (256, 256),
            FilmEdge(angle_deg=0.0, distance_angst=0.0, roughness_angst=r),
            pixel_size_angst=20.0,
            generator=generator(),
        )
        for r in (0.0, 10.0)
    )
    assert 5 < float((rough - even).std()) < 10


def test_carbon_is_a_stronger_scatterer_than_ice() -> None:
    film = carbon(COVERING)
    assert film.mask.all()
    # 6.526e-4 x 9.09 V x 150 Å.
    assert float(film.phase_rad.mean()) == pytest.approx(0.890, abs=0.002)
    assert float(film.transmission.mean()) == pytest.approx(math.exp(-150 / 1800))
    slow = carbon(COVERING, voltage_kv=100.0)
    assert float(slow.transmission.mean()) == pytest.approx(
        math.exp(-150 / 1800 * 0.603 / 0.3005), rel=1e-3
    )

    power = torch.fft.rfft2(film.phase_rad).abs().square() / film.phase_rad.numel()
    g = radial_frequency(SHAPE, 1.0)
    ring = (g > 0.05) & (g < 0.2)
    ice = ice_phase_power(g[ring], thickness_angst=300.0, voltage_kv=300.0)
    assert float(power[ring].mean()) > 3 * float(ice.mean())


def test_carbon_has_the_atoms_of_its_density() -> None:
    """At 1 Å order is over: the power is that of atoms anywhere, 1.75 g/cm3."""
    shape = (512, 512)
    film = carbon_film(
        shape,
        COVERING,
        pixel_size_angst=0.3,
        voltage_kv=300.0,
        thickness_angst=150.0,
        generator=generator(),
    )
    power = torch.fft.rfft2(film.phase_rad).abs().square() / 512**2 * 0.3**2
    g = radial_frequency(shape, 0.3)
    ring = (g > 1.2) & (g < 1.3)
    atom = 6.526e-4 * atom_volt_angst3(6, g[ring])
    atoms_per_angst2 = 150 * 1.75 * 0.60221 / 12.011
    expected = atoms_per_angst2 * float(atom.square().mean())
    assert float(power[ring].mean()) == pytest.approx(expected, rel=0.06)


def test_twice_the_carbon_has_twice_the_power() -> None:
    thin, thick = (carbon(COVERING, thickness_angst=t) for t in (100.0, 200.0))
    ratio = thick.phase_rad.var() / thin.phase_rad.var()
    assert float(ratio) == pytest.approx(2, rel=1e-3)


def test_carbon_ends_at_its_edge() -> None:
    film = carbon(FilmEdge(angle_deg=0.0, distance_angst=0.0))
    assert not film.mask[:, :100].any()
    assert film.mask[:, 200:].all()
    assert float(film.phase_rad[:, :80].abs().max()) < 1e-3
    assert float(film.transmission[:, :80].min()) > 0.9999


def test_gold_is_opaque() -> None:
    film = gold_foil(
        SHAPE,
        FilmEdge(angle_deg=180.0, distance_angst=0.0),
        pixel_size_angst=2.0,
        generator=generator(),
    )
    assert film.mask[:, :80].all()
    assert 0.01 < float(film.transmission[:, :80].mean()) < 0.05
    assert float(film.transmission[:, 220:].min()) > 0.999
    assert not film.phase_rad.any()


def test_gold_shows_its_lattice_where_it_lets_through() -> None:
    """Rings of 2.35 and 2.04 Å, and what two beams can make of them at most."""
    side, pixel = 2560, 0.95
    foil = gold_foil(
        (side, side), COVERING, pixel_size_angst=pixel, generator=generator()
    )
    assert 0.2 < float(foil.phase_rad.abs().max()) <= 0.5
    seen = foil.transmission * foil.phase_rad
    power = torch.fft.rfft2(seen).abs().square()
    g = radial_frequency((side, side), pixel)
    rings = [
        float(power[(g - 1 / spacing).abs() < 0.012].sum() / power.sum())
        for spacing in (2.355, 2.039)
    ]
    assert min(rings) > 0.1
    assert sum(rings) > 0.9
    # In some grains only: 6 of 100, each with half a square and random strength.
    assert 0.02 < float((foil.phase_rad.abs() > 0.01).float().mean()) < 0.12


def test_a_clump_takes_what_protein_takes_more_than_its_ice() -> None:
    clump = dirt("aggregate")
    loss = -clump.transmission.log()
    smooth = torch.nn.functional.avg_pool2d(clump.phase_rad[None], 9, 1, 4)[0]
    deep = loss > 0.5 * loss.max()
    # Of 3.48 V over ice and 0.114 per 1000 Å beyond ice's loss, both by thickness.
    ratio = float(smooth[deep].mean() / loss[deep].mean())
    assert ratio == pytest.approx(6.526e-4 * 3.48 / (1 / 2500 - 1 / 3500), rel=0.1)


def test_crystals_lie_on_the_ice() -> None:
    crystal = dirt("hexagonal_ice")
    deep = crystal.transmission < 0.9
    ratio = crystal.phase_rad[deep] / -crystal.transmission[deep].log()
    # 4.57 V at 0.94 g/cm3 is 4.46 V at that of crystals.
    expected = 6.526e-4 * ICE_POTENTIAL_VOLT * 0.917 / 0.94 * 900
    assert float(ratio.mean()) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("kind", get_args(ContaminantKind))
def test_dirt_lies_where_its_mask_says(kind: ContaminantKind) -> None:
    layer = dirt(kind)

    y, x = torch.nonzero(layer.mask, as_tuple=True)
    assert float(y.float().mean()) == pytest.approx(120, abs=15)
    assert float(x.float().mean()) == pytest.approx(170, abs=15)
    diameter_angst = 4 * 2 * math.sqrt(len(y) / math.pi)
    assert 200 < diameter_angst < 450
    # A clump takes little more than the ice in its place.
    most = 0.995 if kind == "aggregate" else 0.98
    assert float(layer.transmission[layer.mask].mean()) < most
    assert float(layer.transmission.max()) == 1
    assert float(layer.transmission.min()) > 0
    outside = layer.phase_rad[~layer.mask].abs().mean()
    assert float(outside) < 0.05 * float(layer.phase_rad[layer.mask].mean())


def test_crystals_are_darker_than_ethane_and_have_corners() -> None:
    crystal, drop = dirt("hexagonal_ice"), dirt("ethane")
    assert float(crystal.transmission.min()) < float(drop.transmission.min()) - 0.05

    def radii(layer: Layer) -> torch.Tensor:
        y, x = torch.nonzero(layer.mask, as_tuple=True)
        angle = torch.atan2(y - 120.0, x - 170.0)
        radius = torch.hypot(y - 120.0, x - 170.0)
        sectors = ((angle + math.pi) / (2 * math.pi) * 72).long().clamp(max=71)
        return torch.stack([radius[sectors == i].max() for i in range(72)])

    assert float(radii(drop).std() / radii(drop).mean()) < 0.02
    # The outline of a hexagon has six maxima around.
    tones = torch.fft.rfft(radii(crystal)).abs()[1:13]
    assert int(tones.argmax()) + 1 == 6


def test_dirt_outside_leaves_the_image_alone() -> None:
    layer = dirt("aggregate", centre_px=(-500.0, 170.0))
    assert not layer.mask.any()
    assert not layer.phase_rad.any()
    half = dirt("cubic_ice", centre_px=(0.0, 170.0))
    assert half.mask[0, 170]


def test_layers_add() -> None:
    one, other = dirt("ethane"), dirt("ethane", centre_px=(60.0, 60.0))
    both = combine_layers([one, other])

    assert torch.equal(both.mask, one.mask | other.mask)
    torch.testing.assert_close(both.phase_rad, one.phase_rad + other.phase_rad)
    torch.testing.assert_close(both.transmission, one.transmission * other.transmission)
    with pytest.raises(BadSettings, match="No layer"):
        combine_layers([])


def test_layers_come_from_their_generator() -> None:
    for kind in get_args(ContaminantKind):
        assert torch.equal(dirt(kind).phase_rad, dirt(kind).phase_rad)
    first, other = (carbon(COVERING, generator=generator(s)) for s in (1, 2))
    assert not torch.equal(first.phase_rad, other.phase_rad)


def test_films_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadSettings, match="cannot be"):
        FilmEdge(angle_deg=0.0, distance_angst=0.0, hole_radius_angst=-1.0)
    with pytest.raises(BadSettings, match="contaminant"):
        dirt("ethane", diameter_angst=0.0)
