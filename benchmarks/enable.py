"""What `pqtls enable` costs a Python at its start: an enabled environment against a plain one, in turn, in one run.

`python benchmarks/enable.py [RUNS]` makes two environments of the Python that runs it and prints a table. Medians of
the differences of neighbouring runs count; the same environment against itself shows the noise.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pqtls.openssl.enable import Request, enable
from pqtls.openssl.venv import find_venv

PROGRAMS = {
    "`pass`": "pass",
    "`import ssl`": "import ssl",
    "`ssl.create_default_context()`": "import ssl; ssl.create_default_context()",
}
PSS = (
    "; print(sum(int(line.split()[1]) for line in open('/proc/self/smaps_rollup') if line.startswith('Pss:')), flush=1)"
)
ENVIRONMENT: dict[str, str] = {}


def milliseconds_of(arguments: list[str]) -> float:
    """Return the wall time of one run, from its start to its end."""
    began = time.perf_counter()
    pid = os.posix_spawn(arguments[0], arguments, ENVIRONMENT)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise RuntimeError(f"{arguments} failed")
    return (time.perf_counter() - began) * 1000


def compare(one: list[str], other: list[str], runs: int) -> tuple[float, float, float]:
    """Run two commands in turn; return the medians of both and of the differences."""
    pairs = [(milliseconds_of(one), milliseconds_of(other)) for _ in range(runs)]
    return (
        statistics.median(pair[0] for pair in pairs),
        statistics.median(pair[1] for pair in pairs),
        statistics.median(first - second for first, second in pairs),
    )


def memory_kb(python: Path, program: str) -> int:
    """Return the proportional set size at a program's end, in KiB."""
    done = subprocess.run([str(python), "-c", program + PSS], env={}, check=True, capture_output=True, text=True)
    return int(done.stdout)


def main() -> None:
    """Measure and print the table."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(prefix="pqtls-bench-") as name:
        pythons = []
        for which in ("enabled", "plain"):
            root = Path(name, which)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
            pythons.append(root / "bin" / "python")
        done = enable(find_venv(Path(name, "enabled"), ENVIRONMENT), Request(), ENVIRONMENT)
        enabled, plain = pythons
        print(f"{done.detail} {runs} runs of each.\n")
        print("| program | enabled | plain | difference | ratio | memory (PSS) |\n|---|---|---|---|---|---|")
        for what, program in PROGRAMS.items():
            one, other, difference = compare([str(enabled), "-c", program], [str(plain), "-c", program], runs)
            memory = (memory_kb(enabled, program) - memory_kb(plain, program)) / 1024
            times = f"{one:.1f} ms | {other:.1f} ms | {difference:+.2f} ms | {one / other:.2f}"
            print(f"| {what} | {times} | {memory:+.1f} MB |")
        one, other, noise = compare([str(plain), "-c", "pass"], [str(plain), "-c", "pass"], runs)
        print(
            f"| noise: plain against itself | {one:.1f} ms | {other:.1f} ms | {noise:+.2f} ms | {one / other:.2f} | |"
        )


if __name__ == "__main__":
    main()
