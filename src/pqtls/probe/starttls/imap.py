"""STARTTLS in IMAP (RFC 9051 sections 6.2.1 and 7): answers by their tag, whatever untagged lines come before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.probe.dialogue import BeforeTlsError

if TYPE_CHECKING:
    from pqtls.probe.dialogue import Dialogue

_MAX_LINES = 100


def ask_imap(dialogue: Dialogue) -> None:
    """Read the greeting, look for STARTTLS among the capabilities, ask for it.

    Args:
        dialogue: With the server.

    Raises:
        BeforeTlsError: It does not agree to TLS.
    """
    dialogue.speaker = "The IMAP server"
    mark, kind = _words(dialogue.read_line())[:2]
    if mark != b"*" or kind not in (b"OK", b"PREAUTH", b"BYE"):
        raise BeforeTlsError("What answers there speaks no IMAP: is the port right?", is_final=True)
    if kind == b"BYE":
        raise BeforeTlsError("The IMAP server turns this client away (BYE): its log says why.")
    if kind == b"PREAUTH":
        raise BeforeTlsError(
            "The IMAP server takes this connection for logged in (PREAUTH), where TLS may not begin any more: "
            "examine TLS from the start, at port 993 (without --starttls).",
            is_final=True,
        )
    status, capabilities = _command(dialogue, b"p1", b"CAPABILITY")
    if status == b"OK" and b"STARTTLS" not in capabilities:
        raise BeforeTlsError(
            "The IMAP server does not offer STARTTLS on this port, or something on the way takes the offer out; TLS "
            "from the start is at port 993 (without --starttls).",
            is_final=True,
        )
    status, _ = _command(dialogue, b"p2", b"STARTTLS")
    if status != b"OK":
        raise BeforeTlsError("The IMAP server refuses STARTTLS: its log says why.", is_final=True)
    dialogue.expect_nothing_more()


def _command(dialogue: Dialogue, tag: bytes, command: bytes) -> tuple[bytes, set[bytes]]:
    """Return how a command ended, and the capabilities that were named meanwhile."""
    dialogue.say(tag + b" " + command + b"\r\n")
    capabilities: set[bytes] = set()
    for _ in range(_MAX_LINES):
        words = _words(dialogue.read_line())
        if words[0].lower() == tag:
            return words[1], capabilities
        if words[:2] == [b"*", b"CAPABILITY"]:
            capabilities.update(words[2:])
        elif words[:2] == [b"*", b"BYE"]:
            raise BeforeTlsError("The IMAP server turns this client away (BYE): its log says why.")
    raise BeforeTlsError("The IMAP server sends lines without end, and no answer.", is_final=True)


def _words(line: bytes) -> list[bytes]:
    """Return a line's words in upper case, two at least."""
    return [*line.upper().split(), b"", b""]
