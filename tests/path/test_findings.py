"""What the experiments with a number find on real sockets: sizes, pauses, what comes and goes; and in how much time."""

from __future__ import annotations

import itertools
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pqtls.lab.paths.draws import draw
from pqtls.lab.paths.path_lab import PathLab
from pqtls.path.diagnosis import Diagnosis
from pqtls.path.examine import examine
from pqtls.path.plan import PlanOptions
from pqtls.path.reading import read_attempts
from pqtls.probe.experiments import find_experiment
from pqtls.probe.model import HYBRID, TcpFacts
from pqtls.probe.network import SocketConnection
from pqtls.probe.run import Prober
from tests.lab.namespace_tools import require_namespaces
from tests.path import real_servers as real
from tests.path.faulty_paths import FAULTS
from tests.path.servers_model import HYBRID as MODEL_HYBRID
from tests.path.servers_model import P256, X25519, Tls, TlsApp
from tests.path.simulator import Simulator
from tests.path.test_real import FastNetwork
from tests.path.wire_model import Link
from tests.schemas import validate

Judge = Callable[[socket.socket], bytes | None]


def look(port: int, options: PlanOptions | None = None) -> Diagnosis:
    network = FastNetwork(socket.AF_INET, ("127.0.0.1", port))
    found = examine(Prober(network, real.NAME), network, options)
    validate(found.to_json(f"127.0.0.1:{port}", "127.0.0.1"))
    return found


@pytest.mark.parametrize(("size", "known"), [(1024, "sslsplit"), (1500, "")])
def test_the_size_of_a_buffer_is_found_to_the_byte(size: int, known: str, hybrid_port: int) -> None:
    with real.Proxy(hybrid_port, real.peek_into(size)) as proxy:
        found = look(proxy.port)
    assert found.findings.size is not None
    assert (found.findings.size.passed_bytes, found.findings.size.failed_bytes) == (size, size + 1)
    assert f"the buffer has exactly {size} bytes" in found.answer
    assert (known in found.answer) if known else ("Known cases" not in found.answer), "of the products, those it fits"
    assert len(found.attempts) <= 40


def test_a_buffer_that_todays_hellos_fit_is_found_by_the_whole_set(hybrid_port: int) -> None:
    with real.Proxy(hybrid_port, real.peek_into(4096)) as proxy:
        assert look(proxy.port).verdict == "healthy"
        found = look(proxy.port, PlanOptions(is_full=True))
    assert found.fault_ids == {"F03"}
    assert "exactly 4096 bytes" in found.answer


def read_once_after(wait_s: float) -> Judge:
    def judge(connection: socket.socket) -> bytes | None:
        connection.recv(1, socket.MSG_PEEK)
        time.sleep(wait_s)
        return real.read_once(connection)

    return judge


def test_a_failure_that_depends_on_the_pause(hybrid_port: int) -> None:
    """A server that reads once, 60 ms after the first byte: what comes within them is taken."""
    with real.Proxy(hybrid_port, read_once_after(0.06)) as proxy:
        found = look(proxy.port)
    gap = found.findings.gap
    assert found.fault_ids == {"F01"}
    assert gap is not None
    assert (gap.depends, gap.passed_ms, gap.failed_ms) == (True, 30, 100)
    assert (gap.paused.failed, gap.paused.attempts, gap.unpaused.failed) == (3, 3, 0)
    assert "It is a matter of timing" in found.answer
    assert "F43" not in found.also_fits, "each paused hello failed: a pool would let some through"


def take_turns(*judges: Judge) -> Judge:
    turns, lock = itertools.cycle(judges), threading.Lock()

    def judge(connection: socket.socket) -> bytes | None:
        with lock:
            chosen = next(turns)
        return chosen(connection)

    return judge


@pytest.mark.parametrize("servers", [2, 3])
def test_one_bad_server_of_some(servers: int, hybrid_port: int) -> None:
    """In turns, as most balancers do: a steady order of experiments would meet the same server each time."""
    bad = real.refuse(lambda hello: HYBRID in hello.supported_groups, real.ALERT_40)
    with real.Proxy(hybrid_port, take_turns(bad, *[real.read_whole] * (servers - 1))) as proxy:
        found = look(proxy.port, PlanOptions(repeats=10))
    assert found.fault_ids == {"F43"}, found.answer
    counts = {each.experiment: each for each in found.repetitions}
    hybrid = counts["E23"]
    assert 2 <= hybrid.failed < hybrid.attempts
    assert hybrid.low < 1 / servers < hybrid.high, "the interval holds the true rate"
    assert counts["E1"].failed == counts["E3"].failed == 0
    assert f"E23 failed {hybrid.failed} of {hybrid.attempts} (95 %: " in found.answer
    assert found.findings.gap is None


def test_a_pool_with_one_server_that_reads_once_is_no_matter_of_the_pause(hybrid_port: int) -> None:
    with real.Proxy(hybrid_port, take_turns(read_once_after(0.0), real.read_whole, real.read_whole)) as proxy:
        found = look(proxy.port, PlanOptions(repeats=9))
    assert found.fault_ids == {"F43"}, found.answer
    gap = found.findings.gap
    assert gap is not None
    assert not gap.depends
    assert 0 < gap.paused.failed < gap.paused.attempts


def test_a_pool_of_good_servers_is_healthy(hybrid_port: int) -> None:
    with real.Proxy(hybrid_port, take_turns(real.read_whole, real.read_whole)) as proxy:
        found = look(proxy.port, PlanOptions(repeats=3))
    assert (found.verdict, found.faults) == ("healthy", ())


