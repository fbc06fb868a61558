"""The command line: the front door on a terminal. `main` is the program."""

from icestream.cli.app import main

__all__ = ["main"]
