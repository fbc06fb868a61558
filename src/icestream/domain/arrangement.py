"""How each exposure was taken, settled in the order in which exposures come.

What a source declares and what its metadata tell make the acquisition fields of an
exposure: setup, pixel size, dose, optics group. They are plain values that the ledger
keeps, and from them everything that is known here can be learnt again. Metadata that
come late settle the fields anew: only what differs then has changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from icestream.domain.acquisition import AcquisitionSetup, is_one_gain
from icestream.domain.errors import BadSettings
from icestream.domain.exposure import ExposureMetadata
from icestream.domain.optics_groups import BeamGroup, OpticsGroups, assign_optics_group
from icestream.domain.precedence import (
    CalibratedPixel,
    settle_dose,
    settle_pixel_size,
)
from icestream.domain.setups import (
    KnownSetup,
    SetupChange,
    SetupKey,
    assign_setup,
    setup_key,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Arranged", "Arrangement", "Told"]

_OF_SETUP = tuple(one.name for one in fields(AcquisitionSetup) if one.name != "name")

_TILTED_DEG = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a source has found out about an exposure.

    Parameters
    ----------
    frame_shape
        Rows and columns of its frames.
    metadata
        From all files of the exposure, and from its name.
    files
        Those files, absolute.
    notice
        What is wrong with one of them, in plain words.
    is_complete
        Whether nothing more is to be expected of files.
    """

    frame_shape: tuple[int, int]
    metadata: ExposureMetadata = field(default_factory=ExposureMetadata)
    files: tuple[str, ...] = ()
    notice: str = ""
    is_complete: bool = False

    def plain(self) -> dict[str, Any]:
        """Return it as acquisition fields: plain values, nothing that is not known."""
        told = _plain(self.metadata)
        return {
            "frame_shape": list(self.frame_shape),
            "metadata": {n: value for n, value in told.items() if value is not None},
            "metadata_files": list(self.files),
            "metadata_notice": self.notice,
            "metadata_complete": self.is_complete,
            "stage_tilt_deg": self.stage_tilt_deg,
        }

    @property
    def stage_tilt_deg(self) -> float | None:
        """Tilt of the stage, where it is tilted on purpose; a stage is never at 0.0."""
        alpha = self.metadata.stage_alpha_deg
        return alpha if alpha is not None and abs(alpha) >= _TILTED_DEG else None

    @classmethod
    def of(cls, acquisition: Mapping[str, Any]) -> Told | None:
        """Return what was told again; ``None`` where that was nothing."""
        if "frame_shape" not in acquisition:
            return None
        height_px, width_px = acquisition["frame_shape"]
        return cls(
            frame_shape=(height_px, width_px),
            metadata=ExposureMetadata(**_with_tuple(acquisition["metadata"])),
            files=tuple(acquisition["metadata_files"]),
            notice=acquisition["metadata_notice"],
            is_complete=acquisition["metadata_complete"],
        )

    def key(self) -> SetupKey:
        """Return what identifies its setup, from what was told alone."""
        pixel = settle_pixel_size(self.frame_shape, metadata=self.metadata)
        return setup_key(
            self.frame_shape, pixel_size_angst=pixel.value, metadata=self.metadata
        )


