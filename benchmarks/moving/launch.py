"""Run a program; write how long it took, on how many processors, in what memory.

A process of its own and small, since the peak of a child's memory begins with that of
the process that starts it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    told, log, *command = sys.argv[1:]
    start = time.monotonic()
    with Path(log).open("wb") as output:
        status = subprocess.call(command, stdout=output, stderr=output)
    seconds = time.monotonic() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    usage = {
        "wall_s": seconds,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_gib": used.ru_maxrss / 2**20,
    }
    Path(told).write_text(json.dumps(usage), encoding="ascii")
    sys.exit(status)


if __name__ == "__main__":
    main()
