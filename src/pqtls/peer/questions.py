"""How the far end is asked for what arrived: one signed line there, one signed line back. The token is never sent.

A question and an answer each carry an HMAC of the token; the answer's covers the question's nonce, so nobody on the
way can make one up, or serve an old one. Nothing in them is secret but who connected: they are not encrypted, since
the path that is being examined may break whatever encrypts.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from pqtls.peer.arrivals import Arrival

PREAMBLE = b"PQTLS1 "
"""What a question starts with; no TLS record does."""

MIN_TOKEN_CHARACTERS = 16
MAX_QUESTION_BYTES = 512
MAX_ANSWER_BYTES = 4 << 20


def sign_question(token: str, nonce: str, since: int) -> bytes:
    """Return a question.

    Args:
        token: The shared secret.
        nonce: 32 hex digits, never used before.
        since: Number of the last arrival that is known.
    """
    body = json.dumps({"nonce": nonce, "since": since}).encode()
    return PREAMBLE + _mac(token, b"question", body) + b" " + body + b"\n"


def read_question(token: str, line: bytes) -> tuple[str, int] | None:
    """Return a question's nonce and number, None if it is not signed with the token.

    Args:
        token: The shared secret.
        line: What came.
    """
    body = _read(token, b"question", line)
    return None if body is None else (str(body["nonce"]), int(body["since"]))


def sign_answer(token: str, nonce: str, latest: int, arrivals: list[Arrival]) -> bytes:
    """Return an answer.

    Args:
        token: The shared secret.
        nonce: The question's.
        latest: Number of the latest connection.
        arrivals: What is asked for.
    """
    body = json.dumps({"latest": latest, "arrivals": [each.to_json() for each in arrivals]}).encode()
    return PREAMBLE + _mac(token, b"answer " + nonce.encode(), body) + b" " + body + b"\n"


def read_answer(token: str, nonce: str, line: bytes) -> tuple[int, list[Arrival]] | None:
    """Return the latest number and the arrivals, None if it is not a signed answer to this question.

    Args:
        token: The shared secret.
        nonce: The question's.
        line: What came.
    """
    body = _read(token, b"answer " + nonce.encode(), line)
    return None if body is None else (int(body["latest"]), [Arrival.from_json(each) for each in body["arrivals"]])


def _mac(token: str, purpose: bytes, body: bytes) -> bytes:
    return hmac.new(token.encode(), purpose + b"\0" + body, "sha256").hexdigest().encode()


def _read(token: str, purpose: bytes, line: bytes) -> dict[str, Any] | None:
    mac, _, body = line.removeprefix(PREAMBLE).rstrip(b"\n").partition(b" ")
    if not line.startswith(PREAMBLE) or not hmac.compare_digest(mac, _mac(token, purpose, body)):
        return None
    value: dict[str, Any] = json.loads(body)
    return value
