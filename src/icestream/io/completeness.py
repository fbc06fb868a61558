"""Is a file complete? A structural check that reads only the header and the tail.

It cannot see a file that was allocated in full and is being filled when its last bytes
are already written, nor bytes that are to come behind a valid end. So it stands beside
the rule that size and time of a file no longer change, never in place of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icestream.domain.errors import IncompleteFile
from icestream.io.access import read_at
from icestream.io.formats import opened_image

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["check_complete"]

_TAIL_BYTES = 4096


def check_complete(path: Path) -> None:
    """Check that an image is all there, by its structure.

    Parameters
    ----------
    path
        MRC, TIFF, EER or PNG; movies too.

    Raises
    ------
    IncompleteFile
        Shorter than its header says, a broken chain of directories or chunks, or
        nothing but zeros in its last 4 KiB (of a small file: its last eighth).
    UnreadableFile
        An unknown suffix, other content than it promises, or no permission.

    Notes
    -----
    MRC: header and length, which may be more than needed. TIFF, BigTIFF: the chain of
    directories ends and every strip or tile lies in the file. EER: that too, and no
    fewer frames than its camera counted. PNG: the chain of chunks reaches its end
    chunk.
    """
    with opened_image(path) as (reader, file):
        end_bytes = reader.data_end_bytes(file, path)
        tail_bytes = max(min(_TAIL_BYTES, end_bytes // 8), 1)
        tail = read_at(file, end_bytes - tail_bytes, tail_bytes)
    if not any(tail):
        raise IncompleteFile(
            f"{path} ends in {tail_bytes} bytes of zeros: allocated, not yet filled.",
            hint="Wait until it is written, or transfer it again.",
        )
