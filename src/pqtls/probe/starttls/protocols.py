"""The protocols by name: their port, and how TLS is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.probe.starttls.imap import ask_imap
from pqtls.probe.starttls.mysql import ask_mysql
from pqtls.probe.starttls.postgres import ask_postgres
from pqtls.probe.starttls.smtp import ask_smtp

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.probe.dialogue import Dialogue


@dataclass(frozen=True, slots=True)
class Protocol:
    """One protocol.

    Attributes:
        port: Its usual port.
        ask: Has the conversation up to where TLS begins; raises `BeforeTlsError` if it does not get there.
    """

    port: int
    ask: Callable[[Dialogue], None]


PROTOCOLS = {
    "smtp": Protocol(25, ask_smtp),
    "imap": Protocol(143, ask_imap),
    "postgres": Protocol(5432, ask_postgres),
    "mysql": Protocol(3306, ask_mysql),
}
