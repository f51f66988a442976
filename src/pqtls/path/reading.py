"""From attempts to symptoms: what kind of failure each was, which count, and which were noise or a penalty.

Nothing is named here. A timeout is read by what the kernel knew: bytes never acknowledged, a closed window, segments
that came out of order, or mere silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pqtls.probe.experiments import find_experiment
from pqtls.wire.codepoints import TLS13

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.probe.model import Attempt

CONTROL = "E1"

SymptomKind = Literal[
    "ok",
    "alert",
    "reset",
    "closed",
    "lost",  # bytes that were never acknowledged, sent again in vain
    "zero-window",
    "reverse",  # the answer's first segment never came, later ones did
    "mute",  # all acknowledged, and silence
    "timeout",  # silence on a platform that cannot tell the four above apart
    "bad-finish",
    "bad-retry",
    "malformed",
    "other-certificate",
    "not-tls",
    "no-connection",
]
# A kernel asks again for a connection after 1 s; then after another (Linux from 6.5), or after 2 (RFC 6298).
_REQUEST_INTERVAL_S = 0.95
# Loss that ends a connection is rare: what is silent more often than this is no loss.
_LOSS_PART = 0.1
SILENT: frozenset[SymptomKind] = frozenset(("lost", "reverse", "mute", "timeout", "no-connection"))
_BY_ENDING: dict[str, SymptomKind] = {
    "answered": "ok",
    "silent": "ok",
    "retry-only": "ok",
    "expired": "ok",
    "alert": "alert",
    "reset": "reset",
    "closed": "closed",
    "not-tls": "not-tls",
    "bad-finish": "bad-finish",
    "refused": "no-connection",
    "connect-timeout": "no-connection",
    "unreachable": "no-connection",
    "turned-away": "no-connection",
    "before-tls": "no-connection",
}


@dataclass(frozen=True, slots=True)
class Symptom:
    """How one attempt ended, by kind.

    Attributes:
        attempt: The attempt.
        kind: The kind.
        acked_bytes: Bytes acknowledged of what was sent, None if not known.
        is_after_retry: It ended so after a HelloRetryRequest.
    """

    attempt: Attempt
    kind: SymptomKind
    acked_bytes: int | None = None
    is_after_retry: bool = False

    @property
    def is_ok(self) -> bool:
        """The handshake went through."""
        return self.kind == "ok"


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch in which the control, which had passed before, failed after another failure.

    Attributes:
        trigger: The failure that set it off.
        failed: How many controls failed, requests for a connection that went unanswered included.
        at_least_s: Seconds that it lasted at least.
        at_most_s: At most; None if its end was not seen.
    """

    trigger: Symptom
    failed: int
    at_least_s: float
    at_most_s: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """All attempts of an examination, read together.

    Attributes:
        symptoms: One for each attempt, in order.
        counted: Those that forecasts are held against: no control under a penalty, no noise, nothing declinable.
        episodes: Penalties.
        is_blocked_at_end: The last penalty had not ended.
        noise: Silent failures of experiments that got through when repeated.
        is_control_by_chance: The control fails at times without anything having failed before it.
    """

    symptoms: tuple[Symptom, ...]
    counted: tuple[Symptom, ...]
    episodes: tuple[Episode, ...]
    is_blocked_at_end: bool
    noise: tuple[Symptom, ...]
    is_control_by_chance: bool = False

    @property
    def unsteady(self) -> tuple[Symptom, ...]:
        """Connections that were made, then met silence for seconds, of experiments that got through another time."""
        return tuple(symptom for symptom in self.noise if symptom.attempt.is_connected)

    @property
    def failures(self) -> tuple[Symptom, ...]:
        """Counted symptoms that are not ok."""
        return tuple(symptom for symptom in self.counted if not symptom.is_ok)

    @property
    def is_cured_by_itself(self) -> bool:
        """What failed cannot fail again: this end's segments have become smaller by it."""
        own = self.symptoms
        return bool(self.failures) and all(
            _is_cured(each, [other for other in own if other.attempt.experiment == each.attempt.experiment])
            for each in self.failures
        )

    @property
    def plain_protocol(self) -> str:
        """What every control was answered in that is no TLS, such as plain HTTP; "" where it was TLS, or is unknown."""
        spoken = {each.attempt.plain_protocol for each in self.of(CONTROL)}
        return spoken.pop() if len(spoken) == 1 else ""

    def of(self, experiment: str) -> tuple[Symptom, ...]:
        """Return the symptoms of an experiment, penalties left out.

        Args:
            experiment: Its id.
        """
        return tuple(each for each in self.symptoms if each.attempt.experiment == experiment)

    def passed(self, experiment: str) -> bool:
        """Tell whether an experiment got through at least once.

        Args:
            experiment: Its id.
        """
        return any(each.is_ok for each in self.of(experiment))

    def failed(self, experiment: str) -> bool:
        """Tell whether an experiment failed in a way that counts.

        Args:
            experiment: Its id.
        """
        return any(each.attempt.experiment == experiment for each in self.failures)


