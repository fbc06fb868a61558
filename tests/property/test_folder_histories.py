"""Random histories of a watched folder: in the end the complete files are taken."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from icestream.domain.errors import IncompleteFile
from icestream.streaming.folder import FolderRules, FolderWatcher
from icestream.streaming.protocol import Sighting, SightingState

EVERY = 3
NAMES = ("a.mrc", "b.mrc", "sub/a.mrc", "sub/deep/c.mrc", "b.tmp", "sub/d.tmp")
END = b"END"

names = st.sampled_from(NAMES)
contents = st.binary(min_size=1, max_size=6)


class FolderHistory(RuleBasedStateMachine):
    """A writer of files, a watcher that polls and restarts, and a model of the truth.

    Every write sets a time of its own, forward or backward, so that a tick of the file
    system's clock never hides one and no order of times can be relied on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="icestream-history-"))
        # An empty folder is not believed after a restart: it may be a mount point.
        (self.folder / "notes.txt").touch()
        self.now_s = 0.0
        self.ticks = 0
        self.polls = 0
        self.ledger: dict[str, Sighting] = {}
        self.revisions: dict[str, set[str]] = {}
        self.changed_at: dict[str, int] = {}
        self.watcher = self.new_watcher()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def new_watcher(self) -> FolderWatcher:
        return FolderWatcher(
            self.folder,
            setup="krios",
            check_complete=self.check,
            rules=FolderRules(
                patterns=("*.mrc",), exclude=("*.tmp",), full_listing_every=EVERY
            ),
            clock=lambda: self.now_s,
        )

    def check(self, path: Path) -> None:
        name = str(path.relative_to(self.folder))
        # A poll between the change and this one has seen the final size already.
        assert self.polls - self.changed_at[name] >= 2, name
        if not path.read_bytes().endswith(END):
            raise IncompleteFile(f"{name} is cut short.")

    def stamp(self, name: str, *, backward: bool) -> None:
        self.ticks += 1
        time_s = 2_000_000_000 + (-self.ticks if backward else self.ticks)
        os.utime(self.folder / name, (time_s, time_s))
        self.changed_at[name] = self.polls

    def exists(self, name: str) -> bool:
        return (self.folder / name).is_file()

    @rule(name=names, content=contents, whole=st.booleans(), backward=st.booleans())
    def write(self, name: str, content: bytes, *, whole: bool, backward: bool) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + (END if whole else b""))
        self.stamp(name, backward=backward)

    @rule(name=names, content=contents, whole=st.booleans(), backward=st.booleans())
    def grow(self, name: str, content: bytes, *, whole: bool, backward: bool) -> None:
        if self.exists(name):
            with (self.folder / name).open("ab") as file:
                file.write(content + (END if whole else b""))
            self.stamp(name, backward=backward)

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        if self.exists(old) and (self.folder / new).parent.is_dir() and old != new:
            (self.folder / old).rename(self.folder / new)
            self.changed_at[new] = self.polls

    @rule(name=names)
    def delete(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    @rule()
    def delete_sub_folder(self) -> None:
        shutil.rmtree(self.folder / "sub", ignore_errors=True)

    @rule(name=names)
    def touch(self, name: str) -> None:
        if self.exists(name):
            self.stamp(name, backward=False)

    @rule(count=st.integers(1, 4))
    def poll(self, count: int) -> None:
        for _ in range(count):
            self.polls += 1
            self.now_s += 1.0
            for one in self.watcher.poll():
                self.note(one)

    @precondition(lambda self: self.ledger)
    @rule()
    def restart(self) -> None:
        self.watcher = self.new_watcher()
        self.watcher.resume(list(self.ledger.values()))

    def note(self, one: Sighting) -> None:
        before = self.ledger.get(one.path)
        # A name left out that goes is forgotten without a word, and told again.
        if before is not None and one.state is not SightingState.IGNORED:
            told = (one.state, one.reason, one.fingerprint)
            assert told != (before.state, before.reason, before.fingerprint)
        if one.state is SightingState.TAKEN:
            assert one.key is not None
            assert one.fingerprint is not None
            revisions = self.revisions.setdefault(one.key, set())
            # One time, one size: a fingerprint returns only with the very same file.
            is_old = "unchanged" in one.reason or "touched" in one.reason
            assert is_old == (one.fingerprint in revisions)
            revisions.add(one.fingerprint)
        self.ledger[one.path] = one

    @invariant()
    def taken_items_match_their_fingerprint(self) -> None:
        for one in self.ledger.values():
            if one.state is SightingState.TAKEN:
                assert one.item is not None
                assert one.item.fingerprint == one.fingerprint
                assert one.item.path == one.path

    @rule()
    def settle(self) -> None:
        """After enough polls the ledger tells the truth and nothing more comes."""
        self.poll(2 * EVERY + 4)
        believed = {
            one.key for one in self.ledger.values() if one.state is SightingState.TAKEN
        }
        files = [one for one in self.folder.rglob("*.mrc") if one.is_file()]
        complete = {
            str(one.relative_to(self.folder))
            for one in files
            if one.read_bytes().endswith(END)
        }
        assert believed == complete
        waiting = {
            one.path
            for one in self.ledger.values()
            if one.state is SightingState.WAITING
        }
        assert waiting == {str(one) for one in files} - {
            str(self.folder / key) for key in complete
        }
        for key in complete:
            size_bytes = (self.folder / key).stat().st_size
            item = self.ledger[str(self.folder / key)].item
            assert item is not None
            assert item.size_bytes == size_bytes
        before = dict(self.ledger)
        self.poll(EVERY + 1)
        assert self.ledger == before


TestFolderHistory = FolderHistory.TestCase
TestFolderHistory.settings = settings(
    max_examples=200, stateful_step_count=30, deadline=None
)
