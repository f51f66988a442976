"""What real AWS endpoints do and a lab's don't: expired credentials, no rights, no answer. A process of its own.

`python -m tests.aws_stand_in CHAIN KEY KIND`; it prints its port, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from pqtls.lab.aws import LabApplication
from pqtls.lab.listener import TlsListener
from pqtls.lab.messages import ListenerPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from pqtls.lab.ca import ServerCertificate

# As AWS's JSON protocol writes them; the words are AWS's own.
REFUSALS = {
    "expired": ("ExpiredTokenException", "The security token included in the request is expired"),
    "denied": ("AccessDeniedException", "User: x is not authorized to perform: secretsmanager:ListSecrets"),
    "unknown-key": ("UnrecognizedClientException", "The security token included in the request is invalid."),
}


class StandIn:
    """AWS that refuses every call of its API, or lets it wait; `/ping` is answered."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._lab = LabApplication()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._kind == "slow":
            time.sleep(60)
        if self._kind == "far":
            time.sleep(0.3)
        if environ["PATH_INFO"] != "/ping" and self._kind in REFUSALS:
            name, message = REFUSALS[self._kind]
            body = json.dumps({"__type": name, "message": message}).encode()
            start_response(
                "400 Bad Request",
                [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))],
            )
            return [body]
        return self._lab(environ, start_response)


@contextlib.contextmanager
def run_stand_in(kind: str, certificate: ServerCertificate, environment: Mapping[str, str]) -> Iterator[int]:
    """Run one on loopback.

    Args:
        kind: One of `REFUSALS`, "slow", "far" (as slow as another continent) or "good".
        certificate: Its certificate.
        environment: Its whole environment, with its OpenSSL and groups.

    Yields:
        Its port.
    """
    command = [sys.executable, "-m", "tests.aws_stand_in", str(certificate.chain), str(certificate.key), kind]
    process = subprocess.Popen(command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    listener = TlsListener(ListenerPlan("good", sys.argv[1], sys.argv[2], "127.0.0.1", 0), StandIn(sys.argv[3]))
    print(listener.port, flush=True)
    sys.stdin.read()
