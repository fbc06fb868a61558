"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AmplitudeContrast",
    "Files",
    "Json",
    "PixelSize",
    "SessionDir",
    "SphericalAberration",
    "Voltage",
    "with_absolute_path",
]

# Values of a session that are paths, and what says that there is none.
_PATHS = {
    "sources": ("folder", "metadata_folder", "gain"),
    "setups": ("gain", "defects"),
}
_NOTHING = ("", "null", "~")

SessionDir = Annotated[
    Path,
    typer.Argument(
        metavar="SESSION_DIR", help="The session's folder.", show_default="this folder"
    ),
]
Files = Annotated[
    list[Path], typer.Argument(metavar="FILE", help="Images: MRC, TIFF or PNG.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON for machines, and nothing else.")
]
PixelSize = Annotated[
    float, typer.Option(help="Pixel size of the files, Å/px.", show_default=False)
]
Voltage = Annotated[
    float, typer.Option(help="Acceleration voltage, kV.", show_default=False)
]
SphericalAberration = Annotated[
    float, typer.Option(help="Spherical aberration Cs, mm.")
]
AmplitudeContrast = Annotated[
    float, typer.Option(help="Fraction of amplitude contrast, 0 to 1.")
]


def with_absolute_path(change: str) -> str:
    """Let a path in ``NAME=VALUE`` be named from where the user stands."""
    name, equals, value = change.partition("=")
    words = name.split(".")
    if words[-1] not in _PATHS.get(words[0], ()) or value.strip() in _NOTHING:
        return change
    return f"{name}{equals}{Path(value).expanduser().absolute()}"
