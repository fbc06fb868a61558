"""LZW by our own loop: what imagecodecs encodes comes back, damage stays inside."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icestream.compiled import compiled
from icestream.io.access import SPARE_BYTES
from icestream.io.lzw import decode_lzw

GUARD = np.uint64(0x5A5A5A5A5A5A5A5A)


def decoded(strip: bytes, size: int) -> bytes:
    """Decode; nothing beyond the promised spare bytes may have been touched."""
    data = np.frombuffer(strip + b"\xa5" * SPARE_BYTES, np.uint8)
    words = np.full(-(-(size + SPARE_BYTES) // 8) + 4, GUARD)
    count = decode_lzw(data, len(strip), words, size)
    assert (words[-4:] == GUARD).all()
    assert count <= size
    return words.view(np.uint8)[:count].tobytes()


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.6, 5.0, 60.0])
@pytest.mark.parametrize("size", [1, 7, 8, 9, 4097, 200_003])
def test_counts_come_back(rate: float, size: int) -> None:
    """From strings of hundreds of zeros to a table that is cleared all the time."""
    generator = np.random.default_rng(size)
    content = generator.poisson(rate, size).astype(np.uint8).tobytes()
    assert decoded(bytes(imagecodecs.lzw_encode(content)), size) == content


@given(
    alphabet=st.integers(1, 256),
    size=st.integers(1, 6000),
    seed=st.integers(0, 2**32 - 1),
    period=st.integers(1, 40),
)
def test_anything_comes_back(alphabet: int, size: int, seed: int, period: int) -> None:
    """Repeats too: a code that stands for the string that is just being made."""
    generator = np.random.default_rng(seed)
    part = generator.integers(0, alphabet, max(size // period, 1), dtype=np.uint8)
    content = np.resize(part, size).tobytes()
    assert decoded(bytes(imagecodecs.lzw_encode(content)), size) == content


def test_a_strip_may_hold_more_than_is_asked_for() -> None:
    content = np.random.default_rng(1).poisson(0.1, 5000).astype(np.uint8).tobytes()
    strip = bytes(imagecodecs.lzw_encode(content))
    for size in (1, 3, 100, 2049, 4999):
        assert decoded(strip, size) == content[:size]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99])
def test_a_strip_that_is_cut_gives_its_beginning(share: float) -> None:
    content = np.random.default_rng(1).poisson(1.0, 50_000).astype(np.uint8).tobytes()
    strip = bytes(imagecodecs.lzw_encode(content))
    found = decoded(strip[: int(share * len(strip))], len(content))
    assert len(found) < len(content)
    assert content.startswith(found)


@settings(max_examples=300)
@given(strip=st.binary(max_size=3000), size=st.integers(1, 9000))
def test_rubbish_stays_inside(strip: bytes, size: int) -> None:
    decoded(strip, size)
    decoded(b"\x80" + strip, size)  # begins as it should


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 5))
def test_damage_stays_inside(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    content = generator.poisson(0.1, 20_000).astype(np.uint8).tobytes()
    strip = bytearray(imagecodecs.lzw_encode(content))
    for place in generator.integers(0, len(strip), count):
        strip[place] = generator.integers(0, 256)
    decoded(bytes(strip), len(content))


def one_more(number: int) -> int:
    return number + 1


def test_loops_are_compiled_where_nothing_can_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = numba.njit

    def njit(*given: Any, cache: bool = False, **how: Any) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*given, **how)

    monkeypatch.setattr(numba, "njit", njit)
    quick = compiled(one_more)
    assert quick is not one_more
    assert quick(4) == 5
