"""The step that takes contrast transfer functions which were fitted elsewhere."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from icestream.domain import Ctf, Micrograph
from icestream.domain.errors import BadSettings, CtfNotFound
from icestream.io.ctf_table import read_ctf_table
from icestream.io.relion import seen_angle_deg
from icestream.streaming.protocol import Context, Input, Params, PerItem

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ImportCtf", "ImportCtfParams"]


class ImportCtfParams(Params):
    """Where they stand."""

    table: str = Field(
        description="Absolute path of a RELION STAR file, or of a CSV file with "
        "columns file, defocus_u_angst, defocus_v_angst and angle_deg."
    )


class ImportCtf(PerItem[ImportCtfParams]):
    """Take the CTF of a micrograph from a table, as one more estimate.

    Micrographs are found by the name of their file, without folders and ending.
    """

    name: ClassVar = "import_ctf"
    Params: ClassVar = ImportCtfParams
    inputs: ClassVar = {"micrograph": Input(kind=Micrograph)}
    outputs: ClassVar = {"ctf": Ctf}

    def process(
        self, context: Context, /, *, micrograph: Micrograph
    ) -> Mapping[str, Ctf]:
        """Return its row; raises ``CtfNotFound`` where there is none, or two."""
        path = Path(self.params.table)
        try:
            changed = path.stat().st_mtime_ns
        except OSError as error:
            raise BadSettings(
                f"The table of CTFs {path} cannot be read: {error.strerror}.",
                hint="Give the absolute path of a file that workers can read.",
            ) from error
        stem = PurePosixPath(context.key).stem
        rows = _table(path, changed).get(stem, [])
        if len(rows) != 1:
            raise CtfNotFound(
                f"{path} has {len(rows) or 'no'} rows for {stem!r}.",
                hint="Each micrograph needs one, under the name of its file.",
            )
        ((name, ctf),) = rows
        turned = seen_angle_deg(ctf.defocus_angle_deg, micrograph=name)
        return {"ctf": replace(ctf, defocus_angle_deg=turned)}


@functools.lru_cache(maxsize=4)
def _table(path: Path, _changed_ns: int) -> dict[str, list[tuple[str, Ctf]]]:
    return read_ctf_table(path)
