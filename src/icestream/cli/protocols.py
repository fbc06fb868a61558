"""The protocols that are installed, and what each can be told."""

from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo
from rich.console import Console

from icestream.app.registry import find_protocol, protocol_names
from icestream.cli.output import make_table, say, stdout
from icestream.streaming.protocol import Protocol

__all__ = ["protocols_command"]


def protocols_command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Explain this one.")
    ] = None,
) -> None:
    """List the protocols, or explain one.

    The explanation has its parameters with types and defaults, inputs and outputs.
    """
    console = stdout()
    if name is not None:
        _explain(console, find_protocol(name))
        return
    table = make_table("protocol", "what it does")
    for one in protocol_names():
        table.add_row(one, find_protocol(one).summary())
    console.print(table)


def _explain(console: Console, protocol: type[Protocol[Any]]) -> None:
    say(console, f"{protocol.name}: {protocol.summary()}")
    for title, kinds in (
        ("inputs", {name: one.kind for name, one in protocol.inputs.items()}),
        ("outputs", protocol.outputs),
    ):
        named = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
        if named:
            say(console, f"{title}: {named}")
    fields = protocol.Params.model_fields
    if fields:
        table = make_table("parameter", "type", "default", "meaning")
        for name, field in fields.items():
            table.add_row(name, _type_name(field), _default(field), field.description)
        console.print()
        console.print(table)
    if protocol.citation:
        say(console, f"\nPlease cite: {protocol.citation}")


def _type_name(field: FieldInfo) -> str:
    kind = field.annotation
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else repr(field.get_default())
