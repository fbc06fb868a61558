"""Options made from a protocol's parameters: one model, no second description."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from icestream.streaming.protocol import Protocol

__all__ = ["with_params"]


def with_params(
    protocol: type[Protocol[Any]], *, without: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each parameter of a protocol.

    The command takes them, checked, as its keyword ``params``. Names, types, defaults
    and descriptions are those of the protocol's model. Those named in ``without`` get
    no option and keep their defaults.
    """
    every = protocol.Params.model_fields
    fields = {name: field for name, field in every.items() if name not in without}
    made = [_option(name, field, protocol.name) for name, field in fields.items()]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [one for one in signature.parameters.values() if one.name != "params"]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in fields if name in given}
            command(**given, params=protocol.parse(values))

        parameters = [*own, *made]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        del run.__wrapped__
        return run

    return decorate


def _option(name: str, field: FieldInfo, protocol: str) -> inspect.Parameter:
    required = field.is_required()
    info = typer.Option(
        help=field.description,
        rich_help_panel=f"Parameters of {protocol}",
        show_default=not required and field.get_default() is not None,
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else field.get_default(),
        annotation=Annotated[field.annotation, info],
    )
