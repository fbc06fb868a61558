"""Write DM3 and DM4 files as DigitalMicrograph does: a tree of tags."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODE_OF_DTYPE = {"int16": 1, "float32": 2, "uint8": 6, "int32": 7, "int8": 9}
CODE_OF_DTYPE |= {"uint16": 10, "uint32": 11, "float64": 12, "rgb": 23}
_ENCODED = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "i1": 9, "u1": 10}

Tag: TypeAlias = "list[tuple[str, Tag]] | bytes"


@dataclass(frozen=True)
class Writer:
    """One version of the format, one byte order of values."""

    version: int = 4
    is_little: bool = True

    @property
    def order(self) -> Literal["<", ">"]:
        return "<" if self.is_little else ">"

    def length(self, *values: int) -> bytes:
        return struct.pack(f">{len(values)}{'IQ'[self.version == 4]}", *values)

    def value(self, info: list[int], raw: bytes) -> bytes:
        return b"%%%%" + self.length(len(info), *info) + raw

    def number(self, value: int) -> bytes:
        return self.value([5], struct.pack(f"{self.order}I", value))

    def array(self, values: NDArray[Any]) -> bytes:
        code = _ENCODED[values.dtype.str[1:]]
        raw = values.astype(values.dtype.newbyteorder(self.order)).tobytes()
        return self.value([20, code, values.size], raw)

    def text(self, words: str) -> bytes:
        return self.array(np.frombuffer(words.encode("utf-16-le"), dtype="<u2"))

    def pairs(self, count: int) -> bytes:
        """An array of structures of a 16-bit and a 32-bit number."""
        info = [20, 15, 0, 2, 0, 2, 0, 3, count]
        return self.value(info, bytes(6 * count))

    def directory(self, tags: Tag) -> bytes:
        if isinstance(tags, bytes):
            return tags
        return b"\1\0" + self.length(len(tags)) + b"".join(map(self.entry, tags))

    def entry(self, tag: tuple[str, Tag]) -> bytes:
        label, content = tag
        body = self.directory(content)
        kind = 21 if isinstance(content, bytes) else 20
        size = self.length(len(body)) if self.version == 4 else b""
        head = struct.pack(">BH", kind, len(label)) + label.encode("latin-1")
        return head + size + body

    def scale(self) -> Tag:
        size = self.value([6], struct.pack(f"{self.order}f", 0.1))
        return [("Origin", self.number(0)), ("Scale", size), ("Units", self.text("nm"))]

    def image(self, pixels: NDArray[Any], *, kind: str = "") -> Tag:
        height, width = pixels.shape
        return [
            (
                "ImageData",
                [
                    ("Calibrations", [("Dimension", [("", self.scale())] * 2)]),
                    ("Data", self.array(pixels.reshape(-1))),
                    ("DataType", self.number(CODE_OF_DTYPE[kind or pixels.dtype.name])),
                    (
                        "Dimensions",
                        [("", self.number(width)), ("", self.number(height))],
                    ),
                    ("PixelDepth", self.number(pixels.itemsize)),
                ],
            ),
            ("Name", self.text("Gain Ref")),
        ]

    def file(self, tags: Tag) -> bytes:
        root = self.directory(tags)
        head = struct.pack(">I", self.version) + self.length(len(root))
        return head + struct.pack(">I", int(self.is_little)) + root + bytes(8)

    def gain(self, pixels: NDArray[Any]) -> bytes:
        """A file with a small picture, some other tags, and the gain."""
        picture = np.zeros((8, 8), dtype=np.int32)
        return self.file(
            [
                ("ApplicationBounds", self.pairs(2)),
                ("HasWindowPosition", self.value([8], b"\1")),
                ("Corner", self.value([15, 0, 2, 0, 6, 0, 6], bytes(8))),
                ("Nested", self.value([20, 20, 4, 3, 2], bytes(12))),
                (
                    "ImageList",
                    [("", self.image(picture, kind="rgb")), ("", self.image(pixels))],
                ),
                ("InImageMode", self.number(1)),
            ]
        )
