"""Write `docs/reference/protocols.md` from the protocols themselves. A program too."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from icestream.app.registry import find_protocol, protocol_names
from icestream.streaming.protocol import Aggregate, Gate, PerItem, Protocol, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic.fields import FieldInfo

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "protocols.md"
_SHAPES = (Source, PerItem, Gate, Aggregate)
_HEAD = """\
# Protocols

What each step takes, makes and can be told. `icestream protocols NAME` shows the same
in the terminal; `RUN.PARAMETER=VALUE` sets a parameter (`icestream new --set`,
`icestream set`). Written by `python tests/protocols_page.py`: change the protocols.
"""
_UNITS = {"angst": "Å", "px": "px", "deg": "°", "s": "s", "pixel_size_angst": "Å/px"}
_LIMITS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def protocols_page() -> str:
    """Return the text of the page: icestream's own protocols, by shape and name."""
    found = (find_protocol(name) for name in protocol_names())
    ours = [one for one in found if one.__module__.startswith("icestream.")]
    ours.sort(key=lambda one: (_SHAPES.index(_shape(one)), one.name))
    return "\n".join([_HEAD, *map(_section, ours)])


def _section(protocol: type[Protocol[Any]]) -> str:
    shape = _shape(protocol)
    takes = _named({name: one.kind for name, one in protocol.inputs.items()})
    makes = _named(protocol.outputs)
    if shape is Gate:
        makes = "`accepted`, `rejected`: its input, unchanged"
    about = f"{shape.__name__}. Inputs: {takes}. Outputs: {makes}."
    if protocol.reads:
        about += f"\nReads of the acquisition: {_quoted(protocol.reads)}."
    parts = [f"## {protocol.name}", inspect.getdoc(protocol) or "", about]
    if protocol.citation:
        parts.append(f"Please cite: {protocol.citation}")
    if protocol.Params.model_fields:
        parts.append(_table(protocol.Params.model_fields))
    return "\n\n".join(parts) + "\n"


def _table(fields: Mapping[str, FieldInfo]) -> str:
    lines = ["| parameter | type | unit | default | meaning |", "|---|---|---|---|---|"]
    for name, field in fields.items():
        default = "required" if field.is_required() else f"`{field.get_default()!r}`"
        unit = _UNITS.get(name, _UNITS.get(name.rpartition("_")[2], ""))
        cells = (f"`{name}`", _type(field), unit, default, field.description or "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {value:g}"
        for one in field.metadata
        for name, sign in _LIMITS.items()
        if (value := getattr(one, name, None)) is not None
    ]
    return ", ".join([_spelt(field.annotation), *limits])


def _spelt(kind: Any) -> str:  # noqa: ANN401 - any annotation
    parts = get_args(kind)
    if kind is type(None):
        return "null"
    if get_origin(kind) is Literal:
        return " or ".join(f"`{one}`" for one in parts)
    if get_origin(kind) in (UnionType, Union):
        return " or ".join(_spelt(one) for one in parts)
    if get_origin(kind) is tuple:
        inner = [one for one in parts if one is not Ellipsis]
        several = "list of" if Ellipsis in parts else f"{len(inner)} ×"
        return f"{several} {_spelt(inner[0])}"
    return str(kind.__name__)


def _shape(protocol: type[Protocol[Any]]) -> type[Protocol[Any]]:
    return next(one for one in _SHAPES if issubclass(protocol, one))


def _named(kinds: Mapping[str, type]) -> str:
    return ", ".join(f"`{n}` ({kind.__name__})" for n, kind in kinds.items()) or "none"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{one}`" for one in names)


if __name__ == "__main__":
    PAGE.write_text(protocols_page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
