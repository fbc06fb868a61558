from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from icestream.domain.errors import BadSettings, UnreadableFile
from icestream.simulate.atoms import Atoms, read_structure
from icestream.simulate.potential import potential_volume

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "CRYST1   90.000   90.000   90.000  90.00  90.00  90.00 P 1           1\n"
TWO_COPIES = (
    "REMARK 350 BIOMOLECULE: 1\n"
    "REMARK 350 AUTHOR DETERMINED BIOLOGICAL UNIT: DIMERIC\n"
    "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A\n"
    "REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000\n"
    "REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000\n"
    "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000\n"
    "REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000       40.00000\n"
    "REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000        0.00000\n"
    "REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000\n"
)


def line(number: int, name: str, residue: str, xyz: tuple[float, ...], b: float) -> str:
    x, y, z = xyz
    return (
        f"ATOM  {number:5d}  {name:<3} {residue} A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
        f"  1.00{b:6.2f}          {name[0]:>2}\n"
    )


BODY = (
    line(1, "N", "ALA", (1.0, 2.0, 3.0), 11)
    + line(2, "CA", "ALA", (2.4, 2.0, 3.0), 12)
    + line(3, "O", "ALA", (3.0, 4.0, 3.0), 13)
    + line(4, "H", "ALA", (0.5, 2.0, 3.0), 14)
    + line(5, "O", "HOH", (9.0, 9.0, 9.0), 50)
)


def test_hydrogens_and_water_are_left_out_and_atoms_centred(tmp_path: Path) -> None:
    path = tmp_path / "one.pdb"
    path.write_text(HEAD + BODY + "END\n")
    atoms = read_structure(path)
    assert atoms.element.tolist() == [7, 6, 8]
    np.testing.assert_allclose(atoms.b_factor_angst2, [11, 12, 13])
    # The one hydrogen of the file does not count: others ride in its stead.
    assert atoms.mass_da == pytest.approx(
        14.007 + 12.011 + 15.999 + (1.18 + 1.22 + 0.10) * 1.008, abs=0.01
    )
    centroid = (atoms.xyz_angst * atoms.element[:, None]).sum(axis=0)
    np.testing.assert_allclose(centroid, 0, atol=1e-4)
    np.testing.assert_allclose(
        atoms.xyz_angst[1] - atoms.xyz_angst[0], [1.4, 0, 0], atol=1e-5
    )


def test_a_file_with_hydrogens_scatters_as_one_without(tmp_path: Path) -> None:
    found = []
    for name, body in (("with", BODY), ("without", BODY.replace(BODY[243:324], ""))):
        path = tmp_path / f"{name}.pdb"
        path.write_text(HEAD + body + "END\n")
        found.append(
            potential_volume(read_structure(path), box_px=16, pixel_size_angst=1.0)
        )
    assert " H " in BODY[243:324]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


def test_the_first_assembly_is_taken_also_from_a_compressed_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "two.pdb.gz"
    path.write_bytes(gzip.compress((TWO_COPIES + HEAD + BODY + "END\n").encode()))
    atoms = read_structure(path)
    assert len(atoms) == 6
    # The second copy is turned by 180 degrees about a line along z.
    turned = atoms.xyz_angst * [-1, -1, 1]
    np.testing.assert_allclose(turned[3:], atoms.xyz_angst[:3], atol=1e-3)


def test_mmcif_is_read(tmp_path: Path) -> None:
    names = "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id"
    names += " label_asym_id label_seq_id Cartn_x Cartn_y Cartn_z occupancy"
    names += " B_iso_or_equiv auth_seq_id auth_asym_id"
    head = "data_x\nloop_\n" + "".join(f"_atom_site.{n}\n" for n in names.split())
    path = tmp_path / "x.cif"
    first = "ATOM 1 S SG . CYS A 1 1 2 3 1 20 1 A\n"
    path.write_text(f"{head}{first}ATOM 2 C CB . CYS A 1 1 2 5 1 21 1 A\n")
    atoms = read_structure(path)
    assert atoms.element.tolist() == [16, 6]
    assert float(np.ptp(atoms.xyz_angst[:, 2])) == pytest.approx(2)


def mmcif(*places: str) -> str:
    """Make a model of one carbon atom at each place."""
    names = "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id"
    names += " label_asym_id label_seq_id Cartn_x Cartn_y Cartn_z occupancy"
    names += " B_iso_or_equiv auth_seq_id auth_asym_id"
    head = "data_x\nloop_\n" + "".join(f"_atom_site.{n}\n" for n in names.split())
    return head + "".join(
        f"ATOM {n} C CA . ALA A {n} {place} 1 20 {n} A\n"
        for n, place in enumerate(places, 1)
    )


@pytest.mark.parametrize("far", ["1e30", "-1e7", "nan", "1e300"])
def test_atoms_at_the_end_of_the_world_are_refused(tmp_path: Path, far: str) -> None:
    path = tmp_path / "far.cif"
    path.write_text(mmcif("0 0 0", f"0 {far} 0"))
    with pytest.raises(UnreadableFile, match=r"far\.cif .* whose place cannot be"):
        read_structure(path)


@pytest.mark.parametrize("text", ["", HEAD + "END\n", "no structure\n"])
def test_a_file_without_atoms_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.pdb"
    path.write_text(text)
    with pytest.raises(UnreadableFile, match=r"empty\.pdb"):
        read_structure(path)


@pytest.mark.parametrize("name", ["gone.cif", "gone.pdb.gz"])
def test_an_absent_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableFile, match="gone"):
        read_structure(tmp_path / name)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.cif.gz"
    path.write_bytes(gzip.compress(b"data_x\nloop_\n" * 999)[:60])
    with pytest.raises(UnreadableFile, match=r"cut\.cif"):
        read_structure(path)


@pytest.mark.parametrize(
    "change",
    [
        {"element": np.array([1, 6], np.uint8)},
        {"element": np.array([6], np.uint8)},
        {"b_factor_angst2": np.array([-1, 0], np.float32)},
        {"xyz_angst": np.full((2, 3), np.nan, np.float32)},
    ],
)
def test_nonsense_is_refused(change: dict[str, np.ndarray]) -> None:
    values = {
        "xyz_angst": np.zeros((2, 3), np.float32),
        "element": np.array([6, 7], np.uint8),
        "b_factor_angst2": np.zeros(2, np.float32),
    }
    with pytest.raises(BadSettings):
        Atoms(**(values | change))  # type: ignore[arg-type]
