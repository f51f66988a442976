"""Imports point one way only, and the rooms keep to what design says of them; read from the code itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "pqtls"

# Each step may import from the steps before it, and from nothing of its own step but its own room.
STEPS = [
    {"errors"},
    {"wire", "inject", "ending"},
    {"evidence", "faults"},
    {"openssl", "observe", "probe"},
    {"lab"},
    {"peer"},
    {"path"},
    {"report"},
    {"suite"},
    {"cli", "pytest_plugin"},
    {"__main__"},
]
STEP_OF = {room: number for number, rooms in enumerate(STEPS) for room in rooms}
# The version, which everything may name.
EVERYWHERE = {"__version__"}


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if "cases" not in path.parts)


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Return every module that a file imports, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "pqtls":
            found |= {f"pqtls.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    own_step = STEP_OF[room]
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "pqtls" or len(parts) == 1 or parts[1] in EVERYWHERE:
            continue
        target = parts[1]
        assert target in STEP_OF, f"{path} imports {name}, a room that no step has"
        assert target == room or STEP_OF[target] < own_step, f"{path}: {room} must not import {target}"


def test_there_is_something_to_check() -> None:
    rooms = {room_of(path) for path in modules()}
    assert {"wire", "inject", "evidence", "openssl", "observe", "lab", "report", "suite", "cli"} <= rooms


@pytest.mark.parametrize("room", ["wire", "openssl", "inject", "ending"])
def test_rooms_that_stand_on_the_standard_library_alone(room: str) -> None:
    for path in modules():
        if room_of(path) != room:
            continue
        for name in imports_of(path):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top in ("pqtls", "sitecustomize"), f"{path} imports {name}"


def test_wire_does_no_input_or_output() -> None:
    forbidden = {"socket", "ssl", "asyncio", "time", "os", "pathlib", "logging", "subprocess", "threading", "random"}
    for path in modules():
        if room_of(path) == "wire":
            assert not forbidden & {name.split(".")[0] for name in imports_of(path)}, path


def test_inject_imports_nothing_else_of_pqtls() -> None:
    for path in modules():
        if room_of(path) == "inject":
            assert not [name for name in imports_of(path) if name.startswith("pqtls")], path


def test_modules_hold_one_idea_each() -> None:
    """No module is over 500 lines, no function over 80."""
    for path in modules():
        text = path.read_text()
        assert text.count("\n") <= 500, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno
                assert length <= 80, f"{path}:{node.lineno} {node.name} has {length} lines"