def read_attempts(attempts: Sequence[Attempt]) -> Reading:
    """Read attempts.

    Args:
        attempts: In order.
    """
    leaves = _control_leaves(attempts)
    symptoms = tuple(_read(attempt, leaves) for attempt in attempts)
    is_tls12 = any(a.version is not None and a.version < TLS13 for a in attempts if a.experiment == CONTROL)
    got_through = {each.attempt.experiment for each in symptoms if each.is_ok}
    episodes, blocked, is_blocked = _find_episodes(symptoms)
    is_by_chance = _fails_by_chance(symptoms)
    is_refuted = _is_refuted(symptoms, episodes)
    if is_by_chance or is_refuted or any(each.trigger.attempt.experiment in got_through for each in episodes):
        # What gets through at other times sets nothing off: these controls failed by chance, and count.
        episodes, blocked, is_blocked = (), set(), False
    noise = _find_noise([each for index, each in enumerate(symptoms) if index not in blocked])
    counted = tuple(
        each
        for index, each in enumerate(symptoms)
        if index not in blocked
        and each not in noise
        and each.attempt.sent is not None
        and not is_declinable(each.attempt, is_tls12=is_tls12)
    )
    return Reading(symptoms, counted, episodes, is_blocked, noise, is_by_chance)


def is_declinable(attempt: Attempt, *, is_tls12: bool) -> bool:
    """Tell whether a server may rightly refuse what was sent, so that a failure says nothing of the path.

    Args:
        attempt: The attempt.
        is_tls12: The control was answered in TLS 1.2, though it offered TLS 1.3.
    """
    experiment = find_experiment(attempt.experiment)
    needs_tls13 = experiment.hello is not None and experiment.hello.versions == (TLS13,)
    return experiment.is_declinable or experiment.is_aside or (is_tls12 and needs_tls13)


def _find_noise(symptoms: list[Symptom]) -> tuple[Symptom, ...]:
    """Return silent failures of experiments that get through otherwise: loss, unless they come again and again."""
    found = []
    for name in {each.attempt.experiment for each in symptoms if each.is_ok}:
        own = [each for each in symptoms if each.attempt.experiment == name]
        silent = [each for each in own if each.kind in SILENT]
        if len(silent) <= max(1, len(own) * _LOSS_PART):
            found += [each for each in silent if not _is_cured(each, own)]
    return tuple(found)


def _is_cured(symptom: Symptom, own: list[Symptom]) -> bool:
    """Tell whether the answer's first segment never came, and comes since both ends' segments are smaller.

    An honest router on the way there has told this end of its MTU meanwhile, and a kernel announces no larger segments
    to that address for some minutes. So what loses them on the way back shows on the first connection alone.
    """
    passed = [mss for each in own if each.is_ok and (mss := _mss(each)) is not None]
    mss = _mss(symptom)
    return symptom.kind == "reverse" and mss is not None and bool(passed) and max(passed) < mss


def _mss(symptom: Symptom) -> int | None:
    return None if symptom.attempt.sent is None else symptom.attempt.sent.mss_bytes


def _control_leaves(attempts: Sequence[Attempt]) -> frozenset[str]:
    """Return the leaf certificates of controls that fit the name; none if they do not fit it themselves."""
    return frozenset(
        attempt.certificate.leaf_sha256
        for attempt in attempts
        if attempt.experiment == CONTROL and attempt.certificate is not None and attempt.certificate.covers_name
    )


def _read(attempt: Attempt, leaves: frozenset[str]) -> Symptom:
    kind = _kind(attempt)
    certificate = attempt.certificate
    experiment = find_experiment(attempt.experiment)
    asks_target = experiment.hello is not None and experiment.hello.name == "target"
    if kind == "ok" and certificate is not None and leaves and asks_target:
        is_other = certificate.leaf_sha256 not in leaves and certificate.covers_name is False
        kind = "other-certificate" if is_other else "ok"
    acked = None if attempt.tcp is None else attempt.tcp.bytes_acked
    return Symptom(attempt, kind, acked, attempt.was_retried and kind != "ok")


