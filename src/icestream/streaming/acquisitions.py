"""How exposures were taken: their acquisition fields, arranged as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias
from typing import Protocol as Contract

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from icestream.streaming.board import Board
    from icestream.streaming.ledger import Transaction
    from icestream.streaming.plan import Plan

__all__ = ["Acquisitions", "Arrangement"]

Fields: TypeAlias = "Mapping[str, Any]"


class Arrangement(Contract):
    """What is known of a session's exposures; a value that only ever learns."""

    def learn(self, acquisition: Fields) -> Arrangement:
        """Take over the fields of an exposure, as the ledger has them."""

    def arrange(
        self, source: Fields, told: Fields, *, before: Fields | None = None
    ) -> tuple[Arrangement, Fields, Sequence[str]]:
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

    def learn(self) -> None:
        """Take over what the ledger knows of all exposures."""
        if self._arrangement is None:
            return
        known = self._board.exposures.values()
        for one in sorted(known, key=lambda exposure: exposure.arrival):
            self._arrangement = self._arrangement.learn(one.acquisition)

    def told(self, key: str) -> Fields:
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
            source, told, before=self.told(key) or None
        )
        for notice in notices:
            transaction.add_notice(run, f"{key}: {notice}")
        return fields
