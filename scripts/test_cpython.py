"""Run CPython's own TLS tests in a plain environment and in one of `pqtls enable`, and print what differs.

    python scripts/test_cpython.py [--modules test_ssl,test_hashlib] [--without-shim] PYTHON ...

Each PYTHON is the interpreter of an installation that brings its tests (pyenv's and python.org's do, Debian has them
in a package). Two virtual environments are made of it; one is enabled by the command itself. Everything runs in bare
environments (`env -i`). A test that fails, or is skipped, only in the enabled one is run again twice, alone, in both,
and printed whatever comes of it. Where the Python's own OpenSSL has ML-KEM, `pqtls enable` has nothing to do, and there
is one outcome. `--without-shim` is the control: the failures that inject/socket_errors.py is for.

Exit code 1 if something is worse in the enabled environment, and was so again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from tests.openssl.cpython_tests import MODULES, Outcome, find_worse, run_again, run_modules  # noqa: E402

from pqtls.openssl.enable import Request, enable  # noqa: E402
from pqtls.openssl.venv import find_venv  # noqa: E402

BARE = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
PQTLS = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r})\n"
         "from pqtls.cli import main; main()"]  # fmt: skip
VERSION = "import ssl, sys; print(sys.version.split()[0], ssl.OPENSSL_VERSION, sep='|')"


def make_venv(python: Path, folder: Path) -> Path:
    """Make an environment; return its interpreter."""
    subprocess.run([str(python), "-m", "venv", "--without-pip", str(folder)], check=True, env=BARE)
    return folder / "bin" / "python"


def read_versions(python: Path) -> tuple[str, str]:
    """Ask an interpreter for its version and its OpenSSL's."""
    answer = subprocess.run([str(python), "-c", VERSION], check=True, env=BARE, capture_output=True, text=True)
    own, openssl = answer.stdout.strip().split("|")
    return own, openssl.partition(" ")[2].split()[0]


def switch(root: Path, *, has_shim: bool) -> str:
    """Enable an environment; return its state as `pqtls status` proves it: "active" or "native"."""
    if has_shim:
        subprocess.run([*PQTLS, "enable", "--venv", str(root)], check=True, env=BARE, stdout=sys.stderr)
    else:
        enable(find_venv(root, BARE), Request(), BARE)
    status = subprocess.run(
        [*PQTLS, "status", "--venv", str(root), "--json"], check=True, env=BARE, capture_output=True, text=True
    )
    return str(json.loads(status.stdout)["state"])


def count(outcome: Outcome) -> str:
    """Write an outcome as one cell of a table."""
    text = f"{outcome.count('passed')} passed, {outcome.count('skipped')} skipped, {outcome.count('failed')} failed"
    for module, why in outcome.unfinished.items():
        text += f", {module}: {why}"
    return text


def compare(python: Path, modules: tuple[str, ...], folder: Path, *, has_shim: bool) -> bool:
    """Run the tests of one Python and print its row; return whether something is worse, and was so again."""
    plain_python, enabled_python = make_venv(python, folder / "plain"), make_venv(python, folder / "on")
    state = switch(folder / "on", has_shim=has_shim)
    version, own = read_versions(plain_python)
    began = time.monotonic()
    plain = run_modules(plain_python, modules, folder / "t")
    middle = time.monotonic()
    notes = [f"{version}: {', '.join(plain.absent)}: not in this Python"] if plain.absent else []
    notes += [f"{version}: fails in the plain environment: {name}" for name in sorted(plain.failed)]
    cells = [version, own, count(plain)]
    is_worse = False
    if state == "native":
        cells += ["its own: `enable` has nothing to do", "", ""]
    else:
        enabled = run_modules(enabled_python, modules, folder / "t")
        ended = time.monotonic()
        worse = run_again(find_worse(plain, enabled), plain_python, enabled_python, modules, folder / "t")
        real = [each.name for each in worse if each.is_real]
        is_worse = bool(real)
        cells += [read_versions(enabled_python)[1], count(enabled), "<br>".join(real) or "none"]
        notes += [f"{version}: {'worse' if each.is_real else 'once'}: {each.name}: {each.detail}" for each in worse]
        notes.append(f"{version}: {middle - began:.0f} s plain, {ended - middle:.0f} s enabled; {len(worse)} run again")
    print(f"| {' | '.join(cells)} |", flush=True)
    for note in notes:
        print(note, file=sys.stderr, flush=True)
    return is_worse or bool(plain.unfinished)


def main() -> int:
    """Run and print one row a Python; what was run again and other notes go to standard error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python", nargs="+", type=Path)
    parser.add_argument("--modules", default=",".join(MODULES))
    parser.add_argument("--without-shim", action="store_true")
    options = parser.parse_args()
    modules = tuple(options.modules.split(","))
    print(f"CPython's own tests, {datetime.datetime.now(tz=datetime.timezone.utc):%d %B %Y}: {' '.join(modules)}\n")
    print(
        "| Python | own OpenSSL | plain | enabled: OpenSSL | enabled | worse only enabled |\n|---|---|---|---|---|---|"
    )
    results = []
    for python in options.python:
        with tempfile.TemporaryDirectory(prefix="pqc", dir="/tmp") as name:
            results.append(compare(python, modules, Path(name), has_shim=not options.without_shim))
    return int(any(results))


if __name__ == "__main__":
    sys.exit(main())
