"""Run the tests marked `smoke` on every other CPython >= 3.10 found, each in an environment of its own under .venvs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINORS = range(10, 20)
PACKAGES = [".[all]", "pytest", "pytest-timeout", "hypothesis", "jsonschema"]
PROBE = "import sys; print(sys.implementation.name, *sys.version_info[:2])"


def find_pythons() -> dict[tuple[int, int], str]:
    """Return one interpreter for each CPython minor version >= 3.10 other than this one's."""
    candidates = [path for minor in MINORS if (path := shutil.which(f"python3.{minor}"))]
    candidates += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))]
    found: dict[tuple[int, int], str] = {}
    for candidate in candidates:
        answer = subprocess.run([candidate, "-c", PROBE], capture_output=True, text=True, check=False)
        if answer.returncode != 0:
            continue  # such as a shim of pyenv for a version that is not chosen
        name, major, minor = answer.stdout.split()
        version = (int(major), int(minor))
        if name == "cpython" and version >= (3, 10) and version != sys.version_info[:2]:
            found.setdefault(version, candidate)
    return dict(sorted(found.items()))


def run_smoke(version: tuple[int, int], python: str) -> bool:
    """Install pqtls for one interpreter and run the smoke on it, print all output at once; return whether it passed."""
    folder = ROOT / ".venvs" / f"{version[0]}.{version[1]}"
    program = folder / "bin" / "python"
    began = time.monotonic()
    steps = [
        [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", *PACKAGES],
        [str(program), "-m", "pytest", "-q", "-m", "smoke", "-p", "no:cacheprovider"],
    ]
    if not program.exists():
        steps.insert(0, [python, "-m", "venv", str(folder)])
    output = ""
    for step in steps:
        started = time.monotonic()
        done = subprocess.run(
            step, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
        )
        output += done.stdout
        if done.returncode != 0:
            break
    word = "passed" if done.returncode == 0 else f"FAILED at {' '.join(step[1:4])}"
    ended = time.monotonic()
    print(
        f"{output}smoke on Python {version[0]}.{version[1]}: {word}, {ended - started:.0f} s "
        f"after {started - began:.0f} s of installing",
        flush=True,
    )
    return done.returncode == 0


def main() -> int:
    """Run the smoke on all, two at a time, since installing mostly waits; return 1 if any failed."""
    pythons = find_pythons()
    if not pythons:
        print("smoke: no other CPython >= 3.10 was found")
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run_smoke, pythons, pythons.values()))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
