"""What stands in a session's ``session.yaml``, and how it is made and changed."""

from __future__ import annotations

import contextlib
import io
import uuid
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from icestream.app.registry import find_protocol
from icestream.domain import AcquisitionSetup
from icestream.domain.acquisition import is_one_gain
from icestream.domain.arrangement import Arrangement
from icestream.domain.errors import BadSettings, FolderUnavailable, cannot_write
from icestream.domain.precedence import CalibratedPixel  # noqa: TC001 - as above
from icestream.streaming.plan import Plan, Run
from icestream.streaming.protocol import Source
from icestream.streaming.workflow import Port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = [
    "Settings",
    "draft_settings",
    "new_settings",
    "read_settings",
    "store_settings",
    "template_names",
]

_SCHEMA_VERSION = 1
_SOURCES = "sources"
_SECTIONS = ("setups", _SOURCES)
# Stands in for what a setup that opens takes from another.
_SOME_SETUP = {"pixel_size_angst": 1.0, "voltage_kv": 300.0}
_SETUPS = TypeAdapter(dict[str, AcquisitionSetup], config=ConfigDict(extra="forbid"))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSettings(BaseModel):
    """One source; what else stands there are its protocol's parameters.

    ``setup`` is the name of an acquisition setup: by default the source's own. A
    protocol that has a parameter of this name gets it too, and so with the setup's
    ``gain``, whose place one of its own takes.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    protocol: str = "watch_folder"
    setup: str | None = None


class RunSettings(_Strict):
    """One run of the workflow."""

    protocol: str
    inputs: dict[str, str | list[str]] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)


class Settings(_Strict):
    """A session's settings.

    ``id`` says whose the ledger is, wherever the session is moved; ``ledger`` names a
    folder on a local disk where the session's own is not one; ``slots`` how many tasks
    run at a time (by default one a core). ``calibration`` is the site's table of pixel
    sizes, which goes before setups and metadata. ``setups`` hold fields of
    `AcquisitionSetup`: all that a source needs, or what is said of one that opens.
    """

    schema_version: int = _SCHEMA_VERSION
    id: str | None = Field(default=None, min_length=1)
    title: str = "Session"
    ledger: str | None = None
    slots: int | None = Field(default=None, ge=1, le=1024)
    calibration: tuple[CalibratedPixel, ...] = ()
    setups: dict[str, dict[str, Any]]
    sources: dict[str, SourceSettings]
    runs: dict[str, RunSettings]

    @model_validator(mode="after")
    def _have_what_is_needed(self) -> Self:
        """Check each setup; one that no source has may leave some to another."""
        of_sources = {one.setup or name for name, one in self.sources.items()}
        if any("name" in told for told in self.setups.values()):
            raise ValueError("a setup's name is the word before it; give no other")
        whole = {
            name: ({} if name in of_sources else _SOME_SETUP) | {"name": name} | told
            for name, told in self.setups.items()
        }
        try:
            checked = _SETUPS.validate_python(whole)
        except ValidationError as error:
            raise ValueError(f"setups.{_first(error)}") from error
        for name, setup in checked.items():
            if name not in of_sources and setup.gain and not is_one_gain(setup.gain):
                raise ValueError(
                    f"setups.{name}.gain: {setup.gain!r} is no gain file but a folder "
                    "or a pattern, and only sources look into those: name one file, or "
                    "give it to the setup of the source"
                )
            told = self.setups[name]
            told.update({field: getattr(setup, field) for field in told})
        return self

    @classmethod
    def parse(cls, text: str, *, where: str) -> Settings:
        """Check the text of a settings file.

        Raises
        ------
        BadSettings
            It is no YAML, of a newer version, or a value cannot be; says which.
        """
        values = _loaded(YAML(typ="safe"), text, where=where)
        version = values.get("schema_version", _SCHEMA_VERSION)
        if version != _SCHEMA_VERSION:
            raise BadSettings(
                f"{where} has schema version {version}; this program knows "
                f"{_SCHEMA_VERSION}.",
                hint="Use the icestream that made it, or a newer one.",
            )
        try:
            return cls.model_validate(values)
        except ValueError as error:
            raise BadSettings(f"{where}: {_first(error)}.") from error

    def plan(self) -> Plan:
        """Configure all runs.

        Raises
        ------
        BadSettings
            A setup, source, protocol, parameter or connection cannot be.
        """
        if not self.sources:
            raise BadSettings(
                "The session has no source.",
                hint="Add one: --set sources.NAME.folder=/path/to/images "
                "--set setups.NAME.pixel_size_angst=0.885 "
                "--set setups.NAME.voltage_kv=300.",
            )
        sources = [self._source(name) for name in self.sources]
        fed = tuple(Port(one.spec.name, one.spec.outputs[0]) for one in sources)
        named = frozenset(one.acquisition["setup"] for one in sources)
        arrangement = Arrangement(
            declared={n: told for n, told in self.setups.items() if n not in named},
            of_sources=named,
            calibration=self.calibration,
        )
        runs = [*sources, *(self._run(name, fed) for name in self.runs)]
        return Plan(runs, arrangement=arrangement)

    def _source(self, name: str) -> Run:
        one = self.sources[name]
        setup = name if one.setup is None else one.setup
        if name in self.runs:
            raise BadSettings(f"Source {name!r} has the name of a run.")
        if setup not in self.setups:
            raise BadSettings(
                f"Source {name!r} has setup {setup!r}, which is not defined.",
                hint=f"--set setups.{setup}.pixel_size_angst=... and voltage_kv=...",
            )
        protocol = find_protocol(one.protocol)
        if not issubclass(protocol, Source) or len(protocol.outputs) != 1:
            raise BadSettings(
                f"Source {name!r}: protocol {one.protocol!r} is no source of one kind.",
                hint="Name a class made from Source with one output; steps are `runs`.",
            )
        params = dict(one.model_extra or {})
        if "setup" in protocol.Params.model_fields:
            params["setup"] = setup
        fields = asdict(AcquisitionSetup(name=setup, **self.setups[setup]))
        fields["setup"] = fields.pop("name")
        if "gain" in protocol.Params.model_fields:
            fields["gain"] = params.setdefault("gain", fields["gain"])
        else:
            fields |= {"has_own_gain": True, "own_gain": fields["gain"]}
        return Run.of(name, protocol, params=params, acquisition=fields)

    def _run(self, name: str, fed: tuple[Port, ...]) -> Run:
        one = self.runs[name]
        inputs = {
            key: _ports(name, [text] if isinstance(text, str) else text, fed)
            for key, text in one.inputs.items()
        }
        return Run.of(
            name, find_protocol(one.protocol), params=one.params, inputs=inputs
        )


def template_names() -> list[str]:
    """Return the names of the templates that come with the program."""
    folder = files("icestream.app") / "templates"
    return sorted(
        one.name.removesuffix(".yaml")
        for one in folder.iterdir()
        if one.name.endswith(".yaml")
    )


def new_settings(template: str, changes: Sequence[str]) -> str:
    """Fill in a template.

    Parameters
    ----------
    template
        Name of a template that comes with the program, or path of a file.
    changes
        ``section.name.field=value`` or ``run.param=value``; values are YAML.

    Returns
    -------
    str
        The text of a settings file, with an id of its own.

    Raises
    ------
    BadSettings
        There is no such template, or a change or its result cannot be.
    """
    if template in template_names():
        source = files("icestream.app") / "templates" / f"{template}.yaml"
        text = source.read_text(encoding="utf-8")
    else:
        try:
            with open(template, encoding="utf-8") as file:  # noqa: PTH123 - user's text
                text = file.read()
        except OSError as error:
            raise BadSettings(
                f"There is no template {template!r} ({error.strerror}).",
                hint=f"There are: {', '.join(template_names())}; or give a file.",
            ) from error
    where = f"template {template}"
    values = _loaded(_editor(), text, where=where)
    values.pop("id", None)
    values.insert(1, "id", str(uuid.uuid4()), comment="whose the ledger is; leave it")
    return _changed(values, changes, where=where)


def draft_settings(path: Path, changes: Sequence[str]) -> tuple[Settings, str | None]:
    """Return a settings file with changes, parsed and as text; nothing is written.

    The text is ``None`` where the file has these values already.

    Raises
    ------
    BadSettings
        A change or its result cannot be.
    """
    where, before = str(path), read_settings(path)
    text = _changed(_loaded(_editor(), before, where=where), changes, where=where)
    settings = Settings.parse(text, where=where)
    is_same = settings == Settings.parse(before, where=where)
    return settings, None if is_same else text


def read_settings(path: Path) -> str:
    """Return the text of a settings file.

    Raises
    ------
    FolderUnavailable
        It is not there, or there is no permission to read it.
    BadSettings
        It is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FolderUnavailable(
            f"{path} cannot be read: {error.strerror or error}.",
            hint="Bring it back, or ask its owner for permission.",
        ) from error
    except UnicodeDecodeError as error:
        raise BadSettings(
            f"{path} is no text in UTF-8: {error.reason} at byte {error.start}.",
            hint="Save it as UTF-8.",
        ) from error


