"""The documentation's code runs, and pages exist for what people can use."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from icestream.app.registry import find_protocol, protocol_names
from icestream.app.session import create_session
from icestream.cli import main
from icestream.simulate import simulate_acquisition, usual_acquisition

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", re.DOTALL)


def test_a_protocol_can_be_added_by_following_the_page(tmp_path: Path) -> None:
    page = (DOCS / "how-to" / "add-a-protocol.md").read_text(encoding="utf-8")
    blocks = dict(_BLOCK.findall(page))
    assert set(blocks) == {"facility.py", "run.yaml", "look.py"}
    for name in ("facility.py", "look.py"):
        (tmp_path / name).write_text(blocks[name], encoding="utf-8")
    simulate_acquisition(tmp_path / "images", usual_acquisition(2, defect_share=0.0))
    session = create_session(
        tmp_path / "my_session",
        template="micrographs",
        changes=[
            f"sources.grid.folder={tmp_path / 'images'}",
            "setups.grid.pixel_size_angst=1.5",
            "setups.grid.voltage_kv=300",
            "slots=1",
        ],
    )
    yaml = YAML()
    settings = yaml.load(session.settings_path)
    settings["runs"] |= YAML(typ="safe").load(blocks["run.yaml"])
    yaml.dump(settings, session.settings_path)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    program = str(Path(sys.executable).with_name("icestream"))
    for command in (
        [program, "start", "my_session", "--finish"],
        [sys.executable, "look.py"],
    ):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("Evenness(darkest=") == 2


def test_every_protocol_has_its_page() -> None:
    page = (DOCS / "reference" / "protocols.md").read_text(encoding="utf-8")
    for name in protocol_names():
        assert f"## {name}\n" in page
        for field in find_protocol(name).Params.model_fields:
            assert f"`{field}`" in page, f"{name}.{field} is not documented"


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
    for page in pages:
        text = re.sub(
            r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_tutorial_can_be_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DOCS / "tutorials"
    page = (folder / "first-acquisition.md").read_text(encoding="utf-8")
    for picture in re.findall(r"!\[[^]]+\]\((\S+)\)", page):
        assert (folder / picture).stat().st_size > 10_000
    said = []
    with contextlib.chdir(tmp_path):
        for block in re.findall(r"<!-- run -->\n```sh\n(.*?)```", page, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                program, *args = shlex.split(line.replace("--count 12", "--count 3"))
                assert program == "icestream"
                with pytest.raises(SystemExit) as left:
                    main(args)
                assert left.value.code == 0, capsys.readouterr().err
                said.append(capsys.readouterr().out)
    assert (tmp_path / "first" / "report.html").exists()
    assert "3 exposures: 3 accepted" in said[2]
    table = {
        line.split("  ")[0]: line.split()[-1] for line in said[-1].splitlines() if line
    }
    assert (table["taken"], table["lost"], table["doubled"]) == ("3", "0", "0")
    assert float(table["F1"]) > 0.9
