"""The far end on real sockets: what arrives is told to those who have the token, and tells what the way does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pqtls.cli import run_app
from pqtls.errors import CannotProveError
from pqtls.lab.paths.serving import Listener, inspect_as
from pqtls.lab.paths.tls_server import Identity
from pqtls.path.compare import Comparison, compare, summarize
from pqtls.path.examine import examine
from pqtls.peer import asking, far_end
from pqtls.peer.arrivals import MAX_ARRIVALS, Arrival, Book
from pqtls.peer.questions import read_answer, read_question, sign_answer, sign_question
from pqtls.probe.experiments import EXPERIMENTS
from pqtls.probe.model import Attempt
from pqtls.probe.network import SocketNetwork
from pqtls.probe.run import Prober
from tests.schemas import validate

TOKEN = "a token of enough characters"  # noqa: S105 - the test's own
LOOPBACK = "127.0.0.1"


@pytest.fixture
def there() -> Iterator[far_end.FarEnd]:
    server = far_end.FarEnd((LOOPBACK, 0), TOKEN)
    yield server
    server.close()


def ask(there: far_end.FarEnd, token: str = TOKEN, since: int = 0) -> list[Arrival]:
    time.sleep(0.05)  # what was sent last is written down when its connection ends
    return asking.ask(lambda: SocketNetwork(socket.AF_INET, (LOOPBACK, there.port)).connect(None, 5), token, since)[1]


def attempt(port: int, *experiments: str, timeout_s: float = 2.0) -> list[Attempt]:
    network = SocketNetwork(socket.AF_INET, (LOOPBACK, port))
    began = time.monotonic()
    found = []
    for number, name in enumerate(experiments):
        made = Prober(network, "server.example")
        found.append(made.attempt(EXPERIMENTS[name], number, time.monotonic() - began, timeout_s))
    return found


def fates(compared: tuple[Comparison, ...]) -> list[str]:
    return [each.fate for each in compared]


def test_an_undisturbed_path(there: far_end.FarEnd) -> None:
    network = SocketNetwork(socket.AF_INET, (LOOPBACK, there.port))
    found = examine(Prober(network, "server.example"), network)
    assert (found.verdict, found.server_state) == ("healthy", "preferred")
    arrivals = ask(there)
    assert [each.ending for each in arrivals] == ["finished"] * 3
    assert [each.sha256 for each in arrivals] == [a.sent.sha256 for a in found.attempts if a.sent]
    assert fates(compare(found.attempts, arrivals)) == ["as-sent"] * 3
    cut = arrivals[2]
    assert [size for size, _ in cut.chunks] == [109, 141], "the pause shows where it was cut"
    assert cut.chunks[1][1] - cut.chunks[0][1] > 0.25


def test_a_box_that_makes_a_connection_of_its_own(there: far_end.FarEnd) -> None:
    import trustme

    from pqtls.lab.paths.tls_server import load_identity

    authority = trustme.CA()

    def mint(name: str) -> Identity:
        leaf = authority.issue_cert(name)
        return load_identity(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())

    pem = ssl.DER_cert_to_PEM_cert(there._identity.chain[0])
    box = Listener((LOOPBACK, 0), inspect_as(mint, (LOOPBACK, there.port), pem))
    try:
        attempts = attempt(box.port, "E1", "E1")
    finally:
        box.close()
    assert [each.ending for each in attempts] == ["answered"] * 2
    assert fates(compare(attempts, ask(there))) == ["re-originated"] * 2


def carry(there: far_end.FarEnd, change: Callable[[bytes], tuple[bytes, bool]]) -> Listener:
    """A proxy that does something to the client's first bytes; answers are carried back if it says so."""

    def handle(connection: socket.socket) -> None:
        data = connection.recv(65_536)
        passed, is_answered = change(data)
        with socket.create_connection((LOOPBACK, there.port), 5) as onward:
            onward.sendall(passed)
            onward.settimeout(0.5)
            with contextlib.suppress(OSError):
                while answer := onward.recv(65_536):
                    if is_answered:
                        connection.sendall(answer)
            connection.settimeout(5)
            connection.recv(1)

    return Listener((LOOPBACK, 0), handle)


