"""What each protocol says of itself: on its page, and whose method it follows."""

from __future__ import annotations

import re

import pytest

from icestream.app.registry import find_protocol, protocol_names
from protocols_page import PAGE, protocols_page

_COMPUTES = ("correct_", "estimate_", "pick_", "extract_", "classify_")


def test_the_page_is_what_the_protocols_say() -> None:
    said = PAGE.read_text(encoding="utf-8")
    assert said == protocols_page(), "run: python tests/protocols_page.py"


@pytest.mark.parametrize(
    "name", [one for one in protocol_names() if one.startswith(_COMPUTES)]
)
def test_what_computes_says_whose_method_it_follows(name: str) -> None:
    citation = find_protocol(name).citation
    assert re.match(r"\w+ [A-Z]+.* \((19|20)\d\d\)\. ", citation), "author (year)."
    assert re.search(r" \d+, \d+-\d+", citation), "volume, pages"


@pytest.mark.parametrize("name", protocol_names())
def test_every_parameter_says_what_it_means(name: str) -> None:
    for field, about in find_protocol(name).Params.model_fields.items():
        assert about.description, f"{name}.{field}"