@pytest.mark.parametrize("has_other", [True, False])
def test_another_hybrid_works_around_a_blocked_number(
    has_other: bool, pem: Path, hybrid_environment: dict[str, str]
) -> None:
    groups = "X25519MLKEM768:SecP256r1MLKEM768:x25519" if has_other else "X25519MLKEM768:x25519"
    block = real.refuse(lambda hello: HYBRID in hello.supported_groups, real.ALERT_40)
    with real.run_server(pem, hybrid_environment, groups) as port, real.Proxy(port, block) as proxy:
        found = look(proxy.port)
    assert found.fault_ids == {"F23"}
    proved = {each.experiment: each.what for each in found.workarounds if each.proved}
    assert ("E10p" in proved) is has_other, "a retry for x25519 got through, and proves nothing post-quantum"
    assert ("Proved to work here (E10p): offer SecP256r1MLKEM768" in found.answer) is has_other


class BlindConnection(SocketConnection):
    """A connection on a platform without TCP_INFO."""

    def tcp_facts(self) -> TcpFacts | None:
        return None


class BlindNetwork(FastNetwork):
    def connect(self, max_segment_bytes: int | None, timeout_s: float) -> SocketConnection:
        made = super().connect(max_segment_bytes, timeout_s)
        made.__class__ = BlindConnection
        return made


def test_without_tcp_facts_a_healthy_path_is_healthy(hybrid_port: int) -> None:
    network = BlindNetwork(socket.AF_INET, ("127.0.0.1", hybrid_port))
    found = examine(Prober(network, real.NAME), network)
    assert (found.verdict, len(found.attempts)) == ("healthy", 3)
    assert all(each.tcp is None for each in found.attempts)


@pytest.mark.parametrize("fault", ["F06", "F13"])
def test_without_tcp_facts_more_fits_and_the_answer_says_so(fault: str) -> None:
    """The same path twice, once on a platform that tells, once on one that does not."""
    sets = []
    for has_facts in (True, False):
        case = FAULTS[fault](random.Random(f"{fault} blind"))  # noqa: S311 - a model, seeded
        case.simulator.has_tcp_facts = has_facts
        found = examine(case.simulator, case.simulator, case.options)
        sets.append(found.fault_ids | set(found.also_fits))
        assert ("so more faults may fit here than on Linux" in found.answer) is not has_facts
        kinds = {each.kind for each in read_attempts(found.attempts).failures}
        assert kinds == ({"timeout"} if not has_facts else {"lost"} if fault == "F13" else {"zero-window"})
    # A black hole is still told by small segments; a window that closed is like a server that says nothing.
    assert sets[0] == sets[1] if fault == "F13" else sets[0] < sets[1]


def test_a_healthy_path_of_20_ms_takes_three_connections_and_less_than_a_second_and_a_half() -> None:
    """On the model's clock, which counts round trips and pauses and no machine's load."""
    for seed in range(20):
        rng = random.Random(seed)  # noqa: S311 - a model, seeded
        tls = Tls((MODEL_HYBRID, X25519, P256), flight_bytes=rng.randint(1000, 6000), think_s=0.002)
        simulator = Simulator(rng, Link(rtt_s=0.02), partial(TlsApp, tls, rng))
        found = examine(simulator, simulator)
        assert (found.verdict, len(found.attempts)) == ("healthy", 3)
        assert simulator.clock_s < 1.5


def test_a_healthy_path_of_20_ms_on_real_packets() -> None:
    require_namespaces()
    wanted = (draw("F45", seed) for seed in itertools.count())
    seed = next(number for number, each in enumerate(wanted) if 0.02 <= each.link.rtt_s < 0.021)
    with PathLab() as lab:
        lab.apply("F45", seed)
        network = lab.network()
        began = time.monotonic()
        found = examine(Prober(network, lab.server_name), network)
        seconds = time.monotonic() - began
    assert (found.verdict, len(found.attempts)) == ("healthy", 3)
    assert min(each.connect_s or 0.0 for each in found.attempts) > 0.019
    assert seconds < 1.5


def test_the_hop_of_a_box_is_found_on_real_packets() -> None:
    """The lab's box is between its two routers, short of the server: hops 1, 2 and 3."""
    require_namespaces()
    with PathLab() as lab:
        lab.apply("F23", 0)
        network = lab.network()
        found = examine(Prober(network, lab.server_name), network, PlanOptions(can_limit_hops=True))
    hops = found.findings.hops
    assert hops is not None
    assert (hops.after, hops.at, hops.is_before_server) == (1, 2, True)
    assert found.where == "middlebox"
    assert "between hop 1 and hop 2, short of the server" in found.answer
    assert all(each.ending == "expired" for each in found.attempts if each.experiment == "E21(E1@2)")


def test_experiments_with_numbers() -> None:
    control = find_experiment("E1").hello
    assert control is not None
    assert find_experiment("E18(1025)").hello == replace(control, padded_to=1025)
    assert find_experiment("E19(30)").send.pause_s == pytest.approx(0.03)
    limited = find_experiment("E21(E4@7)")
    assert (limited.send.hops, limited.hello, limited.is_aside) == (7, find_experiment("E4").hello, True)
    for name in ("E18()", "E18(x)", "E21(E4)", "E21(E99@2)", "E99", "E18(100)\n"):
        with pytest.raises(KeyError):
            find_experiment(name)
