"""The protocols that are installed, and what each can be told."""

from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from rich.console import Console

from icestream.app.registry import find_protocol, protocol_names
from icestream.cli.output import make_table, stdout
from icestream.streaming.protocol import Protocol

__all__ = ["protocols_command"]


def protocols_command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Explain this one.")
    ] = None,
) -> None:
    """List the protocols, or explain one: its parameters, inputs and outputs."""
    console = stdout()
    if name is not None:
        _explain(console, find_protocol(name))
        return
    table = make_table("protocol", "what it does")
    for one in protocol_names():
        table.add_row(one, find_protocol(one).summary())
    console.print(table)


def _explain(console: Console, protocol: type[Protocol[Any]]) -> None:
    console.print(f"{protocol.name}: {protocol.summary()}", markup=False)
    for title, kinds in (
        ("inputs", {name: one.kind for name, one in protocol.inputs.items()}),
        ("outputs", protocol.outputs),
    ):
        named = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
        if named:
            console.print(f"{title}: {named}", markup=False)
    fields = protocol.Params.model_fields
    if fields:
        table = make_table("parameter", "type", "default", "meaning")
        for name, field in fields.items():
            table.add_row(name, _type_name(field), _default(field), field.description)
        console.print()
        console.print(table)
    if protocol.citation:
        console.print(f"\nPlease cite: {protocol.citation}", markup=False)


def _type_name(field: FieldInfo) -> str:
    kind = field.annotation
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else repr(field.get_default())
