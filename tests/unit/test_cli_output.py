from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import typer

from icestream.cli.demo import demo_command
from icestream.cli.output import parse_duration, seconds_text
from icestream.domain.errors import BadSettings, FolderUnavailable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2), ("500ms", 0.5), ("1m", 60), ("1.5 min", 90), ("1h", 3600), ("3", 3)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 day", "2,5s", "1s2s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no time"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.84, "0.8 s"), (41.2, "41 s"), (200, "3 min"), (9000, "2.5 h")],
)
def test_times_in_words(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


def test_the_demo_touches_no_folder_that_it_has_not_made(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("years of work")
    with pytest.raises(BadSettings, match="has not made it"):
        demo_command(keep=tmp_path)
    assert mine.read_text() == "years of work"


def test_the_demo_follows_no_link(tmp_path: Path) -> None:
    folder, link = tmp_path / "real", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    with pytest.raises(BadSettings, match="has not made it"):
        demo_command(keep=link)


def earlier_demo(folder: Path) -> Path:
    """Make a folder as a demo leaves it behind."""
    for name in ("microscope", "watched", "session"):
        (folder / name).mkdir(parents=True)
    (folder / ".made-by-icestream-demo").touch()
    return folder


@pytest.mark.parametrize("name", ["thesis.txt", "my_data/x.mrc", "session.bak/a"])
def test_the_demo_deletes_nothing_among_what_an_earlier_one_made(
    tmp_path: Path, name: str
) -> None:
    mine = earlier_demo(tmp_path) / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("years of work")
    with pytest.raises(BadSettings, match=f"demo, but {name.split('/')[0]} in it"):
        demo_command(keep=tmp_path)
    assert mine.read_text() == "years of work"
    assert (tmp_path / "watched").is_dir()


@pytest.mark.parametrize("name", ["microscope", "watched", "session"])
def test_the_demo_follows_no_link_in_an_earlier_one(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    mine = tmp_path / "elsewhere" / "thesis.txt"
    mine.touch()
    folder = earlier_demo(tmp_path / "demo")
    (folder / name).rmdir()
    (folder / name).symlink_to(mine.parent)
    with pytest.raises(BadSettings, match=f"demo, but {name} in it"):
        demo_command(keep=folder)
    assert mine.exists()


def test_a_file_is_no_place_for_a_demo(tmp_path: Path) -> None:
    mine = tmp_path / "thesis.txt"
    mine.write_text("years of work")
    for keep in (mine, mine / "demo"):
        with pytest.raises((BadSettings, FolderUnavailable), match="is no folder"):
            demo_command(keep=keep)
    assert mine.read_text() == "years of work"


def test_the_demo_says_where_it_lacks_the_named_data(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="lacks"):
        demo_command(data=tmp_path, keep=tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
