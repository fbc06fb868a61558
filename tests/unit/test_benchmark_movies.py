"""The movies that a benchmark keeps are used again only while they are the same."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def movies(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("moving.movies")


@pytest.mark.parametrize("changed", ["recipe", "seed", "simulator"])
def test_movies_made_otherwise_have_other_names(
    movies: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: str
) -> None:
    def files() -> set[Path]:
        movies.made_by.cache_clear()
        one = movies.Exposed(size="k3", number=1, folder=tmp_path)
        return {one.gain, one.truth, one.movie(is_damaged=True)}

    before = files()
    assert files() == before
    if changed == "recipe":
        other = replace(movies.recipe_of("k3"), particle_count=7)
        monkeypatch.setattr(movies, "recipe_of", lambda _: other)
    elif changed == "seed":
        monkeypatch.setattr(movies, "SEED", 5)
    else:
        (tmp_path / "__init__.py").write_text("LATER = 1\n")
        simulator = str(tmp_path / "__init__.py")
        monkeypatch.setattr(movies.icestream.simulate, "__file__", simulator)
    assert before.isdisjoint(files())
    monkeypatch.undo()
    assert files() == before
