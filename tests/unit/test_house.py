"""The house rules that no linter knows: size budgets, names, licences."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_modules_and_functions_keep_their_size_budgets() -> None:
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 500, f"{path} is too long: split it by noun"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert lines <= 50, f"{path}: {node.name} has {lines} lines"


def test_every_exception_is_caught_at_one_place_only() -> None:
    found = [
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (
            node.type is None
            or (
                isinstance(node.type, ast.Name)
                and node.type.id in ("Exception", "BaseException")
            )
        )
        and not any(isinstance(one, ast.Raise) for one in node.body)
    ]
    assert found == ["execution.py"]


def test_public_modules_say_what_is_public() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "__all__"
        ]
        defines = any(
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            for node in tree.body
        )
        assert names or not defines, f"{path} has no __all__"
        if names:
            assert list(names[0]) == sorted(names[0], key=_order), path


def test_the_map_names_every_room_of_the_stream() -> None:
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "icestream" / "streaming").glob("[a-z]*.py"):
        assert f"`{path.stem}`" in page, f"{path.stem} has no room in ARCHITECTURE.md"


def _order(name: str) -> tuple[int, str]:
    """Constants, classes, functions, as ruff sorts them."""
    if name.isupper():
        return 0, name
    return (1 if name[0].isupper() else 2), name


def test_what_is_installed_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in pins
    assert all("==" in one for one in pins if one and not one.startswith("#"))
