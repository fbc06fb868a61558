"""Hand something to other processes: its tensors lie in files that all of them map.

Memory is used once, however many processes there are, and none of it is shared memory,
of which containers have little.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from icestream.io import guarding_writes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["pack", "unpack"]

_NAME = "all"


class _Stored(NamedTuple):
    """What makes a tensor of a file's bytes."""

    file: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    device: str


def pack(thing: object, folder: Path) -> None:
    """Write something that can be pickled, and all tensors in it, to a folder.

    Parameters
    ----------
    thing
        What; it is not changed.
    folder
        Where to; made if absent.

    Raises
    ------
    DiskFull, FolderUnavailable
        A file could not be written.
    """
    with guarding_writes(folder / _NAME):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _NAME).open("wb") as file:
            _Packer(file, folder).dump(thing)


def unpack(folder: Path) -> Any:  # noqa: ANN401 - whatever was packed
    """Return what was packed; pages of its tensors are read when they are used."""
    with (folder / _NAME).open("rb") as file:
        return _Unpacker(file, folder).load()


class _Packer(pickle.Pickler):
    def __init__(self, file: Any, folder: Path) -> None:  # noqa: ANN401
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._folder = folder
        self._stored: dict[int, _Stored] = {}

    def persistent_id(self, thing: object) -> _Stored | None:
        if not isinstance(thing, Tensor):
            return None
        if id(thing) not in self._stored:
            self._stored[id(thing)] = self._store(thing)
        return self._stored[id(thing)]

    def _store(self, tensor: Tensor) -> _Stored:
        """Write all the memory behind it, so that its order in memory stays."""
        name = f"{len(self._stored)}.bin"
        on_cpu = tensor.detach().cpu()
        memory = torch.empty(0, dtype=torch.uint8).set_(on_cpu.untyped_storage())
        memory.numpy().tofile(self._folder / name)
        return _Stored(
            file=name,
            dtype=on_cpu.dtype,
            offset=int(on_cpu.storage_offset()),
            shape=tuple(on_cpu.shape),
            stride=on_cpu.stride(),
            device=str(tensor.device),
        )


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: Any, folder: Path) -> None:  # noqa: ANN401
        super().__init__(file)
        self._folder = folder
        self._loaded: dict[str, Tensor] = {}

    def persistent_load(self, stored: _Stored) -> Tensor:
        if stored.file not in self._loaded:
            self._loaded[stored.file] = self._load(stored)
        return self._loaded[stored.file]

    def _load(self, stored: _Stored) -> Tensor:
        path = self._folder / stored.file
        count = path.stat().st_size // stored.dtype.itemsize
        if not count:
            return torch.empty(stored.shape, dtype=stored.dtype, device=stored.device)
        memory = torch.from_file(str(path), size=count, dtype=stored.dtype)
        tensor = memory.as_strided(stored.shape, stored.stride, stored.offset)
        return tensor.to(stored.device)
