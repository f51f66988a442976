"""Measure the figures that README shows: ratios and medians of one run. `make bench` prints them as a table.

Machines are noisy: each pair is measured in turn, A B A B, and the median of the ratios is what counts.
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

from pqtls.observe.recorder import RecorderFolder
from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PQTLS = [str(Path(sys.executable).parent / "pqtls")]
# One process measures many handshakes in memory, and prints milliseconds a handshake.
HANDSHAKES = """
import os, ssl, sys, time
folder = os.environ["BENCH_FOLDER"]
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(folder + "/server.pem", folder + "/server.key")
client = ssl.create_default_context(cafile=folder + "/ca.pem")
def handshake():
    a, b, c, d = (ssl.MemoryBIO() for _ in range(4))
    ends = [client.wrap_bio(a, b, server_hostname="bench.example"), server.wrap_bio(c, d, server_side=True)]
    for _ in range(3):
        for end, outgoing, other in ((ends[0], b, c), (ends[1], d, a)):
            try: end.do_handshake()
            except ssl.SSLWantReadError: pass
            other.write(outgoing.read())
for _ in range(20): handshake()
began = time.perf_counter()
for _ in range(200): handshake()
print((time.perf_counter() - began) * 1000 / 200)
"""


def seconds_of(arguments: list[str], environment: Mapping[str, str]) -> float:
    """Return the wall time of one run."""
    began = time.perf_counter()
    subprocess.run(arguments, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def milliseconds_a_handshake(environment: Mapping[str, str]) -> float:
    """Return what the handshake script prints in an environment."""
    done = subprocess.run(
        [sys.executable, "-c", HANDSHAKES], env=environment, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def compare(one: Callable[[], float], other: Callable[[], float], runs: int) -> tuple[float, float, float]:
    """Run two measurements in turn; return both medians and the median ratio of the pairs."""
    pairs = [(one(), other()) for _ in range(runs)]
    ratio = statistics.median(first / second for first, second in pairs)
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs), ratio


def make_certificate(folder: Path) -> None:
    """Write a throwaway authority and server certificate."""
    import trustme

    ca = trustme.CA()
    leaf = ca.issue_cert("bench.example")
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    leaf.private_key_pem.write_to_path(str(folder / "server.key"))


def main() -> None:
    """Measure and print the table."""
    bare = {"PATH": os.environ["PATH"], "HOME": str(Path.home())}
    way = choose_way("auto", inspect_interpreter(sys.executable))
    chosen = way.apply(bare)
    python = [sys.executable, "-c", "pass"]
    rows: list[tuple[str, str]] = []

    def add(what: str, figure: str) -> None:
        rows.append((what, figure))
        print(f"{what}: {figure}", file=sys.stderr)

    suite = [seconds_of([*PQTLS, "test"], bare) for _ in range(3)]
    add("`pqtls test`, eight clients and all controls", f"{statistics.median(suite):.1f} s")
    shown, empty, ratio = compare(lambda: seconds_of([*PQTLS, "--help"], bare), lambda: seconds_of(python, bare), 15)
    add("`pqtls --help`", f"{shown * 1000:.0f} ms, {ratio:.1f} times `python -c pass` ({empty * 1000:.0f} ms)")
    with tempfile.TemporaryDirectory() as name, RecorderFolder() as recorder:
        make_certificate(Path(name))
        plain, grafted = {**bare, "BENCH_FOLDER": name}, {**chosen, "BENCH_FOLDER": name}
        a, b, ratio = compare(lambda: milliseconds_a_handshake(grafted), lambda: milliseconds_a_handshake(plain), 9)
        add(
            f"handshake in memory, {way.openssl_version} against the machine's own OpenSSL",
            f"{a:.2f} ms, ratio {ratio:.2f}",
        )
        watched = recorder.environment(grafted)
        a, b, ratio = compare(lambda: milliseconds_a_handshake(watched), lambda: milliseconds_a_handshake(grafted), 9)
        add("the same, both ends recorded", f"{a:.2f} ms, ratio {ratio:.2f}")
        a, b, ratio = compare(
            lambda: seconds_of(python, recorder.environment(bare)), lambda: seconds_of(python, bare), 25
        )
        add("start of a Python without TLS, with the recorder in it", f"+{(a - b) * 1000:.1f} ms, ratio {ratio:.2f}")
    print("| what | figure |\n|---|---|")
    for what, figure in rows:
        print(f"| {what} | {figure} |")


if __name__ == "__main__":
    main()
