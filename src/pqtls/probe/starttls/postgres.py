"""SSLRequest in PostgreSQL's protocol: eight bytes there, one back.

Source: PostgreSQL documentation, "Message Flow", SSL Session Encryption.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pqtls.probe.dialogue import BeforeTlsError

if TYPE_CHECKING:
    from pqtls.probe.dialogue import Dialogue

# The length of the message, itself included, and a number that is no protocol's version.
SSL_REQUEST = struct.pack("!II", 8, 80_877_103)


def ask_postgres(dialogue: Dialogue) -> None:
    """Ask for TLS.

    Args:
        dialogue: With the server, which waits for us to speak.

    Raises:
        BeforeTlsError: It does not agree to TLS.
    """
    dialogue.speaker = "The PostgreSQL server"
    dialogue.say(SSL_REQUEST)
    answer = dialogue.read_exactly(1)
    if answer == b"N":
        raise BeforeTlsError(
            "The PostgreSQL server has TLS switched off (it answers N to SSLRequest): set `ssl = on` there.",
            is_final=True,
        )
    if answer == b"E":
        raise BeforeTlsError("The PostgreSQL server answers by an error (too many clients?): its log says why.")
    if answer != b"S":
        raise BeforeTlsError("What answers there is no PostgreSQL server: is the port right?", is_final=True)
    if dialogue.unread.startswith(b"SH-"):
        raise BeforeTlsError("What answers there speaks SSH, not PostgreSQL: is the port right?", is_final=True)
    # What a box put behind the S would be read as if it had come through TLS (CVE-2021-23222).
    dialogue.expect_nothing_more()
