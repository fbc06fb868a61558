"""Picks against the particles that are there."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from icestream.domain import Coordinates
from icestream.domain.errors import BadSettings
from icestream.engines.picking import match_coordinates
from icestream.simulate.score.values import Spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from icestream.simulate.score.values import Found, Pair
    from icestream.simulate.truth import ExposureTruth

__all__ = ["BlankScore", "PickScore", "View", "score_blanks", "score_picking"]

_MASKED_FROM = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class View:
    """What all exposures share.

    Parameters
    ----------
    shape
        ``(h, w)`` of the images, px.
    diameters_angst, are_particles
        Of each species: its diameter, Å, and whether it is to be found; what has come
        apart is not.
    """

    shape: tuple[int, int]
    diameters_angst: NDArray[np.float64]
    are_particles: NDArray[np.bool_]

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Self:
        """Read it from what the truth says of the whole acquisition.

        Raises
        ------
        BadSettings
            It says nothing of the kind.
        """
        try:
            height, width = about["shape"]
            species = about["species"]
            diameters = [float(one["diameter_angst"]) for one in species]
            sheets = [bool(one.get("is_denatured", False)) for one in species]
            shape = int(height), int(width)
        except (
            AttributeError,
            KeyError,
            OverflowError,
            TypeError,
            ValueError,
        ) as error:
            raise BadSettings(
                f"The truth lacks the size of images or particles: {error!r}.",
                hint="It needs shape (height, width) and species (diameter_angst).",
            ) from error
        if not (min(shape) > 0 and np.isfinite(diameters).all()):
            raise BadSettings(
                f"The truth has no size of images or particles: {shape} px and "
                f"{diameters} Å cannot be.",
                hint="It is damaged: give another copy.",
            )
        return cls(
            shape=shape,
            diameters_angst=np.array(diameters),
            are_particles=~np.array(sheets, dtype=np.bool_),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PickScore:
    """Picks and particles, one to one within half the diameter of the species.

    Parameters
    ----------
    exposures
        With picks, be it none.
    picks, particles, matched
        Those that count, and pairs of them: centres inside the image, off film and
        contaminants. A pick on a particle that does not count is left out; one on
        denatured protein is false.
    precision, recall, f1
        Of all exposures together; ``None`` where nothing is counted.
    centring_angst
        Distance of the pairs, Å; ``None`` without pairs.
    overlapping, overlapping_matched
        Of the particles, those with a neighbour nearer than a diameter.
    masked, masked_matched
        Particles inside, but on film or contaminants; they count for nothing.
    picks_on_mask
        Of the picks, those on film or contaminants that are no particle.
    """

    exposures: int
    picks: int
    particles: int
    matched: int
    precision: float | None
    recall: float | None
    f1: float | None
    centring_angst: Spread | None
    overlapping: int
    overlapping_matched: int
    masked: int
    masked_matched: int
    picks_on_mask: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankScore:
    """Picks on exposures of ice alone: how many exposures, mean, most and where."""

    exposures: int
    picks_mean: float
    picks_most: int
    most_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Count:
    picks: int
    particles: int
    matched: int
    overlapping: int
    overlapping_matched: int
    masked: int
    masked_matched: int
    picks_on_mask: int


def score_picking(pairs: Sequence[Pair], view: View) -> PickScore | None:
    """Compare picks with the truth; ``None`` where picking has no result.

    Notes
    -----
    A particle is looked for where frame 0 shows it, as in a micrograph whose frames
    were moved onto that one.
    """
    picked = [one for one in pairs if one.found.picks is not None]
    if not picked:
        return None
    counts, distances = zip(*(_count(one, view) for one in picked), strict=True)
    sums = dict(
        zip(
            (one.name for one in fields(_Count)),
            np.sum([astuple(one) for one in counts], axis=0).tolist(),
            strict=True,
        )
    )
    picks, particles, matched = (sums[n] for n in ("picks", "particles", "matched"))
    return PickScore(
        exposures=len(picked),
        **sums,
        precision=matched / picks if picks else None,
        recall=matched / particles if particles else None,
        f1=2 * matched / (picks + particles) if picks + particles else None,
        centring_angst=Spread.of(np.concatenate(distances)),
    )


def score_blanks(pairs: Sequence[Pair]) -> BlankScore | None:
    """Count picks where there is nothing; ``None`` without such exposures."""
    picks = [
        (len(one.found.picks), one.found.key)
        for one in pairs
        if one.truth.defect == "blank" and one.found.picks is not None
    ]
    if not picks:
        return None
    most, key = max(picks, key=lambda one: one[0])
    return BlankScore(
        exposures=len(picks),
        picks_mean=sum(count for count, _ in picks) / len(picks),
        picks_most=most,
        most_key=key,
    )


def _count(pair: Pair, view: View) -> tuple[_Count, NDArray[np.float64]]:
    """Return the numbers of one exposure, and the distances of its pairs, Å."""
    truth, picks = pair.truth, _picks_yx_px(pair.found, view.shape)
    field = truth.particles
    is_one = view.are_particles[field.species]
    particles = np.stack([field.y_px, field.x_px], axis=1)[is_one]
    diameters_px = view.diameters_angst[field.species[is_one]] / truth.pixel_size_angst
    matches = match_coordinates(
        _coordinates(picks),
        _coordinates(particles),
        max_distance_px=diameters_px / 2,
    )
    is_inside = _is_inside(particles, view.shape)
    is_masked = is_inside & _is_masked(truth, particles, view.shape)
    counts = is_inside & ~is_masked
    pair_counts = counts[matches.true_index]
    was_found = np.zeros(len(particles), dtype=bool)
    was_found[matches.true_index] = True
    is_free = np.ones(len(picks), dtype=bool)
    is_free[matches.found_index] = False
    overlaps = field.overlaps[is_one] & counts
    count = _Count(
        picks=len(picks) - int((~pair_counts).sum()),
        particles=int(counts.sum()),
        matched=int(pair_counts.sum()),
        overlapping=int(overlaps.sum()),
        overlapping_matched=int((overlaps & was_found).sum()),
        masked=int(is_masked.sum()),
        masked_matched=int((is_masked & was_found).sum()),
        picks_on_mask=int((is_free & _is_masked(truth, picks, view.shape)).sum()),
    )
    return count, matches.distance_px[pair_counts] * truth.pixel_size_angst


def _picks_yx_px(found: Found, shape: tuple[int, int]) -> NDArray[np.float64]:
    """``(n, 2)`` in pixels of the camera, of which a binned one holds several."""
    if found.picks is None:
        return np.empty((0, 2))
    places = np.stack([found.picks.y_px, found.picks.x_px], axis=1).astype(np.float64)
    ratio = np.array(shape) / (found.shape or shape)
    in_camera: NDArray[np.float64] = (places + 0.5) * ratio - 0.5
    return in_camera


def _is_inside(
    places: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    is_between = (places >= -0.5) & (places < np.array(shape) - 0.5)
    inside: NDArray[np.bool_] = np.all(is_between, axis=1)
    return inside


def _is_masked(
    truth: ExposureTruth, places: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Whether places lie in a part that film or contaminants cover by half or more."""
    parts = len(truth.masked)
    rows, columns = (
        np.clip((places + 0.5) / shape * parts, 0, parts - 1).astype(np.intp).T
    )
    masked: NDArray[np.bool_] = truth.masked[rows, columns] >= _MASKED_FROM
    return masked


def _coordinates(places_yx_px: NDArray[np.float64]) -> Coordinates:
    y_px, x_px = places_yx_px.astype(np.float32).T
    ones = np.ones_like(x_px)
    return Coordinates(x_px=x_px, y_px=y_px, score=ones, diameter_angst=ones)
