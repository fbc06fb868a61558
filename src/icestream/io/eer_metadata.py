"""What a Falcon camera says of an exposure in the first directory of an EER file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from icestream.io.header import plausible_pixel_size_angst
from icestream.io.markup import BadXml, parse_xml_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EerMetadata", "parse_eer_metadata"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EerMetadata:
    """The exposure by the camera's own word; ``None`` for what it does not say.

    Parameters
    ----------
    camera_name, serial_number
        The camera.
    gain_reference
        Name of the ``.gain`` file that belongs to it.
    started_at
        As the camera's clock has it, with an offset from UTC where it gives one.
    exposure_s
        Exposure time, s.
    total_dose_e_per_px, dose_rate_e_per_px_s
        Electrons on a pixel of the camera, in all and per second.
    frame_count
        Raw frames.
    pixel_size_angst
        Å/px of the camera's pixels at the specimen.
    """

    camera_name: str | None = None
    serial_number: str | None = None
    gain_reference: str | None = None
    started_at: datetime | None = None
    exposure_s: float | None = None
    total_dose_e_per_px: float | None = None
    dose_rate_e_per_px_s: float | None = None
    frame_count: int | None = None
    pixel_size_angst: float | None = None


def parse_eer_metadata(xml: bytes) -> EerMetadata:
    """Read the XML of an exposure; what cannot be read counts as not said.

    Parameters
    ----------
    xml
        ``<metadata>`` of ``<item name="..." unit="...">value</item>``.
    """
    try:
        root = parse_xml_bytes(xml.rstrip(b"\0"))
    except BadXml:
        return EerMetadata()
    items = {
        item.get("name", ""): text
        for item in root.iter("item")
        if (text := (item.text or "").strip())
    }
    frames = _positive(items, "numberOfFrames")
    pixel_size_m = _positive(items, "sensorPixelSize.width")
    return EerMetadata(
        camera_name=items.get("commercialName") or items.get("cameraName"),
        serial_number=items.get("serialNumber"),
        gain_reference=items.get("eerGainReference"),
        started_at=_time(items.get("timestamp")),
        exposure_s=_positive(items, "exposureTime"),
        total_dose_e_per_px=_positive(items, "totalDose"),
        dose_rate_e_per_px_s=_positive(items, "meanDoseRate"),
        frame_count=None if frames is None else int(frames),
        pixel_size_angst=pixel_size_m
        and plausible_pixel_size_angst(1e10 * pixel_size_m),
    )


def _positive(items: Mapping[str, str], name: str) -> float | None:
    try:
        number = float(items.get(name, ""))
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text or "")
    except ValueError:
        return None
