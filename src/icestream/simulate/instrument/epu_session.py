"""The ``.dm`` files of EPU: the session, a grid square with its holes, the atlas.

They are what the .NET serialiser makes of EPU's objects: numbered by ``z:Id``, with
prefixes that some readers take literally. What is written here is what readers look at;
the hundreds of settings beside it are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from icestream.simulate.instrument.markup import NIL, Identities, element, text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = [
    "EpuHole",
    "EpuSession",
    "EpuSquare",
    "atlas_dm",
    "grid_square_dm",
    "session_dm",
]

_BASE = "http://schemas.datacontract.org/2004/07/"
_COMMON = _BASE + "Fei.Applications.Common.Types"
_PERSISTENCE = _BASE + "Applications.Epu.Persistence"
_ATLAS = _BASE + "Applications.SciencesAppsShared.GridAtlas.Persistence"
_ATLAS_MODEL = _BASE + "Applications.SciencesAppsShared.GridAtlas.Datamodel"
_GENERIC = _BASE + "System.Collections.Generic"
_DRAWING = _BASE + "System.Drawing"
_SHARED = _BASE + "Fei.SharedObjects"
_ARRAYS = "http://schemas.microsoft.com/2003/10/Serialization/Arrays"
_ROOT = {
    "xmlns:i": "http://www.w3.org/2001/XMLSchema-instance",
    "xmlns:z": "http://schemas.microsoft.com/2003/10/Serialization/",
}
_VERSION = "Version=3.9.1.8206, Culture=neutral, PublicKeyToken=null"
_HOLE_PAIR = "b:KeyValuePairOfintTargetLocationXmlBpEWF4JT"
_EXPOSURE_PAIR = "b:KeyValuePairOfintParticleAcquisitionDataXmlBpEWF4JT"
_SQUARE_PAIR = "b:KeyValuePairOfintSerializedReferenceOfGridSquareXml_PsqDC3X0m6koiAE_P"
_NODE_PAIR = "KeyValuePairOfintNodeXml30oatNZW"
_DISC = "Images-Disc1"
_SIDES = ("height", "width")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpuHole:
    """A foil hole on its grid square.

    Parameters
    ----------
    hole_id
        As in ``FoilHole_<id>``.
    stage_um
        x, y and z.
    centre_xy_px, diameter_px
        On the picture of the square.
    image_name
        Of the picture of the hole, without suffix; empty if there is none.
    exposures
        Names of the exposures, without suffix, in the order of taking.
    is_near_bar
        Whether it lies at a grid bar.
    """

    hole_id: int
    stage_um: tuple[float, float, float]
    centre_xy_px: tuple[float, float]
    diameter_px: float
    image_name: str = ""
    exposures: tuple[str, ...] = ()
    is_near_bar: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EpuSquare:
    """A grid square.

    Parameters
    ----------
    square_id
        As in ``GridSquare_<id>``.
    stage_um
        x, y and z.
    hole_spacing_um
        Between centres.
    image_name
        Of its picture, without suffix.
    atlas_xy_px, atlas_size_px
        Centre and side on the picture of the atlas.
    holes
        All found, imaged or not.
    is_selected
        Whether the operator chose it.
    """

    square_id: int
    stage_um: tuple[float, float, float]
    hole_spacing_um: float
    image_name: str = ""
    atlas_xy_px: tuple[float, float] = (0.0, 0.0)
    atlas_size_px: float = 0.0
    holes: tuple[EpuHole, ...] = ()
    is_selected: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EpuSession:
    """A session.

    Parameters
    ----------
    session_id
        A number of its own.
    name
        Of the session and of its folder.
    started_at
        With its offset from UTC.
    hole_size_um, hole_spacing_um
        Of the foil.
    storage_folder
        Windows path of the folder above the session's.
    atlas_path
        Windows path of ``Atlas.dm``.
    square_ids
        All squares of the grid that EPU knows.
    autoloader_slot
        1 to 12; EPU writes 0 to 11.
    cluster_radius_um
        Of an aberration-free image-shift cluster; ``None`` without.
    movie_format
        As EPU calls it.
    """

    session_id: int
    name: str
    started_at: datetime
    hole_size_um: float
    hole_spacing_um: float
    storage_folder: str = "Z:\\DoseFractions"
    atlas_path: str = ""
    square_ids: tuple[int, ...] = ()
    autoloader_slot: int = 1
    cluster_radius_um: float | None = 12.0
    movie_format: str = "Tiff Lzw Non-Gain normalized"


def session_dm(session: EpuSession) -> bytes:
    """Return the content of ``EpuSession.dm``."""
    ids = Identities()
    root = ids.next(
        Type="Applications.Epu.Persistence.EpuSessionXml",
        Assembly=f"Applications.Epu.Persistence, {_VERSION}",
    )
    is_clustered = session.cluster_radius_um is not None
    mode = "ClusteringWithImageBeamShift" if is_clustered else "NoClustering"
    return _document(
        "EpuSessionXml",
        _id(session.session_id),
        _value("AutoloaderSlot", session.autoloader_slot - 1),
        _value("ClusteringMode", mode),
        _value("ClusteringRadius", (session.cluster_radius_um or 0.0) * 1e-6),
        _object(ids, "DoseFractionsOutputFormat", text(session.movie_format)),
        _value("ImageFileFormat", "Mrc"),
        _object(ids, "Name", text(session.name)),
        _list(ids, "Samples", [_sample(ids, session)]),
        _value("StartDateTime", session.started_at.isoformat()),
        _list(
            ids,
            "StorageFolders",
            [
                element(
                    "StorageFolderXml",
                    _id(session.session_id + 1),
                    _value("DiscId", 1),
                    _object(ids, "Path", text(session.storage_folder)),
                    attributes=ids.next(),
                )
            ],
        ),
        _value("TiltedAcquisitionEnabled", value=False),
        attributes={"xmlns": _PERSISTENCE} | _ROOT | root,
    )


def grid_square_dm(square: EpuSquare, *, image_folder: str) -> bytes:
    """Return the content of ``Metadata/GridSquare_<id>.dm``.

    Parameters
    ----------
    square
        The square and its holes.
    image_folder
        Windows path of ``Images-Disc1``.
    """
    ids = Identities()
    root = ids.next(
        Type="Applications.Epu.Persistence.GridSquareXml",
        Assembly=f"Applications.Epu.Persistence, {_VERSION}",
    )
    folder = f"{image_folder}\\GridSquare_{square.square_id}"
    path = f"{folder}\\{square.image_name}.mrc" if square.image_name else ""
    return _document(
        "GridSquareXml",
        _id(square.square_id),
        _value("AtlasNodeId", square.square_id),
        _object(ids, "GridSquareImagePath", text(path)),
        _value("HoleSpacing", square.hole_spacing_um * 1e-6),
        _image(ids, square.image_name, "a"),
        _object(ids, "ImageFolderName", _DISC),
        _position("Position", square.stage_um, "a"),
        _value("Selected", square.is_selected),
        _value("State", "InProgress" if square.image_name else "None"),
        element(
            "TargetLocations",
            _value("GridSquareId", square.square_id),
            _holes(ids, square, folder),
            attributes=ids.next(
                Type="Applications.Epu.Persistence.FoilHoleCollectionXml",
                Assembly=f"Applications.Epu.Persistence, {_VERSION}",
            ),
        ),
        _value("Unusable", value=False),
        attributes={"xmlns": _PERSISTENCE} | _ROOT | root,
    )


def atlas_dm(
    atlas_id: int,
    squares: Sequence[EpuSquare],
    *,
    taken_at: datetime,
    storage_folder: str,
    shape: tuple[int, int],
) -> bytes:
    """Return the content of ``Atlas.dm``: one tile that holds all squares.

    Parameters
    ----------
    atlas_id
        As in ``Atlas_<id>.jpg``.
    squares
        Where they lie.
    taken_at
        With its offset from UTC.
    storage_folder
        Windows path of the folder of the sample.
    shape
        Rows and columns of the picture, px.
    """
    ids = Identities()
    root = ids.next(
        Type="Applications.SciencesAppsShared.GridAtlas.Persistence.AtlasSessionXml",
        Assembly=f"Applications.SciencesAppsShared.GridAtlas.Persistence, {_VERSION}",
    )
    tile = element(
        "TileXml",
        _id(atlas_id + 1),
        element(
            "AtlasPixelPosition",
            *(_value(f"a:{k}", v) for k, v in zip(_SIDES, shape, strict=True)),
            *(_value(f"a:{axis}", 0) for axis in "xy"),
            attributes={"xmlns:a": _DRAWING},
        ),
        element("Nodes", _nodes(ids, squares), attributes=ids.next()),
        attributes=ids.next(),
    )
    return _document(
        "AtlasSessionXml",
        _id(atlas_id),
        element(
            "Atlas",
            _id(atlas_id),
            _value("AcquisitionDateTime", taken_at.isoformat()),
            _image(ids, f"Atlas_{atlas_id}", "a", tag="AtlasImageReference"),
            _list(ids, "TilesEfficient", [tile]),
            attributes=ids.next(),
        ),
        _object(ids, "Name", "Atlas"),
        _value("StartDateTime", taken_at.isoformat()),
        _object(ids, "StorageFolder", text(storage_folder)),
        attributes={"xmlns": _ATLAS} | _ROOT | root,
    )


def _document(tag: str, *content: str, attributes: dict[str, str]) -> bytes:
    return element(tag, *content, attributes=attributes).encode()


def _value(tag: str, value: str | float | bool) -> str:
    return element(tag, text(value))


def _id(number: int) -> str:
    return element("Id", str(number), attributes={"xmlns": _COMMON})


def _object(ids: Identities, tag: str, content: str) -> str:
    return element(tag, content, attributes=ids.next() if content else NIL)


def _list(ids: Identities, tag: str, items: Sequence[str]) -> str:
    size = {"Size": str(len(items))}
    return element(
        tag,
        element("_items", *items, attributes=ids.next(**size)),
        _value("_size", len(items)),
        _value("_version", len(items)),
        attributes=ids.next(),
    )


def _image(ids: Identities, name: str, prefix: str, *, tag: str = "Image") -> str:
    return element(
        tag,
        _object(ids, f"{prefix}:BaseFileName", text(name)),
        _value(f"{prefix}:FileFormat", "Mrc"),
        attributes=ids.next() | {f"xmlns:{prefix}": _COMMON},
    )


def _position(tag: str, stage_um: tuple[float, float, float], prefix: str) -> str:
    metres = (value * 1e-6 for value in stage_um)
    places = zip("ABXYZ", (0, 0, *metres), strict=True)
    return element(
        tag,
        *(_value(f"{prefix}:{axis}", value) for axis, value in places),
        attributes={f"xmlns:{prefix}": _SHARED},
    )


def _pair(tag: str, key: int, *content: str, attributes: dict[str, str]) -> str:
    prefix = "b:" if tag.startswith("b:") else ""
    return element(
        tag,
        _value(f"{prefix}key", key),
        element(f"{prefix}value", *content, attributes=attributes),
        attributes={} if prefix else {"xmlns": _GENERIC},
    )


def _array(ids: Identities, tag: str, pairs: Sequence[str]) -> str:
    """Return a concurrent dictionary as .NET stores it."""
    return element(
        tag,
        _value("a:m_keyRehashCount", 0),
        element(
            "a:m_serializationArray",
            *pairs,
            attributes=ids.next(Size=str(len(pairs))) | {"xmlns:b": _GENERIC},
        ),
        _value("a:m_serializationCapacity", max(len(pairs), 31)),
        attributes=ids.next() | {"xmlns:a": _ARRAYS},
    )


def _sample(ids: Identities, session: EpuSession) -> str:
    squares = [
        _pair(
            _SQUARE_PAIR,
            number,
            _object(ids, "c:FileName", f"Metadata\\GridSquare_{number}.dm"),
            attributes=ids.next() | {"xmlns:c": _COMMON},
        )
        for number in session.square_ids
    ]
    return element(
        "SampleXml",
        _id(session.session_id + 2),
        _object(ids, "AtlasId", text(session.atlas_path)),
        element(
            "FilterHolesSettings",
            _value("HoleSize", session.hole_size_um * 1e-6),
            _value("HoleSpacing", session.hole_spacing_um * 1e-6),
            attributes=ids.next(),
        ),
        _value("GridGeometry", "Square"),
        _array(ids, "GridSquares", squares),
        _value("GridType", "HoleyCarbon"),
        attributes=ids.next(),
    )


def _holes(ids: Identities, square: EpuSquare, folder: str) -> str:
    pairs = [
        _pair(
            _HOLE_PAIR,
            hole.hole_id,
            *_hole(ids, hole, order, square.square_id, folder),
            attributes=ids.next(),
        )
        for order, hole in enumerate(square.holes)
    ]
    return _array(ids, "TargetLocationsEfficient", pairs)


def _hole(
    ids: Identities, hole: EpuHole, order: int, square_id: int, folder: str
) -> list[str]:
    path = f"{folder}\\FoilHoles\\{hole.image_name}.mrc" if hole.image_name else ""
    centre = zip("xy", hole.centre_xy_px, strict=True)
    drawing = {"xmlns:c": _DRAWING}
    return [
        _id(hole.hole_id),
        _object(ids, "FoilHoleImagePath", text(path)),
        _value("GridSquareId", square_id),
        _image(ids, hole.image_name, "c"),
        _value("IsNearGridBar", hole.is_near_bar),
        _value("Order", order),
        _exposures(ids, hole, square_id),
        element(
            "PixelCenter", *(_value(f"c:{k}", v) for k, v in centre), attributes=drawing
        ),
        element(
            "PixelWidthHeight",
            *(_value(f"c:{side}", hole.diameter_px) for side in _SIDES),
            attributes=drawing,
        ),
        _value("Selected", bool(hole.exposures)),
        _position("StagePosition", hole.stage_um, "c"),
        _value("State", "Completed" if hole.exposures else "None"),
    ]


def _exposures(ids: Identities, hole: EpuHole, square_id: int) -> str:
    pairs = [
        _pair(
            _EXPOSURE_PAIR,
            number,
            _value("c:DataAcquisitionAreaId", int(name.split("_")[3])),
            _value("c:GridSquareId", square_id),
            _image(ids, name, "d", tag="c:Image"),
            _value("c:TargetLocationId", hole.hole_id),
            attributes=ids.next() | {"xmlns:c": _PERSISTENCE},
        )
        for number, name in enumerate(hole.exposures, start=hole.hole_id + 1)
    ]
    size = ids.next(Size=str(len(pairs))) | {"xmlns": ""}
    return element(
        "ParticleAcquisitions",
        element("KeyValuePairs", *pairs, attributes=size),
        attributes=ids.next(),
    )


def _nodes(ids: Identities, squares: Sequence[EpuSquare]) -> str:
    pairs = [
        _pair(
            _NODE_PAIR,
            square.square_id,
            _id(square.square_id),
            _atlas_position(square),
            _position("b:StagePosition", square.stage_um, "c"),
            attributes=ids.next() | {"xmlns:b": _ATLAS},
        )
        for square in squares
    ]
    size = ids.next(Size=str(len(pairs))) | {"xmlns": ""}
    return element("KeyValuePairs", *pairs, attributes=size)


def _atlas_position(square: EpuSquare) -> str:
    def boxed(tag: str, names: Sequence[str], values: Sequence[float]) -> str:
        rows = zip(names, values, strict=True)
        content = (_value(f"d:{name}", value) for name, value in rows)
        return element(f"c:{tag}", *content, attributes={"xmlns:d": _DRAWING})

    return element(
        "b:PositionOnTheAtlas",
        boxed("Center", "xy", square.atlas_xy_px),
        boxed("Physical", "xy", [value * 1e-6 for value in square.stage_um[:2]]),
        _value("c:Rotation", 0),
        boxed("Size", _SIDES, [square.atlas_size_px] * 2),
        attributes={"xmlns:c": _ATLAS_MODEL},
    )
