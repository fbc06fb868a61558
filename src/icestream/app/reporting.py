"""Writing a session's report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from icestream.report import read_results, write_report

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from icestream.app.session import Session

__all__ = ["update_report"]


def update_report(
    session: Session,
    *,
    running: bool,
    unless: int = -1,
    row_counts: MutableMapping[str, int] | None = None,
) -> int:
    """Write the report anew if the ledger has moved on.

    Parameters
    ----------
    session
        The session.
    running
        Whether its service runs; the page then refreshes itself.
    unless
        Number of the event that the last report has seen.
    row_counts
        What earlier calls have counted; filled for later ones.

    Returns
    -------
    int
        Number of the event that the report has seen now.
    """
    if not session.ledger_path.exists():
        return unless
    reader = session.read()
    try:
        seen = reader.last_seq()
        if seen != unless:
            results = read_results(reader, session.plan, row_counts=row_counts)
            write_report(
                results,
                session_folder=session.folder,
                path=session.report_path,
                title=session.settings.title,
                running=running,
            )
        return seen
    finally:
        reader.close()
