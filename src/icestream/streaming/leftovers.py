"""What a killed attempt leaves behind: products that still have temporary names.

A product is written as ``.STEM.partial.SUFFIX`` (`Context.product`), and a writer may
put ``.NAME.XXXXXXXX.part`` around that; the name holds the task's content key. Only
what is finished is renamed, so nobody needs such a file once its writer is dead. A
finished product may be called so too, where its exposure is: the ledger knows it.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from icestream.streaming import schema
from icestream.streaming.reader import LedgerReader

__all__ = ["PRODUCTS", "sweep_leftovers"]

PRODUCTS = "products"
"""Folder of a session in which all products lie."""

_AT_ONCE = 500

_TEMPORARY = re.compile(
    r"\.(?=.*[0-9a-f]{12}).*\.partial(\.[^.]*)?(\.[0-9a-f]{8}\.part)?", re.DOTALL
)


def sweep_leftovers(session_folder: Path, ledger_path: Path) -> int:
    """Remove all that killed attempts have left, while none can be at work.

    To be called before the first task is started, when the strays of an earlier service
    are dead. A product that is stored is never touched, whatever its name; nor is what
    no task can have written, since its path is no text. Where the folder of products is
    a link nothing is swept: another session may have the same.

    Parameters
    ----------
    session_folder
        The session; what cannot be listed or removed there stays.
    ledger_path
        Its ledger, which knows what is stored.

    Returns
    -------
    int
        How many files were removed.
    """
    found = [path for path in _temporary(session_folder) if _is_text(path)]
    if not found:
        return 0
    stored = _stored(ledger_path, found)
    count = 0
    for path in found:
        if path not in stored:
            with contextlib.suppress(OSError):
                (session_folder / path).unlink()
                count += 1
    return count


def _temporary(session_folder: Path) -> list[str]:
    """Return the files that bear temporary names, relative to the session."""
    products = session_folder / PRODUCTS
    if products.is_symlink():
        return []
    return [
        Path(folder, name).relative_to(session_folder).as_posix()
        for folder, _, names in os.walk(products)
        for name in names
        if _TEMPORARY.fullmatch(name)
    ]


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stored(ledger_path: Path, paths: list[str]) -> set[str]:
    column = schema.artifact.c.path
    reader = LedgerReader(ledger_path)
    try:
        return {
            row["path"]
            for start in range(0, len(paths), _AT_ONCE)
            for row in reader.rows(
                schema.artifact, column.in_(paths[start : start + _AT_ONCE])
            )
        }
    finally:
        reader.close()