def _kind(attempt: Attempt) -> SymptomKind:
    if attempt.is_secret_swapped:
        return "bad-finish"  # our own client got through by trying both; no other does
    if attempt.ending == "malformed":
        return "bad-retry" if attempt.was_retried and attempt.version is None else "malformed"
    if attempt.ending != "timeout":
        return _BY_ENDING[attempt.ending]
    tcp = attempt.tcp
    if tcp is None or tcp.bytes_acked is None:
        return "timeout"
    sent_bytes = sum(sent.size_bytes for sent in (attempt.sent, attempt.sent_again) if sent is not None)
    if tcp.bytes_acked < sent_bytes:
        is_waiting = tcp.snd_wnd == 0 or not tcp.total_retrans
        return "zero-window" if is_waiting else "lost"
    return "reverse" if tcp.rcv_ooopack else "mute"


def _fails_by_chance(symptoms: tuple[Symptom, ...]) -> bool:
    """Tell whether a control failed right after one that got through, so that nothing had set it off."""
    return any(
        before.is_ok and not after.is_ok
        for before, after in pairwise(symptoms)
        if before.attempt.experiment == after.attempt.experiment == CONTROL
    )


def _is_refuted(symptoms: tuple[Symptom, ...], episodes: tuple[Episode, ...]) -> bool:
    """Tell whether what set a penalty off failed at another time without one: then controls were late by loss."""
    triggers = [each.trigger for each in episodes]
    return any(
        not before.is_ok and after.is_ok and after.attempt.experiment == CONTROL and before not in triggers
        for before, after in pairwise(symptoms)
        if before.attempt.experiment in {each.attempt.experiment for each in triggers}
    )


def _find_episodes(symptoms: tuple[Symptom, ...]) -> tuple[tuple[Episode, ...], set[int], bool]:
    """Find the stretches in which the control, which had passed before, failed after another failure."""
    episodes: list[Episode] = []
    blocked: set[int] = set()
    has_passed = False
    trigger: Symptom | None = None
    failed_controls: list[int] = []
    fastest_s = min((each.attempt.connect_s for each in symptoms if each.attempt.connect_s is not None), default=0.0)
    for index, symptom in enumerate(symptoms):
        is_control = symptom.attempt.experiment == CONTROL
        if not is_control:
            if not failed_controls:
                # A connection that was never made is no failed handshake: limits of connections look so.
                trigger = None if symptom.is_ok or not symptom.attempt.is_connected else symptom
            else:
                blocked.add(index)
        elif symptom.is_ok:
            unanswered = _unanswered_requests(symptom, fastest_s)
            if trigger is not None and (failed_controls or unanswered > 1):
                episodes.append(_measure(trigger, [symptoms[each] for each in failed_controls], symptom, unanswered))
                blocked.update(failed_controls)
            has_passed, trigger, failed_controls = True, None, []
        elif has_passed and trigger is not None:
            failed_controls.append(index)
    if trigger is not None and failed_controls:
        episodes.append(_measure(trigger, [symptoms[each] for each in failed_controls], None, 0))
        blocked.update(failed_controls)
    return tuple(episodes), blocked, bool(failed_controls)


def _measure(trigger: Symptom, failed: list[Symptom], passed: Symptom | None, unanswered: int) -> Episode:
    """Return an episode with what can be said of its length: it began after its trigger did, before the first control.

    Args:
        trigger: What set it off.
        failed: Controls that failed.
        passed: The one that got through at last.
        unanswered: Requests for its connection that went unanswered.
    """
    first, *_ = (*failed, passed) if passed is not None else failed
    began_s, first_s = trigger.attempt.started_s, first.attempt.started_s
    at_least_s = failed[-1].attempt.started_s - first_s if failed else 0.0
    if passed is None:
        return Episode(trigger, len(failed), at_least_s, None)
    made_s = passed.attempt.started_s + (passed.attempt.connect_s or 0.0)
    if unanswered:
        # The request before the one that was answered was sent a second earlier, or two.
        at_least_s = max(at_least_s, passed.attempt.started_s - first_s + (0.0 if unanswered == 1 else 1.0))
    return Episode(trigger, len(failed) + unanswered, at_least_s, made_s - began_s)


def _unanswered_requests(symptom: Symptom, fastest_s: float) -> int:
    """Return how many requests for a connection went unanswered before one got through: a kernel asks every second.

    So a control outlives a block of some seconds that drops, and is only late.
    """
    extra_s = (symptom.attempt.connect_s or 0.0) - fastest_s
    return 0 if extra_s < _REQUEST_INTERVAL_S else 1 if extra_s < 2 * _REQUEST_INTERVAL_S else 2
