"""Lay files out as EPU does: names, folders, and what stands beside each picture.

::

    <session>/
      EpuSession.dm
      Metadata/GridSquare_<square>.dm
      Images-Disc1/GridSquare_<square>/
        GridSquare_<date>_<time>.jpg, .xml
        FoilHoles/FoilHole_<hole>_<date>_<time>.jpg, .xml
        Data/FoilHole_<hole>_Data_<area>_<number>_<date>_<time>.jpg, .xml
                                                              _fractions.tiff | _EER.eer
    <atlas>/Sample<slot>/Atlas/
      Atlas.dm, Atlas_<id>.jpg, .xml
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icestream.io import guarding_writes, replacing
from icestream.simulate.instrument.epu_image import EpuImage, image_xml
from icestream.simulate.instrument.epu_session import (
    EpuSession,
    EpuSquare,
    atlas_dm,
    grid_square_dm,
    session_dm,
)
from icestream.simulate.instrument.thumbnail import write_jpeg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "exposure_name",
    "hole_image_name",
    "picture_path",
    "square_image_name",
    "write_atlas",
    "write_picture",
    "write_session",
    "write_square",
]

_DISC = "Images-Disc1"


def exposure_name(
    hole_id: int, area_id: int, number: int, *, taken_at: datetime
) -> str:
    """Return the name of an exposure without ending.

    Parameters
    ----------
    hole_id
        Of the foil hole.
    area_id
        Of the acquisition area within the hole's template: the same for all holes.
    number
        EPU's last number.
    taken_at
        In the time zone of the microscope's PC.
    """
    return f"FoilHole_{hole_id}_Data_{area_id}_{number}_{_stamp(taken_at)}"


def hole_image_name(hole_id: int, *, taken_at: datetime) -> str:
    """Return the name of a picture of a hole without ending."""
    return f"FoilHole_{hole_id}_{_stamp(taken_at)}"


def square_image_name(*, taken_at: datetime) -> str:
    """Return the name of a picture of a grid square without ending."""
    return f"GridSquare_{_stamp(taken_at)}"


def _stamp(taken_at: datetime) -> str:
    return taken_at.strftime("%Y%m%d_%H%M%S")


def picture_path(session_folder: Path, square_id: int, name: str) -> Path:
    """Return where a picture stands, without ending, by the kind of its name."""
    square = session_folder / _DISC / f"GridSquare_{square_id}"
    if name.startswith("GridSquare_"):
        return square / name
    return square / ("Data" if "_Data_" in name else "FoilHoles") / name


def write_picture(
    stem: Path, image: EpuImage, picture: NDArray[np.uint8]
) -> tuple[Path, Path]:
    """Write JPEG and XML of an exposure, a hole, a square or an atlas.

    Parameters
    ----------
    stem
        Path without ending, as `picture_path` returns it; its folder is made.
    image
        What the XML says.
    picture
        ``(h, w)``.

    Returns
    -------
    tuple of Path
        The JPEG and, written last, the XML.

    Raises
    ------
    DiskFull, FolderUnavailable
        A file could not be written.
    """
    jpeg, xml = stem.with_name(stem.name + ".jpg"), stem.with_name(stem.name + ".xml")
    _make_parent(stem)
    write_jpeg(jpeg, picture)
    _write(xml, image_xml(image, name=stem.name))
    return jpeg, xml


def write_square(session_folder: Path, square: EpuSquare, *, image_folder: str) -> Path:
    """Write ``Metadata/GridSquare_<id>.dm``; EPU renews it with each exposure.

    Parameters
    ----------
    session_folder
        Of the session.
    square
        The square and its holes.
    image_folder
        Windows path of ``Images-Disc1``.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be written.
    """
    path = session_folder / "Metadata" / f"GridSquare_{square.square_id}.dm"
    return _write(path, grid_square_dm(square, image_folder=image_folder))


def write_session(session_folder: Path, session: EpuSession) -> Path:
    """Write ``EpuSession.dm``.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be written.
    """
    return _write(session_folder / "EpuSession.dm", session_dm(session))


def write_atlas(
    sample_folder: Path,
    atlas_id: int,
    squares: Sequence[EpuSquare],
    *,
    image: EpuImage,
    picture: NDArray[np.uint8],
    storage_folder: str,
) -> Path:
    """Write ``Atlas/Atlas.dm`` and its picture.

    Parameters
    ----------
    sample_folder
        ``Sample<slot>`` of the atlas session.
    atlas_id
        As in ``Atlas_<id>.jpg``.
    squares
        Where they lie on the picture.
    image, picture
        Of the whole grid.
    storage_folder
        Windows path of the folder of the sample.

    Returns
    -------
    Path
        ``Atlas.dm``.

    Raises
    ------
    DiskFull, FolderUnavailable
        A file could not be written.
    """
    folder = sample_folder / "Atlas"
    write_picture(folder / f"Atlas_{atlas_id}", image, picture)
    content = atlas_dm(
        atlas_id,
        squares,
        taken_at=image.taken_at,
        storage_folder=storage_folder,
        shape=image.readout_shape,
    )
    return _write(folder / "Atlas.dm", content)


def _make_parent(path: Path) -> None:
    with guarding_writes(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def _write(path: Path, content: bytes) -> Path:
    _make_parent(path)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path
