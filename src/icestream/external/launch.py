"""Become a program that ends with the thread that started it.

This runs in a fresh interpreter: doing the same between fork and exec is not safe in a
process with threads.
"""

from __future__ import annotations

import os
import sys

from icestream.streaming.processes import die_before_others, die_with_parent

__all__ = ["main"]


def main() -> None:
    """Take the process id of the parent and a command, and become that command."""
    parent, *command = sys.argv[1:]
    die_with_parent(int(parent))
    die_before_others()
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
