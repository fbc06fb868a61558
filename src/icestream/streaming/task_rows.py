"""Tasks as rows of the ledger's table, there and back."""

from __future__ import annotations

from typing import Any

from icestream.domain.verdict import Verdict
from icestream.streaming.tasks import State, Task

__all__ = ["task_from_row", "task_row"]


def task_row(run: str, key: str, task: Task) -> dict[str, Any]:
    """Make the row of a task."""
    verdict = task.verdict
    return {
        "run": run,
        "key": key,
        "state": task.state.value,
        "content": task.content,
        "attempt": task.attempt,
        "failures": task.failures,
        "retry_at": task.retry_at,
        "reason": task.reason,
        "published": task.published,
        "accepted": verdict.accepted if verdict else None,
        "rule": verdict.rule if verdict else None,
        "value": verdict.value if verdict else None,
        "limit": verdict.limit if verdict else None,
        "verdict_reason": verdict.reason if verdict else None,
        "override": task.override,
    }


def task_from_row(row: Any) -> Task:  # noqa: ANN401 - a row of the task table
    """Make a task from its row."""
    verdict = None
    if row.rule is not None:
        verdict = Verdict(
            accepted=row.accepted,
            rule=row.rule,
            value=row.value,
            limit=row.limit,
            reason=row.verdict_reason,
        )
    return Task(
        state=State(row.state),
        content=row.content,
        attempt=row.attempt,
        failures=row.failures,
        retry_at=row.retry_at,
        reason=row.reason,
        published=row.published,
        verdict=verdict,
        override=row.override,
    )
