"""Ask a far end what arrived there."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from pqtls.errors import CannotProveError
from pqtls.peer.questions import MAX_ANSWER_BYTES, read_answer, sign_question

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.peer.arrivals import Arrival

_TIMEOUT_S = 10.0
_CHUNK_BYTES = 65_536


def ask(
    connect: Callable[[], socket.socket], token: str, since: int, random_bytes: Callable[[int], bytes] = os.urandom
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
    answer = b""
    try:
        with connect() as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.sendall(sign_question(token, nonce, since))
            while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER_BYTES:
                chunk = connection.recv(_CHUNK_BYTES)
                if not chunk:
                    break
                answer += chunk
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
