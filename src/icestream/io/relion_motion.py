"""The STAR file in which RELION (3.1 and later) keeps a movie and its motion.

RELION's shifts are what is to be done against the motion, in pixels of the movie as
stored; `MotionField` says where content has gone, in Å, so each is the negative of the
other. Rows are in RELION's order on both sides: that of the corrected image.

Where RELION bins, it writes the local model in binned pixels (found with 3.1.3), though
its own polishing takes it as unbinned. Patches are in pixels as stored always, so they
tell which it is; without them it is as polishing takes it, and so it is written here.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import starfile

from icestream.domain import MotionField
from icestream.domain.errors import BadSettings, UnreadableFile
from icestream.io.access import reading, replacing
from icestream.io.relion_polynomial import (
    fit_polynomial,
    node_places_px,
    polynomial_px,
)
from icestream.io.star import star_rows, star_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["RelionMotion", "read_relion_motion", "write_relion_motion"]

_NODES = (4, 4)
_NOT_USED_PX = -9999.0
_FRAME = "rlnMicrographFrameNumber"
_PLACE = ("rlnCoordinateY", "rlnCoordinateX")
_SHIFT = ("rlnMicrographShiftY", "rlnMicrographShiftX")
_COEFFICIENT = "rlnMotionModelCoeff"
_COEFFICIENT_INDEX = "rlnMotionModelCoeffsIdx"
# What starfile and pandas raise on tables that are none.
_NOT_A_TABLE = (ValueError, KeyError, IndexError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RelionMotion:
    """A movie and its motion, as RELION keeps them.

    Parameters
    ----------
    movie
        The movie's name, as RELION shall open it. Blanks and quotes in it or in the
        gain's are written as ``_``: in a STAR file they end or begin something.
    pixel_size_angst
        Of the movie as stored, Å/px.
    field
        How the frames move that are used, against the corrected image.
    frame_count
        Number of frames in the movie; ``None`` where all are used.
    first_frame
        Number of the field's first frame, from 1.
    binning
        Pixel size of the corrected image over that of the movie.
    dose_e_per_angst2, pre_exposure_e_per_angst2
        Of each frame and before the first, e/Å2; ``None`` where not known.
    voltage_kv
        Acceleration voltage, kV.
    gain
        The gain reference, as RELION shall open it.
    eer_grouping, eer_upsampling
        Raw frames in a frame, and 1 for 4096 px or 2 for 8192; EER only.
    hot_px
        ``(n, 2)`` y and x of pixels that were replaced, in the movie as stored, rows in
        RELION's order.

    Raises
    ------
    BadSettings
        A number that cannot be.
    """

    movie: str
    pixel_size_angst: float
    field: MotionField
    frame_count: int | None = None
    first_frame: int = 1
    binning: float = 1.0
    dose_e_per_angst2: float | None = None
    pre_exposure_e_per_angst2: float | None = None
    voltage_kv: float | None = None
    gain: str | None = None
    eer_grouping: int | None = None
    eer_upsampling: int | None = None
    hot_px: NDArray[np.int64] = dataclasses.field(
        default_factory=lambda: np.zeros((0, 2), int)
    )

    def __post_init__(self) -> None:
        last = self.first_frame - 1 + self.field.frame_count
        fits = self.first_frame >= 1 and last <= (self.frame_count or last)
        if not fits or not (self.pixel_size_angst > 0 and self.binning > 0):
            raise BadSettings(
                f"{self.movie}: frames {self.first_frame} to {last} of "
                f"{self.frame_count}, {self.pixel_size_angst} Å/px, binned by "
                f"{self.binning}, cannot be.",
                hint="Count frames from 1, and give sizes above 0.",
            )


def read_relion_motion(path: Path) -> RelionMotion:
    """Read what RELION has found out about a movie.

    Parameters
    ----------
    path
        The STAR file, as ``relion_run_motioncorr`` or `write_relion_motion` wrote it.

    Returns
    -------
    RelionMotion
        With a field of 4 x 4 nodes, which holds RELION's polynomial exactly.

    Raises
    ------
    UnreadableFile
        It is no such file, or not whole.
    """
    try:
        with reading(path):
            blocks: Mapping[str, Any] = starfile.read(path, always_dict=True)
        return _motion_of(blocks)
    except (*_NOT_A_TABLE, BadSettings) as error:
        raise UnreadableFile(
            f"{path} cannot be read as the motion of a movie: {error!r}.",
            hint="Give the STAR file that motion correction wrote beside its image.",
        ) from error


def write_relion_motion(path: Path, motion: RelionMotion) -> float:
    """Write a movie and its motion as RELION reads it, for polishing.

    Parameters
    ----------
    path
        The STAR file; replaced in one step.
    motion
        The movie. Local motion is turned into RELION's polynomial.

    Returns
    -------
    float
        RMS of the local motion that the polynomial cannot follow, over frames, nodes
        and both axes, Å. It stands in the file's first line too.

    Raises
    ------
    DiskFull, FolderUnavailable
        The file could not be written.
    """
    pixel, moves = motion.pixel_size_angst, motion.field
    whole_px = -moves.shift_angst / pixel
    rms_angst, note, model = 0.0, "", ""
    if moves.local_angst is not None:
        fit = fit_polynomial(-moves.local_angst / pixel, shape_px=moves.shape_px)
        whole_px = whole_px + fit.whole_px
        rms_angst = fit.rms_px * pixel
        note = (
            f"# The local motion is followed within {rms_angst:.3f} Å (RMS); "
            f"{fit.offset_px * pixel:.3f} Å (RMS) do not change with time.\n"
        )
        model = _model_text(fit.coefficients)
    hot = ""
    if len(motion.hot_px):
        y_px, x_px = motion.hot_px.T
        hot = star_table("hot_pixels", {_PLACE[1]: x_px, _PLACE[0]: y_px})
    parts = (_general_text(motion), _whole_text(motion, whole_px), model, hot)
    with replacing(path) as temporary:
        temporary.write_text(note + "\n".join(parts), encoding="utf-8")
    return rms_angst


def _motion_of(blocks: Mapping[str, Any]) -> RelionMotion:
    general = blocks["general"]
    if not isinstance(general, dict):
        (general,) = general.to_dict("records")
    pixel_size_angst = float(general["rlnMicrographOriginalPixelSize"])
    first = int(general.get("rlnMicrographStartFrame", 1))
    shape_px = (int(general["rlnImageSizeY"]), int(general["rlnImageSizeX"]))
    binning = float(general.get("rlnMicrographBinning", 1))
    shift_px = _whole_px(blocks["global_shift"], first)
    local_px = None
    if int(general.get("rlnMotionModelVersion", 0)) == 1:
        local_px = _local_px(
            blocks, len(shift_px), first=first, shape_px=shape_px, binning=binning
        )
    return RelionMotion(
        movie=str(general["rlnMicrographMovieName"]),
        pixel_size_angst=pixel_size_angst,
        field=MotionField(
            shape_px=shape_px,
            shift_angst=-shift_px * pixel_size_angst,
            local_angst=None if local_px is None else -local_px * pixel_size_angst,
        ),
        frame_count=int(general["rlnImageSizeZ"]),
        first_frame=first,
        binning=binning,
        dose_e_per_angst2=general.get("rlnMicrographDoseRate"),
        pre_exposure_e_per_angst2=general.get("rlnMicrographPreExposure"),
        voltage_kv=general.get("rlnVoltage"),
        gain=general.get("rlnMicrographGainName"),
        eer_grouping=general.get("rlnEERGrouping"),
        eer_upsampling=general.get("rlnEERUpsampling"),
        hot_px=_hot_px(blocks),
    )


def _columns(table: Any, names: tuple[str, ...]) -> NDArray[np.float64]:  # noqa: ANN401 - pandas
    """Return columns of a table side by side, also where its one row is a list."""
    return np.stack([np.atleast_1d(np.asarray(table[one], float)) for one in names], -1)


def _whole_px(table: Any, first: int) -> NDArray[np.float64]:  # noqa: ANN401 - pandas
    """Return ``(frames, 2)`` y and x of the frames that were used."""
    rows = _columns(table, (_FRAME, *_SHIFT))
    rows = rows[rows[:, 1] != _NOT_USED_PX]
    if not np.array_equal(rows[:, 0], first + np.arange(len(rows))):
        raise ValueError(f"its frames are no row from {first} on")
    whole_px: NDArray[np.float64] = rows[:, 1:]
    return whole_px


def _local_px(
    blocks: Mapping[str, Any],
    frame_count: int,
    *,
    first: int,
    shape_px: tuple[int, int],
    binning: float,
) -> NDArray[np.float64]:
    """Return ``(frames, rows, columns, 2)`` px of the movie as stored, at nodes."""
    table = _columns(blocks["local_motion_model"], (_COEFFICIENT_INDEX, _COEFFICIENT))
    if sorted(table[:, 0]) != list(range(36)):
        raise ValueError("its local model has not 36 coefficients")
    # In the file x comes first.
    coefficients = table[np.argsort(table[:, 0]), 1].reshape(2, 6, 3)[::-1]
    if binning != 1 and "local_shift" in blocks:
        rows = _columns(blocks["local_shift"], (_FRAME, *_PLACE, *_SHIFT))
        modelled = polynomial_px(
            coefficients,
            # Fitted at the middle of a frame, though applied at its start.
            frame=rows[:, 0] - first + 0.5,
            y_px=rows[:, 1],
            x_px=rows[:, 2],
            shape_px=shape_px,
        )
        wrong = [
            np.square(rows[:, 3:] - scale * modelled).sum() for scale in (1, binning)
        ]
        coefficients = coefficients * (binning if wrong[1] < wrong[0] else 1)
    y_px, x_px = node_places_px(shape_px, _NODES)
    frame = np.arange(frame_count)[:, None, None]
    return polynomial_px(
        coefficients, frame=frame, y_px=y_px, x_px=x_px, shape_px=shape_px
    )


def _hot_px(blocks: Mapping[str, Any]) -> NDArray[np.int64]:
    table = blocks.get("hot_pixels")
    if table is None or _PLACE[0] not in table:
        return np.zeros((0, 2), int)
    return _columns(table, _PLACE).astype(int)


def _general_text(motion: RelionMotion) -> str:
    """Return the block of single values, as a list."""
    moves = motion.field
    values: dict[str, str | float | None] = {
        "rlnImageSizeX": moves.shape_px[1],
        "rlnImageSizeY": moves.shape_px[0],
        "rlnImageSizeZ": motion.frame_count
        or motion.first_frame - 1 + moves.frame_count,
        "rlnMicrographMovieName": _in_one_word(motion.movie),
        "rlnMicrographGainName": motion.gain and _in_one_word(motion.gain),
        "rlnMicrographBinning": float(motion.binning),
        "rlnMicrographOriginalPixelSize": float(motion.pixel_size_angst),
        "rlnMicrographDoseRate": motion.dose_e_per_angst2,
        "rlnMicrographPreExposure": motion.pre_exposure_e_per_angst2,
        "rlnVoltage": motion.voltage_kv,
        "rlnMicrographStartFrame": motion.first_frame,
        "rlnEERUpsampling": motion.eer_upsampling,
        "rlnEERGrouping": motion.eer_grouping,
        "rlnMotionModelVersion": 0 if moves.local_angst is None else 1,
    }
    lines = (
        f"_{name} {star_rows({name: [value]})}"
        for name, value in values.items()
        if value is not None
    )
    return f"# version 30001\n\ndata_general\n\n{''.join(lines)}\n"


def _in_one_word(name: str) -> str:
    return re.sub(r"[\s'\"]", "_", name)


def _whole_text(motion: RelionMotion, whole_px: NDArray[np.float64]) -> str:
    before = motion.first_frame - 1
    used = before + len(whole_px)
    count = motion.frame_count or used
    padded = np.pad(
        whole_px,
        ((before, count - used), (0, 0)),
        constant_values=_NOT_USED_PX,
    )
    columns = {_FRAME: np.arange(1, count + 1), _SHIFT[1]: padded[:, 1]}
    return star_table("global_shift", columns | {_SHIFT[0]: padded[:, 0]})


def _model_text(coefficients: NDArray[np.float64]) -> str:
    """Return the local model; its third powers of frames need more than 6 digits."""
    texts = [f"{value:.9g}" for value in coefficients[::-1].ravel()]
    columns = {_COEFFICIENT_INDEX: range(len(texts)), _COEFFICIENT: texts}
    return star_table("local_motion_model", columns)