def rewrite(data: bytes) -> tuple[bytes, bool]:
    """A bit of the random: nothing a server would mind, but the transcript is another."""
    return data[:20] + bytes([data[20] ^ 1]) + data[21:], True


@pytest.mark.parametrize(
    ("change", "fate"),
    [
        (rewrite, "rewritten"),
        (lambda data: (data[:100], False), "lost-there"),
        (lambda data: (data, False), "lost-back"),
    ],
)
def test_what_the_way_does(change: Callable[[bytes], tuple[bytes, bool]], fate: str, there: far_end.FarEnd) -> None:
    box = carry(there, change)
    try:
        attempts = attempt(box.port, "E1")
    finally:
        box.close()
    time.sleep(0.6)
    assert fates(compare(attempts, ask(there))) == [fate], attempts[0].ending


def test_the_second_hello_is_lost(there: far_end.FarEnd) -> None:
    """The first arrived and was answered by a retry: what never came is the second, not the answer."""

    def handle(connection: socket.socket) -> None:
        data = connection.recv(65_536)
        with socket.create_connection((LOOPBACK, there.port), 5) as onward:
            onward.sendall(data)
            connection.sendall(onward.recv(65_536))
            connection.settimeout(5)
            while connection.recv(65_536):  # taken, and never passed on
                pass

    box = Listener((LOOPBACK, 0), handle)
    try:
        attempts = attempt(box.port, "E12")
    finally:
        box.close()
    assert (attempts[0].ending, attempts[0].was_retried) == ("timeout", True)
    time.sleep(0.2)
    assert fates(compare(attempts, ask(there))) == ["lost-there"]


