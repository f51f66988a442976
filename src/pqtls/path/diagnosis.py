"""The answer: what is wrong on a path, how sure that is, whose it most likely is, and what works around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pqtls.faults.catalogue import CATALOGUE, fault_name
from pqtls.path.attempt_json import attempt_to_json
from pqtls.path.findings import Findings
from pqtls.probe.model import Attempt

PathVerdict = Literal["healthy", "fault", "inconclusive"]
ServerState = Literal["preferred", "supported", "only-by-retry", "classical", "tls12", "draft", "unknown"]


@dataclass(frozen=True, slots=True)
class NamedFault:
    """One class that explains every outcome.

    Attributes:
        id: Such as F13.
        confidence: 0 to 1.
        detail: What was found about it, such as a size; "" if nothing more.
    """

    id: str
    confidence: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Workaround:
    """Something to do about a fault.

    Attributes:
        what: As an instruction.
        proved: An experiment that does just this got through here.
        experiment: Which one, "" if none was.
    """

    what: str
    proved: bool
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """Something that makes handshakes slower and breaks nothing.

    Attributes:
        id: Catalogue entry.
        detail: What was measured.
    """

    id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Repetition:
    """An experiment that was done several times.

    Attributes:
        experiment: Its id.
        failed: How often it failed.
        attempts: How often it was done.
        low: Lower end of the 95 % interval (Wilson) of the rate of failure.
        high: Upper end.
    """

    experiment: str
    failed: int
    attempts: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the attempts amount to.

    Attributes:
        verdict: "fault" only if a class of the catalogue explains every outcome.
        server_state: How far the server itself is, told apart from the path.
        faults: Every class that explains all outcomes; several: they cannot be told apart from this end.
        also_fits: Entries that no experiment from this end can tell from the faults; none of a healthy path.
        triggered_by: Of F40: classes that explain what set the block off; of F43: that explain its failing part.
        where: Whose it most likely is.
        workarounds: What to do, proved ones first.
        costs: What is slower, and why.
        repetitions: Experiments done more than once.
        findings: From which size on, at which pause, at which hop, for how long.
        answer: All of it in a sentence or two.
        notes: What else a reader should know.
        attempts: Everything that was done, in order.
        proxy: URL of the proxy that it went through, without credentials; "" for none.
        starttls: Protocol in which TLS was asked for; "" for TLS from the start.
    """

    verdict: PathVerdict
    server_state: ServerState
    faults: tuple[NamedFault, ...] = ()
    also_fits: tuple[str, ...] = ()
    triggered_by: tuple[str, ...] = ()
    where: str = "unknown"
    workarounds: tuple[Workaround, ...] = ()
    costs: tuple[Cost, ...] = ()
    repetitions: tuple[Repetition, ...] = ()
    findings: Findings = field(default_factory=Findings)
    answer: str = ""
    notes: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    proxy: str = ""
    starttls: str = ""

    @property
    def is_blind(self) -> bool:
        """There were connections, and the platform told nothing of them."""
        connected = [attempt for attempt in self.attempts if attempt.is_connected]
        return bool(connected) and all(attempt.tcp is None for attempt in connected)

    @property
    def fault_ids(self) -> frozenset[str]:
        """Ids of the faults."""
        return frozenset(fault.id for fault in self.faults)

    def to_json(self, target: str, address: str | None) -> dict[str, Any]:
        """Return the object of schema pqtls/diagnosis/1.

        Args:
            target: Host and port as asked for.
            address: IP address that was examined, "" if none was reached, or if a proxy knows it alone; None if none
                was tried, as of a name that does not resolve.
        """
        return {
            "schema": "pqtls/diagnosis/1",
            "target": target,
            "address": address,
            "proxy": self.proxy or None,
            "starttls": self.starttls or None,
            "verdict": self.verdict,
            "server_state": self.server_state,
            "faults": [
                {
                    "id": each.id,
                    "name": fault_name(each.id),
                    "radar": CATALOGUE[each.id].radar or None,
                    "confidence": each.confidence,
                    "detail": each.detail,
                    "known": [{"what": victim.what, "source": victim.source} for victim in CATALOGUE[each.id].victims],
                }
                for each in self.faults
            ],
            "also_fits": list(self.also_fits),
            "triggered_by": list(self.triggered_by),
            "where": self.where,
            "workarounds": [
                {"what": each.what, "proved": each.proved, "experiment": each.experiment or None}
                for each in self.workarounds
            ],
            "costs": [{"id": each.id, "name": fault_name(each.id), "detail": each.detail} for each in self.costs],
            "repetitions": [
                {name: getattr(each, name) for name in ("experiment", "failed", "attempts", "low", "high")}
                for each in self.repetitions
            ],
            "findings": self.findings.to_json(),
            "answer": self.answer,
            "notes": list(self.notes),
            "experiments": [attempt_to_json(attempt) for attempt in self.attempts],
        }
