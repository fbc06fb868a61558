from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from icestream.streaming.dispatch import product_stem
from icestream.streaming.execution import Artifact, Outcome, TaskId
from icestream.streaming.ledger import Ledger
from icestream.streaming.leftovers import sweep_leftovers
from icestream.streaming.protocol import AcquisitionView, Context

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = "0123456789abcdef0123456789abcdef"
KEYS = (
    "grid/a.mrc",
    "grid/.hidden.mrc",
    "grid/deep/er/a.b.c.tif",
    "grid/x.0123456789ab.partial.mrc",
    "grid/.x.0123456789ab.partial.mrc",
    "grid/../up.mrc",
    "grid/a\nb.mrc",
)


def context(folder: Path, key: str) -> Context:
    return Context(
        key=key,
        acquisition=AcquisitionView({}),
        session_folder=folder,
        product_stem=product_stem(TaskId("run", key, CONTENT, 1)),
    )


def store(path: Path, product: str) -> None:
    """Store a product as that of a task which was done."""
    artifact = Artifact(path=product, size_bytes=1, keep="keep")
    ledger = Ledger(path)
    try:
        with ledger.transaction() as transaction:
            transaction.add_outcome(
                Outcome(task=TaskId("run", "key", CONTENT, 1), artifacts=[artifact])
            )
    finally:
        ledger.close()


@pytest.mark.parametrize("ending", [".mrcs", "", ".jpg", "_even.tar.gz", ".partial"])
@pytest.mark.parametrize("key", KEYS)
def test_what_is_half_goes_and_what_is_finished_stays(
    tmp_path: Path, key: str, ending: str
) -> None:
    product = context(tmp_path, key).product(ending)
    finished = tmp_path / product.path
    writers = product.temporary.with_name(f".{product.temporary.name}.0a1b2c3d.part")
    for one in (finished, product.temporary, writers):
        one.write_text("x")
    store(tmp_path / "ledger.db", product.path)
    assert sweep_leftovers(tmp_path, tmp_path / "ledger.db") == 2
    products = (tmp_path / "products").rglob("*")
    assert [one for one in products if one.is_file()] == [finished]


def test_a_name_that_is_no_text_is_nobodys_leftover(tmp_path: Path) -> None:
    folder = context(tmp_path, "grid/a.mrc").product(".mrc").temporary.parent
    odd = folder / f".\udc80.{CONTENT[:12]}.partial.mrc"
    ours = folder / f".a.{CONTENT[:12]}.partial.mrc"
    for one in (odd, ours):
        one.write_text("x")
    store(tmp_path / "ledger.db", "products/other")
    assert sweep_leftovers(tmp_path, tmp_path / "ledger.db") == 1
    assert list(folder.iterdir()) == [odd]


def test_products_that_are_a_link_are_not_swept(tmp_path: Path) -> None:
    elsewhere, copy = tmp_path / "original" / "products", tmp_path / "copy"
    elsewhere.mkdir(parents=True)
    at_work = elsewhere / f".a.{CONTENT[:12]}.partial.mrc"
    at_work.write_text("x")
    copy.mkdir()
    (copy / "products").symlink_to(elsewhere)
    store(copy / "ledger.db", "products/other")
    assert sweep_leftovers(copy, copy / "ledger.db") == 0
    assert at_work.exists()


def test_nothing_outside_the_products_is_swept(tmp_path: Path) -> None:
    raw = tmp_path / f".a.{CONTENT[:12]}.partial.mrc"
    raw.write_text("x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / raw.name).write_text("x")
    (tmp_path / "products").mkdir()
    (tmp_path / "products" / "link").symlink_to(tmp_path / "elsewhere")
    ledger = tmp_path / "ledger.db"
    assert sweep_leftovers(tmp_path, ledger) == 0
    assert sweep_leftovers(tmp_path / "absent", ledger) == 0
