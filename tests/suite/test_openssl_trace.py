"""The recorder's word against the server's own: `openssl s_server -trace` on the grafted library, for every client."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from pqtls.suite.case import Case, load_builtin_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.suite.conftest import Lab

CASES = load_builtin_cases()
# A line of -trace: a name and its code point, such as "X25519MLKEM768 (4588)".
_GROUP = re.compile(r"\((\d+)\)")


class TraceServer:
    """s_server in a process, its trace read as it comes."""

    def __init__(self, lab: Lab, groups: str | None) -> None:
        certificate = lab.ca.issue("*.us-west-1.amazonaws.com", *(case.host for case in CASES))
        program = shutil.which("openssl")
        assert program is not None
        arguments = [program, "s_server", "-accept", "127.0.0.1:0", "-www", "-trace"]
        arguments += [
            "-cert",
            str(certificate.chain),
            "-cert_chain",
            str(certificate.chain),
            "-key",
            str(certificate.key),
        ]
        arguments += ["-groups", groups] if groups else []
        self.process = subprocess.Popen(
            arguments, env=lab.way.apply({"PATH": os.environ["PATH"]}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.text = ""
        self._is_listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._is_listening.wait(10), self.text
        self.port = int(re.findall(r"ACCEPT 127\.0\.0\.1:(\d+)", self.text)[0])

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65_536):
            self.text += data.decode("utf-8", "replace")
            if "ACCEPT 127.0.0.1:" in self.text:
                self._is_listening.set()

    def take(self) -> str:
        """Return the trace since the last call."""
        text, self.text = self.text, ""
        return text


@pytest.fixture(scope="module", params=[None, "x25519"], ids=["hybrid", "classical"])
def trace(request: pytest.FixtureRequest, lab: Lab) -> Iterator[TraceServer]:
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not installed")
    server = TraceServer(lab, request.param)
    yield server
    server.process.kill()
    server.process.communicate()


def section(text: str, start: str, end: str) -> list[int]:
    """Return the code points between two headings of the trace."""
    body = text.split(start, 1)[1].split(end, 1)[0]
    return [int(code) for code in _GROUP.findall(body)]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_same_groups(case: Case, lab: Lab, trace: TraceServer) -> None:
    trace.take()
    # s_server answers no POST: boto3 and the AWS CLI wait for it until they are stopped.
    run = lab.with_timeout(4.0).run(case, ("127.0.0.1", trace.port), {})
    assert len(run.connections) == 1, run.finished.output
    (connection,) = run.connections
    assert "recorder" in connection.sources
    text = trace.take()
    hello, _, answer = text.partition("ServerHello, Length")
    groups = [
        int(code)
        for code in _GROUP.findall(hello.split("extension_type=supported_groups", 1)[1].split("extension_type=", 1)[0])
    ][1:]
    shares = re.findall(r"NamedGroup: [^\n]*\((\d+)\)", hello.split("extension_type=key_share", 1)[1])
    chosen = re.findall(r"NamedGroup: [^\n]*\((\d+)\)", answer)[0]
    seen = connection.handshake
    assert list(seen.client_hellos[0].groups) == groups
    assert [share.group for share in seen.client_hellos[0].key_shares] == [int(code) for code in shares]
    assert seen.server_hello is not None
    assert seen.server_hello.group == int(chosen)
    assert 4588 in groups, "the clients are on the grafted library in both runs"
