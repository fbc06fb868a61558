"""Whose ledger it is: one session's, wherever that session is moved.

A ledger bears two marks: the id of its session, and the folder in which that was opened
last. Another id is another session. The same id in another folder is a session that was
moved, or a copy of one that is still there: two of them must not share a ledger. A
ledger without marks, of an older icestream, goes to the first session that opens it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from icestream.app.settings import Settings, read_settings
from icestream.domain.errors import LedgerUnusable, SessionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_marks", "ledger_path", "marks_of"]

_SESSION = "session"
_FOLDER = "folder"


def ledger_path(folder: Path, settings: Settings) -> Path:
    """Return where a session's ledger lies: in it, or where its settings say."""
    place = settings.ledger
    return (folder / place if place else folder) / "ledger.db"


def marks_of(folder: Path, settings: Settings) -> dict[str, str]:
    """Return the marks that a session's ledger should bear."""
    # A name that is no text cannot be stored; it is compared in the same disguise.
    place = str(folder.resolve()).encode("utf-8", "backslashreplace").decode()
    marks = {_FOLDER: place}
    if settings.id is not None:
        marks[_SESSION] = settings.id
    return marks


def check_marks(
    ledger: Path, found: Mapping[str, str], marks: Mapping[str, str]
) -> None:
    """Refuse a ledger that is another session's.

    Parameters
    ----------
    ledger
        The ledger's file.
    found
        The marks that it bears.
    marks
        Those of the session that would use it.

    Raises
    ------
    LedgerUnusable
        Another session's id stands in it, or it is that of a session in another folder
        that is still there and names it too.
    """
    here, there = marks[_FOLDER], found.get(_FOLDER, marks[_FOLDER])
    owner = found.get(_SESSION)
    if owner is not None and marks.get(_SESSION, owner) != owner:
        raise LedgerUnusable(
            f"The ledger {ledger} is that of another session, last in {there}.",
            hint=f"Name another place with `ledger:` in {here}/session.yaml, or move "
            f"that file away; `id: {owner}` would go on with what stands in it.",
        )
    if there != here and _is_shared(ledger, owner, Path(there), Path(here)):
        raise LedgerUnusable(
            f"The ledger {ledger} is that of the session in {there}, of which "
            f"{here} is a copy.",
            hint=f"Name another place with `ledger:` in {here}/session.yaml, or remove "
            "the other session first.",
        )


def _is_shared(ledger: Path, owner: str | None, there: Path, here: Path) -> bool:
    """Whether there is another session, with the owner's id, that names this ledger.

    One that cannot be read cannot be opened either; it is refused when it can again.
    """
    try:
        path = there / "session.yaml"
        settings = Settings.parse(read_settings(path), where=str(path))
        return (
            not there.samefile(here)
            and (settings.id is None or owner in (None, settings.id))
            and ledger.samefile(ledger_path(there, settings))
        )
    except (OSError, SessionError):
        return False
