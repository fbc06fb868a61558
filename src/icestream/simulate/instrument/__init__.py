"""Files exactly as instruments write them, from arrays; and how they go wrong."""

from icestream.simulate.instrument.eer import (
    EerExposure,
    EerSummary,
    EventFrame,
    write_eer,
)
from icestream.simulate.instrument.epu import (
    exposure_name,
    hole_image_name,
    picture_path,
    square_image_name,
    write_atlas,
    write_picture,
    write_session,
    write_square,
)
from icestream.simulate.instrument.epu_image import (
    FALCON_4I,
    K3,
    EpuCamera,
    EpuImage,
)
from icestream.simulate.instrument.epu_session import EpuHole, EpuSession, EpuSquare
from icestream.simulate.instrument.gain import write_gain
from icestream.simulate.instrument.mrc import write_mrc_movie
from icestream.simulate.instrument.serialem import (
    SerialemExposure,
    frame_set_name,
    write_mdoc,
)
from icestream.simulate.instrument.thumbnail import (
    draw_atlas,
    draw_grid_square,
    draw_hole,
    thumbnail_shape,
)
from icestream.simulate.instrument.tiff import write_tiff_movie

__all__ = [
    "FALCON_4I",
    "K3",
    "EerExposure",
    "EerSummary",
    "EpuCamera",
    "EpuHole",
    "EpuImage",
    "EpuSession",
    "EpuSquare",
    "EventFrame",
    "SerialemExposure",
    "draw_atlas",
    "draw_grid_square",
    "draw_hole",
    "exposure_name",
    "frame_set_name",
    "hole_image_name",
    "picture_path",
    "square_image_name",
    "thumbnail_shape",
    "write_atlas",
    "write_eer",
    "write_gain",
    "write_mdoc",
    "write_mrc_movie",
    "write_picture",
    "write_session",
    "write_square",
    "write_tiff_movie",
]
