"""Run one experiment: one connection, one attempt. What it means is for others to say."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pqtls.probe.certificates import read_certificates
from pqtls.probe.client import Handshaker, has_downgrade_sentinel
from pqtls.probe.dialogue import BeforeTlsError
from pqtls.probe.keys import make_key_pair
from pqtls.probe.model import Attempt, Ending
from pqtls.probe.network import HopsSpentError
from pqtls.probe.plan import USUAL_MSS_BYTES, USUAL_MSS_BYTES_IPV6, prepare, prepare_second

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.x509 import verification

    from pqtls.probe.model import Experiment
    from pqtls.probe.network import Connection, Network
    from pqtls.probe.plan import Ready

_SILENCE_S = 3.0
_LINGER_ROUND_TRIPS = 1.5
_LINGER_MARGIN_S = 0.01
_MAX_LINGER_S = 0.5


@dataclass(frozen=True, slots=True)
class Prober:
    """What every experiment needs.

    Attributes:
        network: Where connections come from.
        server_name: Name to ask for; None for none.
        store: Roots to verify certificates against, as a fact only; None for none.
        random_bytes: Source of randomness.
    """

    network: Network
    server_name: str | None
    store: verification.Store | None = None
    random_bytes: Callable[[int], bytes] = os.urandom

    def attempt(self, experiment: Experiment, number: int, started_s: float, timeout_s: float) -> Attempt:
        """Run an experiment. Never raises for what the network or the peer does.

        Args:
            experiment: Which.
            number: Which connection of the examination this is.
            started_s: Seconds since the examination began.
            timeout_s: How long to wait for the connection, and again for the answer.
        """
        attempt = Attempt(experiment.id, number, started_s, "timeout")
        before = self.network.now()
        try:
            connection = self.network.connect(experiment.send.max_segment_bytes, timeout_s)
        except BeforeTlsError as error:
            return replace(attempt, ending="turned-away" if error.is_final else "before-tls", detail=error.message)
        except ConnectionRefusedError:
            return replace(
                attempt,
                ending="refused",
                detail="Nothing listens on that port, or something on the way refuses connections to it.",
            )
        except TimeoutError:
            return replace(attempt, ending="connect-timeout", detail=f"No connection within {timeout_s:g} s.")
        except OSError as error:
            return replace(attempt, ending="unreachable", detail=error.strerror or str(error))
        connect_s = self.network.now() - before - connection.preamble_s
        talk = _Talk(self, connection, experiment, timeout_s)
        try:
            changes = talk.run()
        except BaseException:
            connection.abort()
            raise
        if changes["ending"] in ("timeout", "expired"):
            # A FIN would queue behind what is lost; servers that take one client at a time would wait for it.
            connection.abort()
        else:
            connection.close(talk.linger_s(connect_s + connection.preamble_s))
        return replace(
            attempt,
            address=connection.address,
            local_port=connection.local_port,
            connect_s=connect_s,
            preamble_s=connection.preamble_s,
            tcp_at_connect=talk.tcp_at_connect,
            **changes,
        )


class _Talk:
    """One connection's conversation."""

    def __init__(self, prober: Prober, connection: Connection, experiment: Experiment, timeout_s: float) -> None:
        self._prober = prober
        self._connection = connection
        self._experiment = experiment
        self._timeout_s = timeout_s
        self._now = prober.network.now
        self.tcp_at_connect = connection.tcp_facts()
        self._first_byte_s: float | None = None
        self._last_byte_s: float | None = None
        self._received_bytes = 0
        self._is_finished = False

    def linger_s(self, connect_s: float) -> float:
        if not self._is_finished:
            return 0.0
        return min(_MAX_LINGER_S, connect_s * _LINGER_ROUND_TRIPS + _LINGER_MARGIN_S)

    def run(self) -> dict[str, Any]:
        if self._experiment.hello is None:
            return self._listen()
        swapped = self._experiment.hello.is_swapped
        random_bytes = self._prober.random_bytes
        ready = prepare(
            self._experiment,
            self._prober.server_name,
            lambda group: make_key_pair(group, random_bytes, is_swapped=swapped),
            random_bytes,
            self.tcp_at_connect,
            USUAL_MSS_BYTES_IPV6 if _is_over_ipv6(self._connection.address) else USUAL_MSS_BYTES,
        )
        self._ready = replace(ready, sent=replace(ready.sent, is_relayed=self._connection.is_relayed))
        self._handshaker = Handshaker(self._ready, self._retry)
        self._started_s = self._sent_s = self._now()
        hops = self._experiment.send.hops
        if hops is None:
            return self._describe(*self._converse())
        try:
            self._connection.limit_hops(hops)
            ending = self._converse()
        except OSError as error:
            ending = "timeout", f"Nothing was sent: hops cannot be limited here ({error.strerror or error}).", False
        # The reset that ends the connection is to reach the far end.
        with contextlib.suppress(OSError):
            self._connection.limit_hops(None)
        return self._describe(*ending)

    def _listen(self) -> dict[str, Any]:
        """E0: does the server speak first?"""
        try:
            data = self._connection.receive(_SILENCE_S)
        except OSError:
            return {"ending": "reset", "tcp": self._connection.tcp_facts()}
        if data is None:
            ending: Ending = "silent"
        else:
            ending = "not-tls" if data else "closed"
        return {"ending": ending, "tcp": self._connection.tcp_facts()}

    def _retry(self, group: int | None, cookie: bytes | None) -> Ready:
        plan = self._experiment.hello
        assert plan is not None  # noqa: S101 - a hello was sent
        keys = {}
        if group is not None:
            keys = {group: make_key_pair(group, self._prober.random_bytes, is_swapped=plan.is_swapped)}
        return prepare_second(self._ready, plan, keys, cookie, self._connection.tcp_facts())

    def _converse(self) -> tuple[str, str, bool]:
        progress = self._handshaker.progress
        is_all_sent = False
        try:
            for number, write in enumerate(self._ready.writes):
                if number and self._ready.sent.pause_s and not self._pause(self._ready.sent.pause_s):
                    break
                self._connection.send(write, self._timeout_s)
                self._sent_s = self._now()
            else:
                is_all_sent = True
            deadline = self._sent_s + self._timeout_s
            while progress.ending is None:
                if self._flush():
                    deadline = self._sent_s + self._timeout_s
                data = self._connection.receive(deadline - self._now())
                if data is None:
                    return "timeout", f"Nothing more came for {self._timeout_s:g} s.", False
                if not data:
                    return "closed", "The peer ended the stream.", not is_all_sent
                self._take(data)
            self._flush()
        except (ConnectionResetError, BrokenPipeError):
            # A finished handshake stays finished: some servers reset rather than wait for our farewell.
            if progress.ending != "answered":
                return "reset", "The connection was reset.", not is_all_sent
        except HopsSpentError:
            return "expired", "A router says that the packet's hops were spent.", False
        except TimeoutError:
            return "timeout", "The kernel could not send all of the hello.", False
        except OSError as error:
            return "reset", f"The connection broke: {error.strerror or error}.", not is_all_sent
        self._is_finished = progress.ending == "answered"
        return progress.ending or "timeout", progress.detail, not is_all_sent

    def _pause(self, pause_s: float) -> bool:
        """Wait between two writes; return False if an answer or an end came meanwhile."""
        deadline = self._now() + pause_s
        data = self._connection.receive(pause_s)
        if data is None:
            return True
        if data:
            self._take(data)
        if not data or self._handshaker.progress.ending is not None:
            return False
        self._prober.network.sleep(max(0.0, deadline - self._now()))
        return True

    def _take(self, data: bytes) -> None:
        self._last_byte_s = self._now()
        self._first_byte_s = self._first_byte_s or self._last_byte_s
        self._received_bytes += len(data)
        self._handshaker.receive(data)

    def _flush(self) -> bool:
        progress = self._handshaker.progress
        output, progress.output = progress.output, b""
        if output:
            self._connection.send(output, self._timeout_s)
            self._sent_s = self._now()
        return bool(output)

    def _describe(self, ending: str, detail: str, was_early: bool) -> dict[str, Any]:
        progress = self._handshaker.progress
        hello, retry = progress.server_hello, progress.retry
        share = None if hello is None else hello.key_share
        first_s, last_s = self._first_byte_s, self._last_byte_s
        name = self._prober.server_name
        return {
            "ending": ending,
            "detail": detail,
            "was_early": was_early,
            "sent": self._ready.sent,
            "sent_again": None if progress.second is None else progress.second.sent,
            "version": None if hello is None else hello.version,
            "group": None if share is None else share.group,
            "was_retried": retry is not None,
            "retry_group": None if retry is None else retry.retry_group,
            "alert": progress.alert,
            "plain_protocol": progress.plain_protocol,
            "has_downgrade_sentinel": hello is not None and has_downgrade_sentinel(hello),
            "is_secret_swapped": progress.is_secret_swapped,
            "certificate": read_certificates(progress.chain, self._asked_name() or name, self._prober.store),
            "answer_s": None if first_s is None else max(0.0, first_s - self._sent_at_first(first_s)),
            "handshake_s": self._now() - self._started_s if ending == "answered" else None,
            "flight_bytes": self._received_bytes,
            "flight_s": None if first_s is None or last_s is None else last_s - first_s,
            "tcp": self._connection.tcp_facts(),
        }

    def _sent_at_first(self, first_s: float) -> float:
        return self._sent_s if self._sent_s <= first_s else self._started_s

    def _asked_name(self) -> str | None:
        sent = self._ready.sent
        if sent.name_start is None or sent.name_end is None:
            return None
        return self._ready.recipe.server_name


def _is_over_ipv6(address: str) -> bool:
    """Tell whether an address is reached by IPv6; an IPv4 address written as one of IPv6 (::ffff:192.0.2.1) is not."""
    return ":" in address and not address.lower().startswith("::ffff:")
