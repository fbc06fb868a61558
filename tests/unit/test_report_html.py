from __future__ import annotations

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

import report_session
from icestream.report import read_results, write_report
from icestream.report.chart import over_time
from icestream.report.results import Snapshot, Standing
from icestream.report.series import Point, Series, thinned
from icestream.streaming.reader import LedgerReader

if TYPE_CHECKING:
    from pathlib import Path

    from icestream.report import SessionResults

HOSTILE = 'Grid <script>alert("x")</script> Fläche Ω.mrc'
VOID = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """Collects elements and fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@dataclasses.dataclass(frozen=True)
class Made:
    results: SessionResults
    folder: Path

    def page(
        self, *, results: SessionResults | None = None, running: bool = True
    ) -> Page:
        path = self.folder / "report.html"
        write_report(
            results or self.results,
            session_folder=self.folder,
            path=path,
            title="A <b>title</b>",
            running=running,
        )
        return Page(path.read_text(encoding="utf-8"))


def make(folder: Path, **plan: Any) -> Made:
    given = report_session.session_plan(folder / "acquisition", **plan)
    ledger = report_session.run_session(given, folder / "session")
    reader = LedgerReader(ledger)
    results = read_results(reader, given)
    reader.close()
    return Made(results, folder / "session")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(
        tmp_path_factory.mktemp("report"),
        counts=(24, 8),
        keys=(HOSTILE, "broken.mrc"),
        ctf_limits={"max_resolution_angst": 4.5},
    )


def test_the_page_is_whole_and_needs_no_network(made: Made) -> None:
    page = made.page()
    assert page.text.lstrip().startswith("<!doctype html>")
    assert page.all("html")[0]["lang"] == "en"
    for _, attributes in page.elements:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/", "#"))
    assert not re.search(r"url\(|@import|https?://", page.text)
    assert list(made.folder.glob(".report*")) == []


def test_a_table_that_is_too_wide_stands_upright(made: Made) -> None:
    columns = {f"value{number}": (number, None) for number in range(9)}
    wide = Snapshot(
        run="gain", summary="Wide.", columns=columns | {"hollow": ("", None)}
    )
    narrow = dataclasses.replace(wide, columns={"left": (1,), "right": (2,)})
    page = made.page(
        results=dataclasses.replace(made.results, snapshots=(wide, narrow))
    )
    rows = [one for one in page.all("th") if one.get("scope") == "row"]
    assert page.text.count('<tr><th scope="row">value') == 9 <= len(rows)
    assert ">hollow<" not in page.text, "nothing stands in it"
    assert '<th scope="col">left</th><th scope="col">right</th>' in page.text


def test_names_and_titles_cannot_write_html(made: Made) -> None:
    page = made.page()
    assert "<script>alert" not in page.text
    assert "<b>title" not in page.text
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; Fläche Ω" in page.text
    assert len(page.all("script")) == 1


def test_headings_never_skip_a_level_and_pictures_have_words(made: Made) -> None:
    page = made.page()
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all(one["alt"] for one in page.all("img"))
    assert all(
        one.get("aria-label") or one.get("aria-hidden") for one in page.all("svg")
    )


def test_picks_are_drawn_where_they_are(made: Made) -> None:
    page = made.page()
    group = made.results.gallery[0]
    # Which exposure was done last is chance.
    shown = next(one for one in group.exposures if one.source == "falcon")
    truth = report_session.true_picks(shown.key, 0.82)
    start = page.text.index('<svg class="picks"')
    drawn = page.text[start : page.text.index("</svg>", start)]
    assert 'viewBox="-0.5 -0.5 4096 4096"' in drawn
    circles = re.findall(r'cx="(\d+)" cy="(\d+)" r="(\d+)"', drawn)
    assert len(circles) == len(truth) == shown.pick_count
    for number in (0, -1):
        x, y, radius = (int(one) for one in circles[number])
        assert x == pytest.approx(truth.x_px[number], abs=0.51)
        assert y == pytest.approx(truth.y_px[number], abs=0.51)
        assert radius == pytest.approx(180 / 0.82 / 2, abs=0.51)


def test_a_rejection_tells_value_and_limit(made: Made) -> None:
    page = made.page()
    assert re.search(r"resolution \d\.\d+\u00a0Å > 4\.5\u00a0Å", _unescaped(page))
    assert "max resolution 4.5\u00a0Å" in page.text


def test_rules_are_counted_by_what_they_did(made: Made) -> None:
    exposures = made.results.exposures
    first = next(one for one in exposures if one.accepted)
    overridden = dataclasses.replace(first, override=False, standing=Standing.REJECTED)
    changed = (overridden, *(one for one in exposures if one.key != first.key))
    page = made.page(results=dataclasses.replace(made.results, exposures=changed))
    table = page.text[page.text.index("Why exposures were rejected") :]
    table = table[: table.index("</table>")]
    rows = re.findall(
        r'<th scope="row">(.*?)</th><td.*?>(\d+)</td><td.*?>(\d+)<', table
    )
    found = {rule: (int(rejected), int(noted)) for rule, rejected, noted in rows}
    assert found["by hand"] == (1, 0)
    too_coarse = sum(
        one.verdict is not None
        and not one.verdict.accepted
        and one.verdict.rule == "resolution_angst"
        for one in changed
    )
    assert found["resolution"] == (too_coarse, 0)
    assert too_coarse > 1
    assert found["ice ring ratio"][0] == 0
    assert found["ice ring ratio"][1] > 0


def test_quality_has_charts_where_it_was_measured(made: Made) -> None:
    page = made.page()
    section = page.text[page.text.index('<section id="quality"') :]
    section = section[: section.index("</section>")]
    for title in ("Mean intensity", "Ice ring", "Masked part of the image"):
        assert title in section
    assert "Defocus less target" not in section, "it was not measured"


def test_failures_and_files_tell_reasons_and_what_to_do(made: Made) -> None:
    text = made.page().text
    assert "is not an MRC file (mode 77). Transfer it again" in text
    assert "icestream retry" in text
    for reason in ("still growing", "ends 2.1 MB too early", "matches no pattern"):
        assert reason in text
    assert re.search(r"matches no pattern</td><td class=\"n\">60</td>", text)


def test_methods_and_parameters_are_told(made: Made) -> None:
    text = made.page().text
    assert "Rohou &amp; Grigorieff" in text
    assert "max_search_resolution_angst" in text


def test_it_reloads_only_while_running(made: Made) -> None:
    refresh = 'http-equiv="refresh"'
    assert refresh in made.page().text
    assert refresh not in made.page(running=False).text
    assert "data-refresh" not in made.page(running=False).text


def test_states(made: Made) -> None:
    def state(**more: Any) -> str:
        text = made.page(**more).text
        found = re.search(r'class="state (\w+)"', text)
        assert found is not None
        return found[1]

    open_still = dataclasses.replace(made.results, is_finished=False)
    paused = dataclasses.replace(open_still, paused={"": "the disk is full"})
    assert state() == "finished"
    assert state(results=open_still) == "running"
    assert state(results=open_still, running=False) == "stopped"
    assert state(results=paused) == "paused"
    assert "the disk is full" in made.page(results=paused).text


def test_an_empty_session_has_a_page(tmp_path: Path) -> None:
    page = make(tmp_path, counts=(0,)).page()
    assert "Nothing has arrived yet" in page.text
    assert "no values yet" in page.text


def test_a_thumbnail_that_is_gone_is_no_error(tmp_path: Path) -> None:
    made = make(tmp_path, counts=(3,))
    for one in made.folder.rglob("*.jpg"):
        one.unlink()
    assert "no thumbnail" in made.page().text


def test_the_size_is_bounded(made: Made) -> None:
    exposures = tuple(
        dataclasses.replace(one, key=f"{one.key}.{copy}")
        for copy in range(650)
        for one in made.results.exposures
    )
    assert len(exposures) > 20_000
    many = dataclasses.replace(
        made.results,
        exposures=exposures,
        failures=made.results.failures * 2000,
        ingest=made.results.ingest * 200,
        notices=made.results.notices * 1000,
    )
    size = len(made.page(results=many).text)
    # The chart's points, 500 rows and 60 failures: the rest does not grow.
    assert size < len(made.page().text) + 1_000_000


def test_thinning_keeps_the_extremes() -> None:
    points = [Point(n, float(n % 97), 1, False) for n in range(5000)]
    points[1234] = Point(1234, 1e6, 1, False)
    points[4321] = Point(4321, -1e6, 1, False)
    kept = thinned(points, bins=100)
    assert len(kept) <= 300
    assert {points[1234], points[4321], points[0]} <= set(kept)
    assert [one.order for one in kept] == sorted(one.order for one in kept)


def test_dots_are_large_where_there_are_few() -> None:
    def width(count: int) -> float:
        points = tuple(Point(n, float(n), 1, False) for n in range(1, count + 1))
        series = Series(title="x", unit="", points=points, limits=(), digits=0)
        found = re.search(
            r'class="dot g1" stroke-width="([\d.]+)"',
            over_time(series, clocks=(), count=count),
        )
        assert found is not None
        return float(found[1])

    assert width(3) == width(12) == 9.0
    assert 9.0 > width(80) > width(5000) == 3.6


def test_seconds_are_no_rate_per_hour_on_the_page(made: Made) -> None:
    for running in (True, False):
        text = made.page(running=running).text
        assert "Processed so far" in text
        assert " per hour</small>" not in text.replace("a rate per hour</small>", "")


def _unescaped(page: Page) -> str:
    return page.text.replace("&gt;", ">").replace("&lt;", "<")


def test_limits_of_rules_are_drawn(made: Made) -> None:
    def with_rules(params: dict[str, Any]) -> str:
        runs = tuple(
            dataclasses.replace(one, params=params if one.shape == "gate" else {})
            for one in made.results.runs
        )
        return made.page(results=dataclasses.replace(made.results, runs=runs)).text

    rule = {"expression": None, "minimum": None, "maximum": 4.25}
    page = with_rules({"rules": {"resolution_angst": rule}, "defaults": True})
    assert "maximum resolution 4.2" in page
    assert "maximum resolution" not in with_rules({"rules": {}, "defaults": True})
