"""Real packets behind a proxy: `python -m tests.path.proxy_runs RUNS [FAULT]...` prints the table of docs/path.md.

The proxy stands where clients are; the faulty path is between it and the server. What is named must hold what was
drawn, or nothing may be named; with the fault taken out it must be healthy.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.lab.paths.draws import DRAWINGS, HEALTHY
from pqtls.lab.paths.path_lab import LabNetwork, PathLab
from pqtls.path.examine import examine
from pqtls.path.plan import PlanOptions
from pqtls.path.reach import Reach, qualify
from pqtls.probe.http_proxy import Proxy, open_tunnel
from pqtls.probe.prepared import PreparedNetwork
from pqtls.probe.run import Prober

if TYPE_CHECKING:
    from pqtls.path.diagnosis import Diagnosis

JOBS = 8
_LOCK = threading.Lock()


class ToProxy(LabNetwork):
    """Sockets on the clients' side of a path, to the proxy there."""

    def __init__(self, lab: PathLab, port: int) -> None:
        super().__init__(lab)
        self._address = ("127.0.0.1", port)


def look(lab: PathLab, port: int, *, is_full: bool) -> Diagnosis:
    proxy = Proxy("127.0.0.1", port)
    host, target_port = lab.address
    network = PreparedNetwork(
        ToProxy(lab, port),
        [lambda dialogue: open_tunnel(dialogue, proxy, host, target_port)],
        is_relayed=True,
        first_peer=str(proxy),
    )
    found = examine(Prober(network, lab.server_name), network, PlanOptions(is_full=is_full))
    return qualify(found, Reach(proxy))


def run(fault: str, seed: int) -> tuple[str, str, Diagnosis]:
    """Return what became of it: right, wider, inconclusive or WRONG; and what was named."""
    with PathLab() as lab:
        scenario = lab.apply(fault, seed)
        command = lab.wrap([sys.executable, str(Path(__file__).with_name("connect_proxy.py"))])
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                found = look(lab, port, is_full=scenario.is_full)
                lab.apply(fault, seed, is_removed=True)
                control = look(lab, port, is_full=scenario.is_full)
            finally:
                process.kill()
    named, wanted = found.fault_ids, scenario.expected
    if control.verdict != "healthy":
        return "WRONG", f"{control.verdict} {sorted(control.fault_ids)} without the fault", control
    told = f"{found.verdict} {sorted(named)} for {sorted(wanted)}"
    if not wanted:
        return ("right" if found.verdict == "healthy" else "WRONG" if named else "inconclusive"), told, found
    if named == wanted:
        return "right", told, found
    if named:
        return ("wider" if fault in named | set(found.also_fits) else "WRONG"), told, found
    return ("missed" if found.verdict == "healthy" else "inconclusive"), told, found


def main() -> int:
    """Print the table; return 1 if one run named what was not there."""
    runs, only = int(sys.argv[1]), sys.argv[2:]
    plan = [(fault, seed) for fault in only or [*DRAWINGS, *HEALTHY] for seed in range(runs)]
    counts: dict[str, dict[str, int]] = {}

    def work(item: tuple[str, int]) -> None:
        began = time.monotonic()
        outcome, told, found = run(*item)
        with _LOCK:
            counts.setdefault(item[0], {}).setdefault(outcome, 0)
            counts[item[0]][outcome] += 1
            line = f"{item[0]} seed {item[1]}: {outcome}, {told}, {len(found.attempts)} connections"
            print(f"{line}, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(work, plan))
    kinds = ("right", "wider", "inconclusive", "missed", "WRONG")
    print(f"| class | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 1)}")
    for fault in dict.fromkeys(fault for fault, _ in plan):
        print(f"| {fault} | {' | '.join(str(counts[fault].get(kind, 0)) for kind in kinds)} |")
    return 1 if any("WRONG" in each for each in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
