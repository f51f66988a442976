"""Ask a far end what arrived there."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pqtls.errors import CannotProveError
from pqtls.peer.questions import MAX_ANSWER_BYTES, read_answer, sign_question
from pqtls.probe.dialogue import BeforeTlsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.peer.arrivals import Arrival
    from pqtls.probe.network import Connection

_TIMEOUT_S = 10.0


def ask(
    connect: Callable[[], Connection], token: str, since: int, random_bytes: Callable[[int], bytes] = os.urandom
) -> tuple[int, list[Arrival]]:
    """Return the number of the latest connection at the far end, and the arrivals after another one.

    Args:
        connect: Makes a connection to it.
        token: The shared secret.
        since: Number of the last arrival that is known.
        random_bytes: Source of randomness.

    Raises:
        CannotProveError: There is no answer, or none that the token vouches for.
    """
    nonce = random_bytes(16).hex()
    try:
        answer = _exchange(connect(), sign_question(token, nonce, since))
    except BeforeTlsError as error:
        raise CannotProveError(f"The far end cannot be asked. {error.message}", "Ask it without the proxy.") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotProveError(f"The far end cannot be asked: {reason}.", "Is `pqtls serve` running there?") from error
    try:
        found = read_answer(token, nonce, answer)
    except (ValueError, KeyError, TypeError):
        found = None
    if found is None:
        raise CannotProveError(
            "The far end gave no answer that the token vouches for.", "Compare the tokens, and what listens there."
        )
    return found


def _exchange(connection: Connection, question: bytes) -> bytes:
    deadline = time.monotonic() + _TIMEOUT_S
    answer = bytearray()
    try:
        connection.send(question, _TIMEOUT_S)
        while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER_BYTES:
            chunk = connection.receive(deadline - time.monotonic())
            if not chunk:
                break
            answer += chunk
    finally:
        connection.close(0.0)
    return bytes(answer)
