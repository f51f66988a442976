"""The record everyone exchanges: one TLS connection, who saw it, what was seen, and what that proves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from pqtls.evidence import Finding, judge
from pqtls.observe.names import normalize_host
from pqtls.wire.codepoints import alert_name, cipher_suite_name, signature_scheme_name, version_name
from pqtls.wire.facts import ClientHelloFacts, Handshake
from pqtls.wire.groups import group_name

SCHEMA = "pqtls/observation/1"
_VERDICTS_WEAKEST_FIRST = ("not-post-quantum", "inconclusive", "post-quantum")


@dataclass(frozen=True, slots=True)
class Process:
    """The process that a connection belongs to: its number and its program's name, never its arguments."""

    pid: int
    name: str


@dataclass(frozen=True, slots=True)
class Observation:
    """One TLS connection as one or more witnesses saw it.

    Attributes:
        id: sha256 of the first ClientHello.random, first 16 hex digits; empty if no ClientHello was seen.
        sources: The witnesses: "recorder", "relay".
        started_ns: Wall clock of the first byte, in nanoseconds since 1970 (UTC); None if not known.
        client: Address of the TLS client as `ip:port`, None where it was not visible.
        server: Address that the client was connected to (a proxy's, if there is one), None if not visible.
        process: The process, where the witness is inside it.
        handshake: The facts.
        finding: What the facts prove.
        role: Which end the recorded process was; None where no process was watched.
    """

    id: str
    sources: tuple[str, ...]
    started_ns: int | None
    client: str | None
    server: str | None
    process: Process | None
    handshake: Handshake
    finding: Finding
    role: str | None = None

    @property
    def host(self) -> str | None:
        """The host name that the client asked for; None without one, or where ECH hides the real one."""
        sni = self.handshake.sni
        return None if self.handshake.ech or sni is None else normalize_host(sni)

    def to_json(self) -> dict[str, Any]:
        """Return the record as `pqtls/observation/1`, with names in place of code points."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "sources": list(self.sources),
            "started": None if self.started_ns is None else format_time(self.started_ns),
            "client": self.client,
            "server": self.server,
            "process": None if self.process is None else {"pid": self.process.pid, "name": self.process.name},
            "handshake": handshake_to_json(self.handshake),
            "key_exchange": self.finding.key_exchange,
            "verdict": self.finding.verdict,
            "reason": self.finding.reason,
        }


def format_time(time_ns: int) -> str:
    """Write a wall-clock time as UTC with microseconds, such as 2026-11-23T17:00:00.123456Z.

    Args:
        time_ns: Nanoseconds since 1970.
    """
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc).replace(microsecond=nanoseconds // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def handshake_to_json(handshake: Handshake) -> dict[str, Any]:
    """Return the `handshake` member of the record.

    Args:
        handshake: The facts.
    """
    hello, retry, alert = handshake.server_hello, handshake.hello_retry, handshake.alert
    legacy = handshake.legacy_key_exchange
    return {
        "transport": handshake.transport,
        "version": None if handshake.version is None else version_name(handshake.version),
        "sni": handshake.sni,
        "alpn": list(handshake.alpn),
        "ech": handshake.ech,
        "cipher": None if handshake.cipher is None else cipher_suite_name(handshake.cipher),
        "client_hellos": [_client_hello_to_json(each) for each in handshake.client_hellos],
        "hello_retry": None
        if retry is None
        else {"group": None if retry.group is None else group_name(retry.group), "cookie": retry.cookie},
        "server_hello": None
        if hello is None
        else {
            "bytes": hello.size_bytes,
            "group": None if hello.group is None else group_name(hello.group),
            "key_share_bytes": hello.key_share_bytes,
        },
        "legacy_key_exchange": None
        if legacy is None
        else {
            "kind": legacy.kind,
            "group": None if legacy.group is None else group_name(legacy.group),
            "dh_bits": legacy.dh_bits,
        },
        "psk": handshake.psk,
        "early_data": handshake.early_data,
        "alert": None
        if alert is None
        else {"from": alert.sender.value, "code": alert.code, "name": alert_name(alert.code)},
        "ended": handshake.ended,
        "malformed": handshake.malformed,
        "plaintext": handshake.plaintext,
        "complete": handshake.complete,
        "handshake_ms": None if handshake.handshake_ms is None else round(handshake.handshake_ms, 3),
    }


def _client_hello_to_json(hello: ClientHelloFacts) -> dict[str, Any]:
    return {
        "bytes": hello.size_bytes,
        "records": hello.records,
        "segments": hello.segments,
        "groups": [group_name(group) for group in hello.groups],
        "key_shares": [{"group": group_name(share.group), "bytes": share.size_bytes} for share in hello.key_shares],
        "signature_algorithms": [signature_scheme_name(scheme) for scheme in hello.signature_algorithms],
    }


def find_disagreements(one: Observation, other: Observation) -> list[str]:
    """Compare what two witnesses say of the same connection.

    Args:
        one: What the first witness saw.
        other: What the second saw; of the same `id`.

    Returns:
        One sentence for each fact on which they differ; a fact that one of them did not see is no
        difference. Empty when they agree.
    """
    differences = []
    for name, first, second in _comparable_facts(one.handshake, other.handshake):
        if first is not None and second is not None and first != second:
            differences.append(
                f"{name}: {one.sources[0]} saw {_in_words(first)}, {other.sources[0]} saw {_in_words(second)}"
            )
    verdicts = {one.finding.verdict, other.finding.verdict}
    if verdicts == {"post-quantum", "not-post-quantum"}:
        differences.append(f"verdict: {one.finding.verdict} against {other.finding.verdict}")
    return differences


# What is compared, as it stands in the record, with its name for people.
_COMPARED = (
    ("version", "version"),
    ("cipher suite", "cipher"),
    ("host name", "sni"),
    ("HelloRetryRequest", "hello_retry"),
    ("ServerHello", "server_hello"),
)
_COMPARED_IN_HELLOS = (("size", "bytes"), ("groups", "groups"), ("key shares", "key_shares"))


def _comparable_facts(one: Handshake, other: Handshake) -> list[tuple[str, Any, Any]]:
    first, second = handshake_to_json(one), handshake_to_json(other)
    facts = [(name, first[key], second[key]) for name, key in _COMPARED]
    hellos = zip(first["client_hellos"], second["client_hellos"], strict=False)
    for number, (mine, theirs) in enumerate(hellos, 1):
        facts += [(f"ClientHello {number} {name}", mine[key], theirs[key]) for name, key in _COMPARED_IN_HELLOS]
    return facts


def _in_words(fact: Any) -> str:
    """Write a fact of the record for people."""
    if isinstance(fact, dict):
        return "(" + ", ".join(f"{name} {_in_words(value)}" for name, value in fact.items()) + ")"
    if isinstance(fact, list):
        return " ".join(map(_in_words, fact)) or "none"
    return str(fact)


def merge(one: Observation, other: Observation) -> Observation:
    """Join what two witnesses saw of the same connection into one observation.

    Args:
        one: The nearer witness (inside the process); its facts are kept, with what only the other saw added.
        other: The other witness.

    Returns:
        The joined observation. It is post-quantum only if both say so: the weaker of the findings stands, and of
        equally weak ones that of all facts together. A reset, which only the wire shows, is told as one.
    """
    hellos = tuple(
        replace(
            hello,
            records=hello.records if hello.records is not None else seen.records,
            segments=hello.segments if hello.segments is not None else seen.segments,
        )
        for hello, seen in zip(one.handshake.client_hellos, other.handshake.client_hellos, strict=False)
    )
    hellos += one.handshake.client_hellos[len(hellos) :]
    handshake = replace(
        one.handshake,
        client_hellos=hellos,
        alert=one.handshake.alert or other.handshake.alert,
        ended=one.handshake.ended or other.handshake.ended,
    )
    findings = (judge(handshake), one.finding, other.finding)
    return replace(
        one,
        sources=one.sources + other.sources,
        client=one.client or other.client,
        server=one.server or other.server,
        handshake=handshake,
        finding=min(findings, key=lambda each: _VERDICTS_WEAKEST_FIRST.index(each.verdict)),
    )


def observe(
    handshake: Handshake,
    connection_id: str,
    source: str,
    *,
    started_ns: int | None = None,
    client: str | None = None,
    server: str | None = None,
    process: Process | None = None,
    role: str | None = None,
) -> Observation:
    """Make the observation of one witness, with the finding that its facts amount to.

    Args:
        handshake: The facts.
        connection_id: The tracker's name for the connection.
        source: The witness.
        started_ns: Wall clock of the first byte, nanoseconds since 1970.
        client: Address of the client.
        server: Address of the server.
        process: The process, if the witness was inside it.
        role: "client" or "server", if the witness was inside a process.
    """
    return Observation(connection_id, (source,), started_ns, client, server, process, handshake, judge(handshake), role)