def store_settings(path: Path, text: str) -> None:
    """Replace a settings file, at once or not at all.

    Raises
    ------
    FolderUnavailable
        It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def _editor() -> YAML:
    """Return a reader and writer that keeps comments."""
    yaml = YAML()
    yaml.width = 88
    return yaml


def _loaded(yaml: YAML, text: str, *, where: str) -> Any:  # noqa: ANN401 - a YAML tree
    try:
        values = yaml.load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise BadSettings(f"{where} is no YAML: {error}.") from error
    if not isinstance(values, dict):
        raise BadSettings(
            f"{where} holds no settings.",
            hint="It needs setups, sources and runs; `icestream new` makes one.",
        )
    return values


def _changed(values: Any, changes: Sequence[str], *, where: str) -> str:  # noqa: ANN401
    for change in changes:
        _apply(values, change)
    out = io.StringIO()
    _editor().dump(values, out)
    Settings.parse(out.getvalue(), where=where).plan()
    return out.getvalue()


def _apply(values: Any, change: str) -> None:  # noqa: ANN401 - a YAML tree
    name, equals, text = change.partition("=")
    path = _path(name)
    if not equals or not all(path):
        raise BadSettings(
            f"Cannot read {change!r}.",
            hint="Write run.param=value, sources.NAME.folder=PATH or "
            "setups.NAME.pixel_size_angst=0.885.",
        )
    try:
        value = YAML(typ="safe").load(text)
    except YAMLError as error:
        raise BadSettings(
            f"The value in {change!r} is no YAML: {_in_short(error)}.",
            hint="Quote what is meant as text; lists look like '[110, 140]'.",
        ) from error
    if len(path) == 1 and path[0] in Settings.model_fields:
        values[path[0]] = value
        return
    if path[0] in _SECTIONS and len(path) == 3:
        target = values[path[0]]
        if not target:
            values[path[0]] = target = {}
        target.setdefault(path[1], {})[path[2]] = value
        return
    if path[0] in values["runs"] and len(path) >= 2:
        _put(values["runs"][path[0]], ["params", *path[1:]], value)
        return
    if path[0] in (values[_SOURCES] or {}) and len(path) == 2:
        values[_SOURCES][path[0]][path[1]] = value
        return
    known = [*values["runs"], "setups.NAME", "sources.NAME"]
    raise BadSettings(
        f"There is nothing called {name!r} to set.",
        hint=f"Known: {', '.join(known)}.",
    )


def _put(values: Any, path: Sequence[str], value: object) -> None:  # noqa: ANN401
    """Set a value within mappings, some of which may have to be made."""
    for name in path[:-1]:
        if not isinstance(values.get(name), dict):
            values[name] = {}
        values = values[name]
    values[path[-1]] = value


def _path(name: str) -> list[str]:
    """Return the parts of what is to be set; names of setups may have dots."""
    path = name.strip().split(".")
    if path[0] in _SECTIONS and len(path) > 3:
        return [path[0], ".".join(path[1:-1]), path[-1]]
    return path


def _ports(run: str, texts: Sequence[str], fed: tuple[Port, ...]) -> tuple[Port, ...]:
    ports: list[Port] = []
    for text in texts:
        name, dot, output = text.partition(".")
        if text == _SOURCES:
            ports.extend(fed)
        elif dot:
            ports.append(Port(name, output))
        else:
            raise BadSettings(
                f"Run {run!r}: {text!r} is no output.",
                hint="Write run.output, or `sources` for the files of all sources.",
            )
    return tuple(ports)


def _in_short(error: YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    return str(problem or str(error).partition("\n")[0])


def _first(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    one = errors()[0]
    where = ".".join(str(part) for part in one["loc"])
    said = str(one["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said