class Arranged(NamedTuple):
    """The arrangement with one exposure more, its fields, and what people should know.

    A notice that was given of a setup is not given again, whatever the numbers in it.
    """

    arrangement: Arrangement
    fields: Mapping[str, Any]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """The setups and optics groups of a session by now.

    Parameters
    ----------
    declared
        What people have said of setups, by name: fields of `AcquisitionSetup`, not
        all of them. For a setup that was opened it goes before what it is a copy of.
    of_sources
        Names of those that sources have.
    calibration
        The site's table of pixel sizes.
    known
        Setups that exposures have had, in the order in which they were opened.
    groups
        Optics groups.
    said
        Setups, and notices that were given of them, without their numbers.
    """

    declared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    of_sources: frozenset[str] = frozenset()
    calibration: tuple[CalibratedPixel, ...] = ()
    known: tuple[KnownSetup, ...] = ()
    groups: OpticsGroups = field(default_factory=OpticsGroups)
    said: frozenset[tuple[str, str]] = frozenset()

    def learn(self, acquisition: Mapping[str, Any]) -> Arrangement:
        """Take over the fields of an exposure, as the ledger has them."""
        told = Told.of(acquisition)
        if told is None or "optics_group" not in acquisition:
            return self
        group = BeamGroup(**_with_tuple(acquisition["optics_group"]))
        groups = self.groups
        if group not in groups.groups:
            numbered = sorted((*groups.groups, group), key=lambda one: one.number)
            groups = OpticsGroups(groups=tuple(numbered))
        said = self.said.union(
            (acquisition["setup"], _gist(one)) for one in acquisition["notices"]
        )
        known = self._with_setup(acquisition, told.key())
        return replace(self, known=known, groups=groups, said=said)

    def rules(self, source: Mapping[str, Any]) -> str:
        """Return a hash of all that people have said and a source's exposures obey."""
        calibration = [_plain(one) for one in self.calibration]
        text = json.dumps([dict(source), self.declared, calibration], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def arrange(
        self,
        source: Mapping[str, Any],
        told: Mapping[str, Any],
        *,
        before: Mapping[str, Any] | None = None,
    ) -> Arranged:
        """Settle the fields of an exposure.

        Parameters
        ----------
        source
            Fields of the setup that its source declares, and its name as ``setup``.
        told
            What its source has found out (`Told.plain`); may be empty.
        before
            Its fields so far, if it has been here before: what is no longer told stays.

        Returns
        -------
        Arranged
            Where nothing was ever told, the fields are the source's.
        """
        exposure = _joined(Told.of(told), Told.of(before or {}))
        if exposure is None:
            return Arranged(self, dict(source), ())
        now = None if before is None else before.get("setup")
        try:
            return self._arranged(source, exposure, now)
        except BadSettings as error:
            notice = f"The metadata of exposures are not used: {error}"
            gist = (str(source["setup"]), _gist(notice))
            fresh = () if gist in self.said else (notice,)
            after = replace(self, said=self.said | {gist})
            return Arranged(after, dict(source) | exposure.plain(), fresh)

    def _arranged(
        self, source: Mapping[str, Any], exposure: Told, now: str | None
    ) -> Arranged:
        name = str(source["setup"])
        key = exposure.key()
        family = self._family(name, key)
        others = {one.name for one in self.known}.union(self.of_sources)
        after, mine = assign_setup(family, key, now=now, taken=others)
        values, notices = self._settled(self._fields(source, mine), mine, exposure)
        AcquisitionSetup(name=mine.name, **{n: values[n] for n in _OF_SETUP})
        groups, group = assign_optics_group(
            self.groups, exposure.metadata, setup=mine.name
        )
        values |= exposure.plain()
        values["optics_group"] = _plain(group)
        values["notices"] = notices
        if mine.change is not None:
            values["setup_change"] = _plain(mine.change)
        gists = {one: (mine.name, _gist(one)) for one in notices}
        fresh = [one for one in notices if gists[one] not in self.said]
        if len(after) > len(family):
            fresh.insert(0, _opening(mine, family[0], values, source))
        kept = tuple(one for one in self.known if _declared(one) != name)
        arrangement = replace(
            self,
            known=(*kept, *after),
            groups=groups,
            said=self.said.union(gists.values()),
        )
        return Arranged(arrangement, values, tuple(fresh))

    def _family(self, name: str, key: SetupKey) -> tuple[KnownSetup, ...]:
        """Return a declared setup, then those that were made from it.

        The first exposure that fits none of them is the one that was declared.
        """
        family = [one for one in self.known if _declared(one) == name]
        is_known = any(one.change is None for one in family)
        if not is_known and not any(one.key.agrees_with(key) for one in family):
            family.append(KnownSetup(name=name, key=key))
        return tuple(sorted(family, key=lambda one: one.change is not None))

    def _fields(self, source: Mapping[str, Any], setup: KnownSetup) -> dict[str, Any]:
        """Return the fields of a setup, before metadata have their say."""
        values = dict(source) | {"setup": setup.name}
        change = setup.change
        if change is None:
            return values
        told = self.declared.get(setup.name, {})
        if change.voltage_kv is not None:
            values["voltage_kv"] = change.voltage_kv
        is_one = values["gain"] is not None and is_one_gain(values["gain"])
        if "gain" in told or (is_one and not change.keeps_gain):
            values |= {"has_own_gain": True, "own_gain": told.get("gain")}
            values["gain"] = None
        if not change.keeps_defects:
            values["defects"] = None
        if not change.keeps_dose:
            values["dose_e_per_angst2"] = values["vacuum_e_per_px"] = None
        values["pixel_size_angst"] *= change.pixel_factor
        if change.pixel_size_angst is not None:
            values["pixel_size_angst"] = change.pixel_size_angst
        return values | dict(told) | {"setup": setup.name}

    def _settled(
        self, values: dict[str, Any], setup: KnownSetup, exposure: Told
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the fields with pixel size and dose, and what is to be said."""
        metadata = exposure.metadata
        pixel = settle_pixel_size(
            exposure.frame_shape,
            metadata=metadata,
            user_angst=values["pixel_size_angst"],
            calibration=self.calibration,
        )
        origin = pixel.origin
        if origin == "user" and self._is_by_metadata(setup):
            origin = "metadata"
        dose = settle_dose(
            metadata=metadata, user_e_per_angst2=values["dose_e_per_angst2"]
        )
        # Without a dose counts may tell it, where they are electrons.
        may_count = dose.value is None and metadata.is_counting is not False
        notices = (
            exposure.notice,
            pixel.notice,
            dose.notice if dose.value else "",
        )
        settled = {
            "pixel_size_angst": pixel.value,
            "pixel_size_origin": origin,
            "dose_e_per_angst2": dose.value,
            "dose_origin": dose.origin,
            "may_count_dose": may_count,
        }
        return values | settled, [one for one in notices if one]

    def _is_by_metadata(self, setup: KnownSetup) -> bool:
        """Whether nobody but metadata ever told the pixel of a setup."""
        change = setup.change
        is_told = change is not None and change.pixel_size_angst is not None
        by_people = self.declared.get(setup.name, {})
        return is_told and "pixel_size_angst" not in by_people

    def _with_setup(
        self, acquisition: Mapping[str, Any], key: SetupKey
    ) -> tuple[KnownSetup, ...]:
        name = acquisition["setup"]
        for at, one in enumerate(self.known):
            if one.name == name:
                fuller = replace(one, key=one.key.filled_by(key))
                return (*self.known[:at], fuller, *self.known[at + 1 :])
        change = acquisition.get("setup_change")
        found = KnownSetup(
            name=name, key=key, change=SetupChange(**change) if change else None
        )
        return (*self.known, found)


def _declared(setup: KnownSetup) -> str:
    """Return the declared setup that one is or was made from."""
    return setup.name if setup.change is None else setup.change.declared


def _joined(told: Told | None, before: Told | None) -> Told | None:
    """Return what is told now, with what was told before and is not any more."""
    if told is None or before is None:
        return told or before
    return replace(
        told,
        metadata=told.metadata.filled_by(before.metadata),
        files=told.files or before.files,
    )


def _opening(
    setup: KnownSetup,
    declared: KnownSetup,
    values: Mapping[str, Any],
    source: Mapping[str, Any],
) -> str:
    """Say that a setup was opened, why, and what is taken to hold for it."""
    lost = [
        word
        for word, name in (
            ("gain", "gain"),
            ("defects", "defects"),
            ("dose", "dose_e_per_angst2"),
        )
        if source[name] is not None and values[name] != source[name]
    ]
    left = f", but not the {', '.join(lost)}" if lost else ""
    why = "; ".join(setup.key.differences(declared.key)) or "no setup fits"
    return (
        f"A new acquisition setup begins, {setup.name!r} ({why}). It has what "
        f"{declared.name!r} declares, with {values['pixel_size_angst']:.4g} Å/px and "
        f"{values['voltage_kv']:g} kV{left}. If that is not right: stop, set "
        f"setups.{setup.name}.pixel_size_angst, voltage_kv, gain ..., start again."
    )


def _gist(notice: str) -> str:
    """Return a notice without its numbers: what is said of each exposure alike."""
    return re.sub(r"\d[\d.]*", "#", notice)


def _plain(
    value: BeamGroup | CalibratedPixel | ExposureMetadata | SetupChange,
) -> dict[str, Any]:
    """Return the fields as JSON has them; `asdict` would copy each of them deeply."""
    found = {name: getattr(value, name) for name in value.__slots__}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in found.items()}


def _with_tuple(values: Mapping[str, Any]) -> dict[str, Any]:
    return {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