def test_without_an_answer_this_end_is_examined_alone(
    there: far_end.FarEnd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"{LOOPBACK}:{there.port}"
    monkeypatch.setenv("PQTLS_TOKEN", "a token that is not theirs")
    assert run_app(["path", place, "--peer", place]) == 3, "both ends were asked for"
    told = capsys.readouterr()
    assert "from this end alone" in told.err
    assert "both ends" not in told.out
    monkeypatch.setenv("PQTLS_TOKEN", "short")
    assert run_app(["path", place, "--peer", place]) == 2
    assert "at least 16 characters" in capsys.readouterr().err


def test_nothing_arrives(there: far_end.FarEnd) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        attempts = attempt(int(silent.getsockname()[1]), "E1", timeout_s=0.5)
    compared = compare(attempts, ask(there))
    assert fates(compared) == ["nothing-arrived"]
    assert summarize(compared)[0].startswith("1 of 1: nothing arrived")


def test_another_server_answers_than_the_one_asked(
    there: far_end.FarEnd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody on the way kept what another server took, not even where that one did not answer all of it."""
    other = far_end.FarEnd((LOOPBACK, 0), TOKEN)
    monkeypatch.setenv("PQTLS_TOKEN", TOKEN)
    try:
        attempts = attempt(other.port, "E1", "E23")
        refused = replace(attempts[1], ending="timeout")
        assert fates(compare([attempts[0], refused], ask(there))) == ["elsewhere"] * 2
        assert fates(compare([refused], ask(there))) == ["nothing-arrived"], "none was answered: that may be the way"
        run_app(["path", f"{LOOPBACK}:{other.port}", "--peer", f"{LOOPBACK}:{there.port}"])
    finally:
        other.close()
    told = capsys.readouterr()
    assert "another server answered" in told.out
    assert "kept it" not in told.out
    assert "another port than the target's" in told.err


def test_who_has_no_token_is_told_nothing(there: far_end.FarEnd) -> None:
    attempt(there.port, "E1")
    assert len(ask(there)) == 1
    with pytest.raises(CannotProveError, match="token"):
        ask(there, "another token of the same size")
    question = sign_question(TOKEN, "00" * 16, 0)
    answers = []
    for _ in range(2):  # a question that is heard and asked again
        with socket.create_connection((LOOPBACK, there.port), 5) as connection:
            connection.sendall(question)
            answers.append(connection.recv(65_536))
    assert answers[0]
    assert answers[1] == b""


def test_questions_and_answers_are_what_they_say() -> None:
    question = sign_question(TOKEN, "aa", 5)
    assert read_question(TOKEN, question) == ("aa", 5)
    assert read_question(TOKEN, question.replace(b"5", b"4")) is None
    answer = sign_answer(TOKEN, "aa", 7, [])
    assert read_answer(TOKEN, "aa", answer) == (7, [])
    assert read_answer(TOKEN, "ab", answer) is None, "an answer to another question"
    assert read_question(TOKEN, answer) is None
    assert TOKEN.encode() not in question + answer


def test_the_book_is_bounded() -> None:
    book = Book()
    for _ in range(MAX_ARRIVALS + 10):
        book.add(Arrival(book.new_number(), 0.0, "", None, (), 0, 0, False, "", 0, None, "closed"))
    assert len(book.since(0)[1]) == MAX_ARRIVALS


def test_hostile_bytes(there: far_end.FarEnd) -> None:
    for data in (
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"PQTLS1 " + b"x" * 2000,
        b"PQTLS1 {}\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ):
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, there.port), 5) as connection:
            connection.sendall(data)
            connection.settimeout(5)
            connection.recv(100)
    assert attempt(there.port, "E1")[0].ending == "answered"


def test_a_question_that_never_ends_is_ended(there: far_end.FarEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody needs a token to begin one: a byte now and then must not hold a connection for hours."""
    monkeypatch.setattr(far_end, "_MAX_VISIT_S", 0.3)
    with socket.create_connection((LOOPBACK, there.port), 5) as connection:
        connection.sendall(b"PQTLS1 ")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < 5:
                connection.sendall(b"x")
                connection.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(1):
                        break
        assert time.monotonic() - began < 2


def test_more_visitors_than_descriptors_do_not_end_it(tmp_path: Path) -> None:
    """Which they did: the first accept(2) that failed was the last."""
    with socket.create_server((LOOPBACK, 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-c", "from pqtls.cli import main; main()", "serve", "--listen", f"{LOOPBACK}:{port}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1", "PQTLS_TOKEN": TOKEN}
    limited = ["/bin/sh", "-c", 'ulimit -n 40; exec "$@"', "sh", *command]
    with subprocess.Popen(limited, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"{LOOPBACK}:{port}" in process.stdout.readline()
            with contextlib.ExitStack() as stack:
                for _ in range(60):
                    stack.enter_context(socket.create_connection((LOOPBACK, port), 5))
                time.sleep(0.3)
            assert attempt(port, "E1", timeout_s=10.0)[0].ending == "answered"
        finally:
            process.kill()


def test_the_verb(
    there: far_end.FarEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"{LOOPBACK}:{there.port}"
    monkeypatch.delenv("PQTLS_TOKEN", raising=False)
    assert run_app(["path", place, "--peer", place]) == 2
    monkeypatch.setenv("PQTLS_TOKEN", TOKEN)
    output = tmp_path / "found.json"
    assert run_app(["path", place, "--peer", place, "--json", str(output)]) == 0
    value = json.loads(output.read_text())
    validate(value)
    assert [each["fate"] for each in value["peer"]] == ["as-sent"] * 3
    assert "3 of 3: arrived as sent" in capsys.readouterr().out
    assert run_app(["serve", "--token", "short"]) == 2


def test_it_runs_until_ctrl_c(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, "-c", "from pqtls.cli import main; main()", "serve", "--listen", f"{LOOPBACK}:{port}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"{LOOPBACK}:{port}" in process.stdout.readline()
            token = process.stdout.readline().removeprefix("token: ").strip()
            assert attempt(port, "E1")[0].ending == "answered"
            assert "109" not in (line := process.stdout.readline())
            assert "hello 250 B" in line
            _, arrivals = asking.ask(lambda: SocketNetwork(socket.AF_INET, (LOOPBACK, port)).connect(None, 5), token, 0)
            assert [each.hello_bytes for each in arrivals] == [250]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
