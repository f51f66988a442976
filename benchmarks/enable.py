"""What `pqtls enable` costs: enabled environments against a plain one, in turn, in one run, all as by `env -i`.

`python benchmarks/enable.py [RUNS]` makes three environments of the Python that runs it (plain, enabled, enabled with
--require-pq) and prints tables: start-up, handshakes, loading of CAs, memory. Times are processor time, which other
programs on the machine disturb less than they disturb the clock. Differences and ratios are medians over
neighbouring runs; the plain environment against itself shows the noise.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from run import HANDSHAKES as BY_THE_CLOCK
from run import make_certificate

from pqtls.openssl.enable import Request, enable
from pqtls.openssl.venv import find_venv
from pqtls.openssl.venv_settings import plan_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STARTS = {
    "`pass`": "pass",
    "`import ssl`": "import ssl",
    "`ssl.create_default_context()`": "import ssl; ssl.create_default_context()",
}
PSS = (
    "; print(sum(int(line.split()[1]) for line in open('/proc/self/smaps_rollup') if line.startswith('Pss:')), flush=1)"
)
# One process loads the CAs many times, and prints milliseconds a context and how many there are.
CAS = """
import ssl, statistics, sys, time
def milliseconds():
    began = time.process_time()
    ssl.create_default_context(cafile=sys.argv[1])
    return (time.process_time() - began) * 1000
milliseconds()
print(statistics.median(milliseconds() for _ in range(20)))
print(len(ssl.create_default_context(cafile=sys.argv[1]).get_ca_certs()), file=sys.stderr)
"""
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
CONF = "openssl_conf=a\n[a]\nssl_conf=b\n[b]\nsystem_default=c\n[c]\nGroups = x25519\n"
HANDSHAKES = BY_THE_CLOCK.replace("perf_counter", "process_time")
ENVIRONMENT: dict[str, str] = {}
MEMORY_RUNS = 9
LONG_RUNS = 15


def milliseconds_of(arguments: list[str]) -> float:
    """Return the processor time of one run, from its start to its end."""
    pid = os.posix_spawn(arguments[0], arguments, ENVIRONMENT)
    _, status, used = os.wait4(pid, 0)
    if status != 0:
        raise RuntimeError(f"{arguments} failed")
    return (used.ru_utime + used.ru_stime) * 1000


def number_of(python: Path, program: str, *arguments: str, **environment: str) -> float:
    """Return the number that a program prints."""
    command = [str(python), "-c", program, *arguments]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


def in_turn(measures: Sequence[Callable[[], float]], runs: int) -> list[tuple[float, float, float]]:
    """Measure one after the other, again and again.

    Returns:
        For each its median, and the medians of its difference from and its ratio to the first of the same round.
    """
    rounds = [[measure() for measure in measures] for _ in range(runs)]
    return [
        (
            statistics.median(each[place] for each in rounds),
            statistics.median(each[place] - each[0] for each in rounds),
            statistics.median(each[place] / each[0] for each in rounds),
        )
        for place in range(len(measures))
    ]


def print_row(what: str, unit: str, found: list[tuple[float, float, float]], digits: int = 1) -> None:
    """Print the first as it is, the others with difference and ratio."""
    cells = [f"{found[0][0]:.{digits}f} {unit}"]
    for value, difference, ratio in found[1:]:
        cells.append(f"{value:.{digits}f} {unit}, {difference:+.{digits + 1}f}, ratio {ratio:.2f}")
    print(f"| {what} | {' | '.join(cells)} |", flush=True)


def print_starts(pythons: Sequence[Path], runs: int) -> None:
    """Print what starts cost, in time and memory."""
    print("\n| start | plain | enabled | enabled --require-pq |\n|---|---|---|---|")
    for what, program in STARTS.items():
        commands = [[str(python), "-c", program] for python in pythons]
        print_row(what, "ms", in_turn([lambda c=each: milliseconds_of(c) for each in commands], runs))
    command = [str(pythons[0]), "-c", "pass"]
    noise = in_turn([lambda: milliseconds_of(command)] * 2, runs)
    print_row("noise: plain against itself", "ms", noise)
    print("\n| memory at the end (PSS) | plain | enabled | enabled --require-pq |\n|---|---|---|---|")
    for what, program in STARTS.items():
        measures = [lambda p=python, s=program: number_of(p, s + PSS) / 1024 for python in pythons]
        print_row(what, "MB", in_turn(measures, MEMORY_RUNS))


def print_handshakes(pythons: Sequence[Path], folder: Path) -> None:
    """Print what handshakes in memory cost, both ends; what was negotiated is the libraries' default or is said."""
    make_certificate(folder)
    conf = folder / "x25519.cnf"
    conf.write_text(CONF)
    plain, enabled, required = pythons
    own = {"BENCH_FOLDER": str(folder)}
    held = {**own, "OPENSSL_CONF": str(conf)}
    print(
        "\n| handshake in memory | plain, x25519 | enabled, x25519 | enabled | enabled --require-pq |\n"
        + "|---" * 5
        + "|"
    )
    measures = [
        lambda: number_of(plain, HANDSHAKES, **held),
        lambda: number_of(enabled, HANDSHAKES, **held),
        lambda: number_of(enabled, HANDSHAKES, **own),
        lambda: number_of(required, HANDSHAKES, **own),
    ]
    print_row("client and server", "ms", in_turn(measures, LONG_RUNS), 2)


def print_cas(pythons: Sequence[Path]) -> None:
    """Print what it costs to load the system's CAs into a context."""
    command = [str(pythons[0]), "-c", CAS, BUNDLE]
    count = subprocess.run(command, env={}, check=True, capture_output=True, text=True).stderr.strip()
    print("\n| one default context | plain | enabled | enabled --require-pq |\n|---|---|---|---|")
    measures = [lambda p=python: number_of(p, CAS, BUNDLE) for python in pythons]
    print_row(f"{count} CAs", "ms", in_turn(measures, LONG_RUNS), 2)


def main() -> None:
    """Measure and print the tables."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    with tempfile.TemporaryDirectory(prefix="pqtls-bench-") as name:
        pythons = []
        print(f"{time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.2f} on {os.cpu_count()} processors", flush=True)
        for which in ("plain", "enabled", "require-pq"):
            root = Path(name, which)
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
            pythons.append(root / "bin" / "python")
            if which != "plain":
                settings = plan_settings("", require_pq=which == "require-pq")
                request = Request(require_pq=which == "require-pq", plugins=settings.plugins, settings=settings.values)
                print(enable(find_venv(root, ENVIRONMENT), request, ENVIRONMENT).detail)
        print_starts(pythons, runs)
        print_handshakes(pythons, Path(name))
        print_cas(pythons)
        print(f"\n{runs} starts of each; load at the end {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()
