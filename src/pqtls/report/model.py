"""The one model that every report of `pqtls test` is drawn from, and what its outcome amounts to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pqtls.errors import (
    EXIT_BUG,
    EXIT_FINDING,
    EXIT_INCONCLUSIVE,
    EXIT_PROVEN,
    combine_exit_codes,
)
from pqtls.observe.names import normalize_host

if TYPE_CHECKING:
    from pqtls.evidence import Verdict
    from pqtls.observe.observation import Observation

CaseVerdict = Literal["post-quantum", "allowed", "not-post-quantum", "inconclusive", "disagreement"]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A control beside a case: the same client sent to a server that it must refuse.

    Attributes:
        server: "wrong-name" (a good certificate for another name) or "wrong-ca" (an unknown authority).
        contacted: The client did open a TLS connection to it.
        requests: HTTP requests that the server received: 0 if verification held.
        exit_code: The client's own exit code; None if it had to be stopped.
    """

    server: Literal["wrong-name", "wrong-ca"]
    contacted: bool
    requests: int
    exit_code: int | None

    @property
    def was_refused(self) -> bool:
        """The client met the server, sent it nothing and reported a failure."""
        return self.contacted and self.requests == 0 and self.exit_code not in (0, None)

    @property
    def exit_code_of_control(self) -> int:
        """0 if the server was refused, 1 if it was not; 3 if the client never met it, so that nothing is shown."""
        if self.was_refused:
            return EXIT_PROVEN
        return EXIT_FINDING if self.contacted else EXIT_INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What one client did, and what each of its connections proves.

    Attributes:
        name: Short name, as `--case` takes it.
        title: Name for people.
        exit_code: The client's exit code; None if it was stopped after its time.
        seconds: Wall time of the client's process.
        output: Last lines that it printed.
        connections: Every TLS connection that a witness saw.
        allowed: Host name to reason: hosts that may be classical.
        blind_spots: What was not visible here, as sentences.
        notes: What one witness did not see but the other did, as sentences; they take nothing from the verdict.
        disagreements: Facts on which the witnesses differ, as sentences.
        refusals: The certificate controls that belong to this client.
        target_host: The real server that it was sent to; None in the lab.
        must_reach_target: Where its own connections go is ours to say: without one to `target_host` nothing is proven.
        failure_reason: Why it failed, in a word for programs; "" if it did not, or nobody knows.
        failure: The same as a sentence.
    """

    name: str
    title: str
    exit_code: int | None
    seconds: float
    output: str
    connections: tuple[Observation, ...]
    allowed: dict[str, str] = field(default_factory=dict)
    blind_spots: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    disagreements: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    target_host: str | None = None
    must_reach_target: bool = False
    failure_reason: str = ""
    failure: str = ""

    @property
    def got_its_answer(self) -> bool:
        """The client itself was satisfied. It proves nothing about the key exchange."""
        return self.exit_code == 0

    def is_allowed(self, connection: Observation) -> bool:
        """Tell whether a connection that is not post-quantum goes to a host that may be classical.

        Args:
            connection: One of this case's.
        """
        return connection.finding.verdict == "not-post-quantum" and (connection.host or "") in self.allowed

    def is_helper(self, connection: Observation) -> bool:
        """Tell whether a connection goes elsewhere than to the server under test, such as to AWS's STS.

        Args:
            connection: One of this case's.
        """
        return self.target_host is not None and connection.host not in (None, normalize_host(self.target_host))

    @property
    def missed_its_target(self) -> bool:
        """It was sent to a real server, and every connection that was seen goes elsewhere."""
        return self.must_reach_target and all(self.is_helper(each) for each in self.connections)

    @property
    def verdict(self) -> CaseVerdict:
        """What all its connections amount to; never post-quantum with one that is not, or with a blind spot."""
        if self.disagreements:
            return "disagreement"
        verdicts: set[Verdict | Literal["allowed"]] = {
            "allowed" if self.is_allowed(each) else each.finding.verdict for each in self.connections
        }
        if "not-post-quantum" in verdicts:
            return "not-post-quantum"
        if not verdicts or "inconclusive" in verdicts or self.blind_spots or not self.got_its_answer:
            return "inconclusive"
        if self.missed_its_target:
            return "inconclusive"
        return "allowed" if "allowed" in verdicts else "post-quantum"

    @property
    def reason(self) -> str:
        """Why, in a word of the verdict table where a connection decides, else in a short clause."""
        if self.disagreements:
            return "witnesses-disagree"
        verdict = self.verdict
        for connection in self.connections:
            if connection.finding.verdict == verdict and not self.is_allowed(connection):
                return connection.finding.reason
        if verdict == "allowed":
            return "allowed-host"
        if not self.got_its_answer and self.failure_reason:
            return self.failure_reason
        if not self.connections:
            return "no-connection-seen"
        if self.got_its_answer and not self.blind_spots:
            return "target-not-contacted"
        return "not-visible-here" if self.blind_spots else "client-failed"

    @property
    def exit_code_of_case(self) -> int:
        """The exit code that this case alone would end the command with."""
        return combine_exit_codes([self._exit_code_of_verdict, *(each.exit_code_of_control for each in self.refusals)])

    @property
    def _exit_code_of_verdict(self) -> int:
        return {
            "disagreement": EXIT_BUG,
            "not-post-quantum": EXIT_FINDING,
            "inconclusive": EXIT_INCONCLUSIVE,
            "post-quantum": EXIT_PROVEN,
            "allowed": EXIT_PROVEN,
        }[self.verdict]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the suite ran on.

    Attributes:
        pqtls: Version of pqtls.
        python: Version of the clients' interpreter.
        way: "native", "graft" or "system".
        openssl: OPENSSL_VERSION that the clients really ran with.
        why: Why this way, as a sentence.
        source: Where a grafted OpenSSL comes from, else "".
        servers: OPENSSL_VERSION of the lab's servers; "" for real ones.
        client_groups: Groups that the clients were held to; "" for OpenSSL's own list.
        server_groups: Groups that the servers were held to; "" for OpenSSL's own list.
        witnesses: Who looked, as a sentence.
        targets: Real servers, as host:port; empty in the lab.
        server_tls: The one TLS version that the servers were held to; "" if they could choose.
        aws_cli_v2: What an AWS CLI v2 on PATH carries, and whether it is run, as a sentence; "" if it has no part.
    """

    pqtls: str
    python: str
    way: str
    openssl: str
    why: str
    source: str
    servers: str
    client_groups: str
    server_groups: str
    witnesses: str
    targets: tuple[str, ...] = ()
    server_tls: str = ""
    aws_cli_v2: str = ""


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """The whole run: the setting, every case, and the negative control.

    Attributes:
        setting: What it ran on.
        cases: The cases, in the suite's order.
        control: A client held to x25519, which must come out not-post-quantum.
        seconds: Wall time of the whole run.
    """

    setting: Setting
    cases: tuple[CaseResult, ...]
    control: CaseResult
    seconds: float

    @property
    def unused_allowed(self) -> tuple[str, ...]:
        """Hosts that --allow names and that no classical connection went to: perhaps misspelt, perhaps done with."""
        named = {host for case in self.cases for host in case.allowed}
        used = {each.host for case in self.cases for each in case.connections if case.is_allowed(each)}
        return tuple(sorted(named - used))

    @property
    def control_exit_code(self) -> int:
        """0 if the control came out classical; 4 if it was called post-quantum; else nothing is proven: 3."""
        verdicts = {each.finding.verdict for each in self.control.connections}
        if "post-quantum" in verdicts or self.control.disagreements:
            return EXIT_BUG
        return EXIT_PROVEN if verdicts == {"not-post-quantum"} else EXIT_INCONCLUSIVE

    @property
    def exit_code(self) -> int:
        """The exit code of the run."""
        return combine_exit_codes(
            [self.control_exit_code, *(case.exit_code_of_case for case in self.cases)] if self.cases else []
        )
