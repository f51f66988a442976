"""STARTTLS in SMTP (RFC 5321 section 4.2, RFC 3207): replies of any number of lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pqtls.probe.dialogue import BeforeTlsError

if TYPE_CHECKING:
    from pqtls.probe.dialogue import Dialogue

_LINE = re.compile(rb"([2-5][0-9]{2})([ -]?)(.*)", re.DOTALL)
# The longest answers to EHLO that are met have twenty.
_MAX_LINES = 100
# A name that nobody has (RFC 6761): it tells nothing of this machine, and no mail is sent under it.
_OWN_NAME = b"pqtls.invalid"
_TRANSIENT = 4


def ask_smtp(dialogue: Dialogue) -> None:
    """Read the greeting, say EHLO, ask for TLS.

    Args:
        dialogue: With the server.

    Raises:
        BeforeTlsError: It does not agree to TLS.
    """
    dialogue.speaker = "The SMTP server"
    code, _ = _read_reply(dialogue)
    if code != 220:
        raise _refusal(code, "turns this client away before any word of it")
    dialogue.say(b"EHLO " + _OWN_NAME + b"\r\n")
    code, lines = _read_reply(dialogue)
    if code != 250:
        raise _refusal(code, "does not take EHLO, without which there is no STARTTLS")
    # The first line is the server's name, whatever it is called.
    if not any(line.split(b" ")[0].upper() == b"STARTTLS" for line in lines[1:]):
        raise BeforeTlsError(
            "The SMTP server does not offer STARTTLS on this port, or something on the way takes the offer out; "
            "submission is at port 587, TLS from the start at 465 (without --starttls).",
            is_final=True,
        )
    dialogue.say(b"STARTTLS\r\n")
    code, _ = _read_reply(dialogue)
    if code != 220:
        raise _refusal(code, "offers STARTTLS, and refuses it")
    dialogue.expect_nothing_more()


def _read_reply(dialogue: Dialogue) -> tuple[int, list[bytes]]:
    lines: list[bytes] = []
    code = b""
    for _ in range(_MAX_LINES):
        match = _LINE.fullmatch(dialogue.read_line())
        if match is None or (code and match[1] != code):
            break
        code = match[1]
        lines.append(match[3])
        if match[2] != b"-":
            return int(code), lines
    raise BeforeTlsError("What answers there speaks no SMTP: is the port right?", is_final=True)


def _refusal(code: int, what: str) -> BeforeTlsError:
    is_final = code // 100 != _TRANSIENT
    advice = "its log says why" if is_final else "try again later, and more slowly"
    return BeforeTlsError(f"The SMTP server {what} ({code}): {advice}.", is_final=is_final)
