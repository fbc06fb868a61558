"""How exposures were taken: their acquisition fields, arranged as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from typing import Protocol as Contract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.streaming.board import Board
    from icestream.streaming.ledger import Transaction
    from icestream.streaming.plan import Plan

__all__ = ["Acquisitions", "Arranger"]

_RULES = "settled_by"

Fields: TypeAlias = "Mapping[str, Any]"


class Arranger(Contract):
    """What is known of a session's exposures; a value that only ever learns."""

    def learn(self, acquisition: Fields) -> Arranger:
        """Take over the fields of an exposure, as the ledger has them."""

    def rules(self, source: Fields) -> str:
        """Return a hash of what decides how exposures of a source are settled.

        Of what was known before they came, that is, not of them or of each other.
        """

    def arrange(
        self, source: Fields, told: Fields, *, before: Fields | None = None
    ) -> tuple[Arranger, Fields, Sequence[str]]:
        """Settle the fields of one exposure.

        Parameters
        ----------
        source
            What its source declares.
        told
            What its source has found out.
        before
            Its fields so far, if it has been here before.

        Returns
        -------
        tuple
            What is known now, the fields, and what people should be told.
        """


class Acquisitions:
    """Gives each exposure its acquisition fields, in order of arrival.

    Where the plan has no arrangement, they are those that its source declares.

    Parameters
    ----------
    plan
        The session's runs and their arrangement.
    board
        Knows the exposures so far.
    """

    def __init__(self, plan: Plan, board: Board) -> None:
        self._plan, self._board = plan, board
        self._arrangement = plan.arrangement
        self._rules: dict[str, str] = {}

    def learn(self) -> None:
        """Take over what the ledger knows of all exposures."""
        if self._arrangement is None:
            return
        known = self._board.exposures.values()
        for one in sorted(known, key=lambda exposure: exposure.arrival):
            self._arrangement = self._arrangement.learn(one.acquisition)

    def unsettled(self, run: str) -> list[str]:
        """Return exposures of a source that the plan settles otherwise than they were.

        In order of arrival.
        """
        exposures, rules = self._board.exposures, self._marks(run)
        changed = [
            key
            for key in self._board.tasks[run]
            if key in exposures
            and any(exposures[key].acquisition.get(n) != rules[n] for n in rules)
        ]
        return sorted(changed, key=lambda key: exposures[key].arrival)

    def fields_of(self, key: str) -> Fields:
        """Return the fields that an exposure has by now."""
        known = self._board.exposures.get(key)
        return {} if known is None else known.acquisition

    def settle(
        self, transaction: Transaction, run: str, key: str, told: Fields
    ) -> Fields:
        """Return the fields of an exposure; what is to be said becomes a notice."""
        source = self._plan.runs[run].acquisition
        if self._arrangement is None:
            return source
        self._arrangement, fields, notices = self._arrangement.arrange(
            source, told, before=self.fields_of(key) or None
        )
        for notice in notices:
            transaction.add_notice(run, f"{key}: {notice}")
        return {**fields, **self._marks(run)}

    def _marks(self, run: str) -> Fields:
        """Return the fields that tell by which rules an exposure was settled."""
        source = self._plan.runs[run].acquisition
        if self._plan.arrangement is None:
            return source
        if run not in self._rules:
            self._rules[run] = self._plan.arrangement.rules(source)
        return {_RULES: self._rules[run]}
