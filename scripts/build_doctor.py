"""Build dist/doctor.pyz: `pqtls doctor` in one file that needs only Python >= 3.10, to be copied to a server.

What goes in is what the doctor imports, found by reading the imports; all of it stands on the standard library. The
same source gives the same bytes: nothing in the file depends on when or where it was built.
"""

from __future__ import annotations

import ast
import io
import sys
import zipapp
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
CLI = Path(__file__).resolve().parent / "doctor_cli.py"
TARGET = ROOT / "dist" / "doctor.pyz"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can name
# Has to be read by any Python, so that an old one can say what it lacks.
MAIN = """\
import sys

if sys.version_info < (3, 10):
    sys.exit("doctor.pyz needs Python 3.10 or newer to run; it examines older ones with --python.")

from doctor_cli import main

sys.exit(main())
"""


class BuildError(Exception):
    """The doctor imports what cannot go into the file."""


def find_files() -> dict[str, bytes]:
    """Return everything that goes into the archive, by its path inside.

    Raises:
        BuildError: Something outside the standard library is imported.
    """
    files = {"__main__.py": MAIN.encode(), "doctor_cli.py": CLI.read_bytes()}
    pending = _imports(CLI)
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _module_file(name)
        if path is None:
            if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("pqtls"):
                raise BuildError(f"the doctor imports {name}, which is not of the standard library")
            continue
        files[path.relative_to(SOURCE).as_posix()] = path.read_bytes()
        pending |= _imports(path)
        pending |= {name.rpartition(".")[0]} - {""}
    return files


def _module_file(name: str) -> Path | None:
    base = SOURCE.joinpath(*name.split("."))
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imports(path: Path) -> set[str]:
    """Return what a file imports when it runs: what stands under TYPE_CHECKING is left out."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            pending += node.orelse
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names if _module_file(module)}
        else:
            pending += ast.iter_child_nodes(node)
    return found


def build(target: Path) -> Path:
    """Write the archive.

    Args:
        target: Where to.

    Returns:
        The same path.
    """
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:  # a zlib's own choices would show in the bytes
        for name, data in sorted(find_files().items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            file.writestr(entry, data)
    archive.seek(0)
    target.parent.mkdir(parents=True, exist_ok=True)
    zipapp.create_archive(archive, target, interpreter="/usr/bin/env python3")
    return target


def main() -> int:
    """Build it where the first argument says, or at dist/doctor.pyz."""
    target = build(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
    print(f"wrote {target}, {target.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
