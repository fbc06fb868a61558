"""Write simulated particles as RELION reads them: a stack and its STAR file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from icestream.io import guarding_writes, write_mrc, write_star

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from icestream.simulate.particles import ParticleStack

__all__ = ["write_particles"]


def write_particles(folder: Path, stack: ParticleStack) -> Path:
    """Write ``particles.mrcs`` and ``particles.star`` with the true poses.

    Parameters
    ----------
    folder
        Where to; made if absent. RELION is to be started in it, as names in the STAR
        file count from there.
    stack
        As `simulate_particles` makes it.

    Returns
    -------
    Path
        The STAR file: RELION 3.1, with angles, origins, contrast transfer function, two
        random halves, and as ``rlnClassNumber`` the number of the component from 1.
        Its name and conformation are given as ``icestreamSpecies`` and
        ``icestreamState``, which RELION passes over.

    Raises
    ------
    DiskFull, FolderUnavailable
        The folder could not be written.
    """
    pixel_size_angst = stack.imaging.setup.pixel_size_angst
    with guarding_writes(folder):
        folder.mkdir(parents=True, exist_ok=True)
    images = folder / "particles.mrcs"
    write_mrc(
        images,
        stack.images,
        pixel_size_angst=pixel_size_angst,
        dtype=np.float32,
        is_stack=True,
    )
    path = folder / "particles.star"
    optics, particles = _optics(stack), _particles(stack, images.name)
    write_star(path, {"optics": optics, "particles": particles})
    return path


def _optics(stack: ParticleStack) -> dict[str, list[Any]]:
    setup = stack.imaging.setup
    return {
        "rlnOpticsGroup": [1],
        "rlnOpticsGroupName": [setup.name],
        "rlnVoltage": [float(setup.voltage_kv)],
        "rlnSphericalAberration": [float(setup.spherical_aberration_mm)],
        "rlnAmplitudeContrast": [float(setup.amplitude_contrast)],
        "rlnImagePixelSize": [float(setup.pixel_size_angst)],
        "rlnImageSize": [stack.images.shape[-1]],
        "rlnImageDimensionality": [2],
    }


def _particles(
    stack: ParticleStack, stack_name: str
) -> dict[str, list[Any] | NDArray[Any]]:
    truth = stack.truth
    count = len(truth.component)
    kinds = [stack.components[index] for index in truth.component]
    numbers = range(1, count + 1)
    return {
        "rlnImageName": [f"{number:06d}@{stack_name}" for number in numbers],
        "rlnMicrographName": [f"{one + 1:05d}.mrc" for one in truth.micrograph],
        "rlnOpticsGroup": np.ones(count, dtype=np.int64),
        "rlnAngleRot": truth.rot_deg,
        "rlnAngleTilt": truth.tilt_deg,
        "rlnAnglePsi": truth.psi_deg,
        "rlnOriginXAngst": truth.origin_x_angst,
        "rlnOriginYAngst": truth.origin_y_angst,
        "rlnDefocusU": truth.defocus_u_angst,
        "rlnDefocusV": truth.defocus_v_angst,
        "rlnDefocusAngle": truth.defocus_angle_deg,
        "rlnPhaseShift": np.zeros(count),
        "rlnRandomSubset": np.arange(count) % 2 + 1,
        "rlnClassNumber": truth.component + 1,
        "icestreamSpecies": [one.species for one in kinds],
        "icestreamState": [one.state for one in kinds],
    }
