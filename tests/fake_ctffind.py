"""A program that asks what CTFFIND asks, in its order, and writes what it writes.

It fits nothing: the defocus that it tells follows from what it was told, so that a test
sees whether each answer came to its question.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PROGRAM = """#!{python}
import math, os, sys

version = {version!r}
print("\\n        **   Welcome to Ctffind   **\\n")
print("            Version :", version)
print("               Mode : Scripted\\n", flush=True)


def ask(question, kind):
    line = sys.stdin.readline()
    if not line:
        sys.exit("Error: no answer to: " + question)
    answer = line.strip()
    print(question.ljust(50), ":", answer, flush=True)
    if kind is bool:
        if answer not in ("yes", "no"):
            sys.exit("Error: yes or no: " + question)
        return answer == "yes"
    try:
        return kind(answer)
    except ValueError:
        sys.exit("Error: cannot be read: " + question)


image = ask("Input image file name", str)
output = ask("Output diagnostic image file name", str)
names = ("Pixel size", "Acceleration voltage", "Spherical aberration",
         "Amplitude contrast", "Size of amplitude spectrum to compute",
         "Minimum resolution", "Maximum resolution", "Minimum defocus",
         "Maximum defocus", "Defocus search step")
told = [ask(one, float) for one in names]
assert not ask("Do you know what astigmatism is present?", bool)
ask("Slower, more exhaustive search?", bool)
if ask("Use a restraint on astigmatism?", bool):
    ask("Expected (tolerated) astigmatism", float)
phase = 0.0
number = tuple(int(one) for one in version.split(".")[:3])
if ask("Find additional phase shift?", bool):
    low = ask("Minimum phase shift (rad)", float)
    high = ask("Maximum phase shift (rad)", float)
    ask("Phase shift search step (rad)", float)
    phase = (low + high) / 2
elif number >= (4, 1, 15):
    assert not ask("Determine sample tilt?", bool)
if number >= (5, 0, 0):
    assert not ask("Determine samnple thickness?", bool)
assert not ask("Do you want to set expert options?", bool)
if sys.stdin.read().strip():
    sys.exit("Error: more answers than questions")
if not os.path.isfile(image):
    sys.exit("Error: no such image")
{trouble}
u = 10000 + told[1]
v = 9000 + 1000 * told[0]
row = [1, u, v, -14.85, phase, 0.15, 4.5] + [0.0] * (3 * (number[0] == 5))
kind = "spectrum" if "--amplitude-spectrum-input" in sys.argv else "image"
with open(os.path.splitext(output)[0] + ".txt", "w") as file:
    file.write("# Output from CTFFind version " + version + " of an " + kind + "\\n")
    file.write("# Columns: #1 - micrograph number; ...\\n")
    file.write(" ".join("%f" % one for one in row) + "\\n")
"""


def write_ctffind(folder: Path, *, version: str = "5.0.2", trouble: str = "") -> Path:
    """Write the program of a version into a folder; return its path.

    Parameters
    ----------
    folder
        Where it is to lie.
    version
        What it says that it is, and asks like.
    trouble
        Lines of Python that it runs before it writes its table.
    """
    path = folder / "ctffind"
    text = _PROGRAM.format(python=sys.executable, version=version, trouble=trouble)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    assert os.access(path, os.X_OK)
    return path
