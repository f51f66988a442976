"""From attempts to a diagnosis: pure. The classes that explain everything, the server's state, costs, what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pqtls.faults.catalogue import CATALOGUE
from pqtls.path.costs import find_costs
from pqtls.path.diagnosis import Diagnosis, NamedFault, Repetition, Workaround
from pqtls.path.findings import Rate, decisive_cuts, find_block, find_findings, find_hops
from pqtls.path.forecasts import explain
from pqtls.path.negotiation import takes_swapped
from pqtls.path.plan import BIGGEST, FAST, TAKEN_TIMES
from pqtls.path.pools import find_mixed, find_pool
from pqtls.path.reading import CONTROL, SILENT, read_attempts
from pqtls.path.sharpening import HEADERS_IPV4, HEADERS_IPV6
from pqtls.path.state import find_server_state, is_mixed
from pqtls.path.words import say_answer
from pqtls.probe.model import HYBRID
from pqtls.wire.codepoints import alert_name
from pqtls.wire.groups import group_kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.faults.model import Remedy
    from pqtls.path.hypotheses import Hypothesis
    from pqtls.path.reading import Reading, Symptom
    from pqtls.probe.model import Attempt

# What is met more often stands first where nothing else decides; relative weights, judged by the reports we know.
# Where a box that judges packets (F08, F09) fits, nothing cut has got through: one that reads at last would let some.
_WEIGHTS = {"F01": 3.0, "F04": 2.0, "F23": 2.0, "F13": 2.0, "F08": 4.0, "F09": 4.0}
_MIN_FAILURES = 2
_MIN_CONTROLS_FAILED = 2
# Silence for seconds outlives several repeats by the kernel: once in an examination that may be loss, not more often.
_MAX_UNSTEADY = 1
_CLASSICAL = (CONTROL, "E8c", "E8c(536)", "E1t(1.3)")
_ALERT_HINTS: dict[int | None, str] = {
    70: "The server takes no version that was offered.",
    112: "The server does not know this name.",
    120: "The server wants an application protocol (ALPN), and none was offered.",
}
# A penalty whose end was not seen: what it takes to name it all the same.
_TURNED_AWAY = ("reset", "closed", "alert", "no-connection")
_ENOUGH_TURNED_AWAY, _LONG_BLOCK_S = 5, 30.0
# Seen so often, a pause that always decides is no pool's chance.
_ENOUGH_PAUSED = 2


def diagnose(attempts: Sequence[Attempt], *, is_cut_short: bool = False) -> Diagnosis:
    """Say what attempts amount to.

    Args:
        attempts: What was done, in order.
        is_cut_short: A limit of time or connections ended the examination before its plan was done.
    """
    reading = read_attempts(attempts)
    found = _name(reading, attempts)
    notes = list(found.notes)
    if is_cut_short:
        notes.append("The limit of time or connections ended the examination early; --full allows more.")
    if reading.noise:
        names = ", ".join(sorted({each.attempt.experiment for each in reading.noise}))
        notes.append(f"A silence that did not recur was taken for packet loss: {names}.")
    notes += _certificate_notes(attempts, found)
    found = replace(
        found,
        findings=find_findings(reading, explain(reading) if found.faults else ()),
        server_state=find_server_state(attempts),
        costs=find_costs(attempts),
        repetitions=_count(reading),
        notes=tuple(notes),
        attempts=tuple(attempts),
        workarounds=_workarounds(found, reading),
    )
    if found.is_blind:
        note = "This platform gives no facts about its TCP connections: lost, ignored and stuck data look alike here."
        found = replace(found, notes=(*found.notes, note))
    return replace(found, answer=say_answer(found))


def _certificate_notes(attempts: Sequence[Attempt], found: Diagnosis) -> list[str]:
    """Say whose certificates came, where that puts in doubt that it was the server meant who answered."""
    certificate = next((a.certificate for a in attempts if a.experiment == CONTROL and a.certificate), None)
    if certificate is None:
        return []
    if certificate.covers_name is False:
        names = ", ".join(certificate.names) or certificate.subject
        return [f"The certificate is for another name ({names}): a default server, or not the server that was meant."]
    if _is_made_to_order(attempts) and "F35" not in found.fault_ids:
        return [
            f"The certificate was made to order by {certificate.issuer}, as for a name made up just then: who answers "
            "here is an inspecting box, and all of this is about the way to it."
        ]
    return []


def _is_made_to_order(attempts: Sequence[Attempt]) -> bool:
    made_up = next((a.certificate for a in attempts if a.experiment == "E17" and a.certificate), None)
    return made_up is not None and made_up.covers_name is True


def _name(reading: Reading, attempts: Sequence[Attempt]) -> Diagnosis:
    if not reading.passed(CONTROL):
        return _without_control(reading)
    if len(reading.unsteady) > _MAX_UNSTEADY:
        return _unsteady(reading)
    penalty = _penalty(reading)
    if penalty is not None:
        return penalty
    if not reading.failures:
        return _healthy(reading, attempts)
    hypotheses = _refine(explain(reading), reading)
    if not hypotheses:
        return _beside_the_biggest(reading) or _pool(reading) or _unexplained(reading)
    if len(reading.failures) < _MIN_FAILURES and not reading.is_cured_by_itself:
        note = "Seen once only: repeat the examination."
        fits = tuple(hypothesis.fault for hypothesis in hypotheses)
        return Diagnosis("inconclusive", "unknown", also_fits=fits, notes=(note,))
    return _fault(hypotheses, reading)


def _beside_the_biggest(reading: Reading) -> Diagnosis | None:
    """Name what explains all but the biggest hello, where that failed too; its buffer is told beside."""
    rest = replace(reading, counted=tuple(each for each in reading.counted if each.attempt.experiment != BIGGEST))
    hypotheses = explain(rest)
    if not reading.failed(BIGGEST) or not hypotheses or len(rest.failures) < _MIN_FAILURES:
        return None
    size_bytes = next(each.attempt.sent.size_bytes for each in reading.of(BIGGEST) if each.attempt.sent is not None)
    note = f"Besides, a hello of {size_bytes} bytes fails ({BIGGEST}): a fixed buffer (F03) that holds smaller ones."
    return replace(_fault(hypotheses, rest), notes=(note,))


def _unsteady(reading: Reading) -> Diagnosis:
    """Say that something comes and goes: what fails besides may do so by chance, and names nothing."""
    connected = sum(each.attempt.is_connected for each in reading.symptoms)
    note = (
        f"Of {connected} connections {len(reading.unsteady)} met silence for seconds and the same hello got through "
        "another time: something comes and goes. --repeat N counts it."
    )
    fits = dict.fromkeys(("F43", *(each.fault for each in explain(reading))))
    return Diagnosis("inconclusive", "unknown", also_fits=tuple(fits), notes=(note,))


def _unexplained(reading: Reading) -> Diagnosis:
    mixed = [f"{name} failed {rate.say_interval()}" for name, rate in find_mixed(reading).items()]
    if reading.failed(CONTROL) and not mixed:
        mixed = [f"{CONTROL}, the control, both failed and got through"]
    note = "No class of the catalogue explains all outcomes; several faults at once can look so."
    if mixed:
        note = f"It comes and goes: {', '.join(mixed)}, {_say_control(reading)}. --repeat 30 gives better counts."
    return Diagnosis("inconclusive", "unknown", also_fits=("F43",) if mixed else (), notes=(note,))


def _pool(reading: Reading) -> Diagnosis | None:
    """F43: the same hello fails at times and at others gets through, and no pause decides."""
    found = find_pool(reading)
    if found is None:
        return None
    name, rate = found
    # What is certain of the failing part is what failed there; what got through may have met another.
    failing = tuple(each for each in reading.counted if not each.is_ok or each.attempt.experiment == CONTROL)
    fits = tuple(each.fault for each in explain(replace(reading, counted=failing)))
    confidence = min(0.95, 1 - 0.5**rate.failed)
    fault = NamedFault("F43", round(confidence, 2), f"{name} failed {rate.say_interval()}, {_say_control(reading)}")
    return Diagnosis("fault", "unknown", (fault,), triggered_by=fits, where=CATALOGUE["F43"].where)


def _say_control(reading: Reading) -> str:
    outcomes = [each.is_ok for each in reading.counted if each.attempt.experiment == CONTROL]
    return f"the control {Rate(outcomes.count(False), len(outcomes))}"


def _fault(hypotheses: tuple[Hypothesis, ...], reading: Reading) -> Diagnosis:
    doubt = 0.5 ** min(len(reading.failures), 6)
    weights = [_WEIGHTS.get(each.fault, 1.0) * each.weight for each in hypotheses]
    faults = sorted(
        (
            NamedFault(each.fault, round((1 - doubt) * weight / sum(weights), 2), _say(each, reading))
            for each, weight in zip(hypotheses, weights, strict=True)
        ),
        key=lambda fault: -fault.confidence,
    )
    named = {fault.id for fault in faults}
    fits = sorted({twin for name in named for twin in _twins(name, reading)} - named)
    where = _where(named)
    hops = find_hops(reading)
    if hops is not None and hops.is_before_server is not None and where != "tunnel-or-router":
        where = "middlebox" if hops.is_before_server else "server-or-box-before-it"
    return Diagnosis("fault", "unknown", tuple(faults), tuple(fits), where=where)


def _where(named: set[str]) -> str:
    """Return whose it most likely is, of faults that cannot be told apart."""
    wheres = {CATALOGUE[name].where for name in named}
    if len(wheres) == 1:
        return wheres.pop()
    return "network-path" if wheres == {"tunnel-or-router", "return-path"} else "server-or-box-before-it"


def _say(hypothesis: Hypothesis, reading: Reading) -> str:
    """Return a hypothesis's parameters in words; of a black hole also as a router's MTU, in which people think."""
    if hypothesis.bracket_bytes is None:
        return hypothesis.detail
    passed, failed = hypothesis.bracket_bytes
    if hypothesis.fault == "F19":
        where = f" {hypothesis.detail}" if hypothesis.detail else ""
        return f"{passed} bytes in a packet pass, {failed} do not{where}"
    if hypothesis.fault != "F13":
        size = f"exactly {passed} bytes" if failed == passed + 1 else f"{passed} to {failed - 1} bytes"
        buffer = f"the buffer has {size}" if hypothesis.fault == "F03" else f"the buffer takes {size}"
        return f"{buffer}; {hypothesis.detail}" if hypothesis.detail else buffer
    is_ipv6 = any(":" in each.attempt.address for each in reading.symptoms)
    headers_bytes = HEADERS_IPV6 if is_ipv6 else HEADERS_IPV4
    low, high = passed + headers_bytes, failed + headers_bytes
    mtu = f"{low} bytes" if high == low + 1 else f"{low} to {high - 1} bytes"
    where = f" {hypothesis.detail}" if hypothesis.detail else ""
    return f"segments of {passed} bytes pass, of {failed} do not{where}, so its real MTU is {mtu}"


def _twins(name: str, reading: Reading) -> tuple[str, ...]:
    """Return classes that no experiment from this end tells from one, as far as what was seen allows them."""
    kinds = {each.kind for each in reading.failures}
    # Where all that failed was paused, a short patience looks like a single read.
    is_timer = all(each.attempt.sent is not None and each.attempt.sent.pause_s > 0 for each in reading.failures)
    patience = ("F05",) if is_timer else ()
    twins = {
        "F01": patience if _is_always_by_pause(reading) else ("F43",),
        "F04": patience,
        "F03": (*(("F05", "F20") if kinds == {"mute"} else ("F11", "F20")), *_by_first_segment(reading)),
        "F06": ("F05",),
        "F13": ("F15", "F19"),
        "F14": ("F15", "F19"),
        "F27": () if any(each.attempt.was_retried for each in reading.failures) else ("F28",),
        "F31": () if _is_order_proved(reading) else ("F37",),
    }
    return twins.get(name, ())


def _by_first_segment(reading: Reading) -> tuple[str, ...]:
    """Return the boxes that a single look into a buffer takes after, if the buffer has a segment's size."""
    if not reading.failed("E3"):
        return ()
    if not reading.failed("E3(after)"):
        return ("F09",)
    return () if reading.failed("E7") else ("F08",)


def _is_always_by_pause(reading: Reading) -> bool:
    """Tell whether cut hellos with a pause failed each time: a pool would let some through."""
    cuts = decisive_cuts(reading)
    outcomes = [each.is_ok for each in reading.counted if each.attempt.experiment in cuts]
    return len(outcomes) >= _ENOUGH_PAUSED and not any(outcomes)


def _refine(hypotheses: tuple[Hypothesis, ...], reading: Reading) -> tuple[Hypothesis, ...]:
    """Drop a block by number where a share in the wrong order got through under the same number."""
    if not _is_order_proved(reading) or all(each.fault != "F31" for each in hypotheses):
        return hypotheses
    is_share = takes_swapped(reading)
    detail = "a share in the wrong order was taken" if is_share else "the secrets were joined in the wrong order"
    return tuple(replace(each, detail=detail) for each in hypotheses if each.fault == "F31")


def _is_order_proved(reading: Reading) -> bool:
    """Tell whether the server was seen to have the halves of a share, or of the secret, in the wrong order."""
    return takes_swapped(reading) or any(each.attempt.is_secret_swapped for each in reading.symptoms)


def _without_control(reading: Reading) -> Diagnosis:
    is_by_segment = reading.passed("E8c") or reading.passed("E8c(536)")
    named = ("F13", "F14") if is_by_segment else ("F27",) if _fails_by_retry(reading) else ()
    hypotheses = tuple(each for each in explain(reading) if each.fault in named)
    if hypotheses and len(reading.failures) >= _MIN_FAILURES:
        return _fault(hypotheses, reading)
    if all(each.kind == "no-connection" for each in reading.symptoms):
        last = reading.symptoms[-1].attempt if reading.symptoms else None
        detail = "Nothing was tried." if last is None else last.detail
        is_told = last is not None and last.ended_before_tls
        return Diagnosis("inconclusive", "unknown", notes=(detail if is_told else f"No connection: {detail}",))
    if plain := reading.plain_protocol:
        note = f"What listens there answers in {plain}, not in TLS: is the port right?"
        return Diagnosis("inconclusive", "unknown", notes=(note,))
    only = _taken_alone(reading)
    if only is not None:
        return only
    alerts = {each.attempt.alert for each in reading.of(CONTROL)}
    alert = alerts.pop() if len(alerts) == 1 else None
    said = "" if alert is None else f" (alert {alert} {alert_name(alert)})"
    notes = [f"A small classical hello fails too{said}, so this is not about post-quantum TLS."]
    hybrid = next((each.attempt.experiment for each in reading.symptoms if each.is_ok and _is_hybrid(each)), None)
    if hybrid is not None:
        notes = [
            f"A small classical hello fails{said}, and a hybrid got through ({hybrid}): the server may take "
            "post-quantum groups alone, and then nothing is left here to compare its other failures with."
        ]
    notes += [_ALERT_HINTS[alert]] if alert in _ALERT_HINTS else []
    if any(each.attempt.experiment == "E0" and each.kind == "not-tls" for each in reading.symptoms):
        notes.append("The server speaks first: it may want STARTTLS, or not be TLS at all.")
    fits = ("F39",) if reading.passed("E17") else ("F50",)
    if all(each.is_after_retry for each in reading.of(CONTROL)):
        notes.append("The server asks for another hello each time, and fails on that.")
        fits = ("F27",)
    return Diagnosis("inconclusive", "unknown", also_fits=fits, notes=tuple(notes))


def _is_hybrid(symptom: Symptom) -> bool:
    """Tell whether a hybrid was negotiated."""
    return symptom.attempt.group is not None and group_kind(symptom.attempt.group) == "hybrid"


def _fails_by_retry(reading: Reading) -> bool:
    """Tell whether the control fails by the server's retry: its request is unlawful, or without one TLS works."""
    controls = reading.of(CONTROL)
    return all(each.kind == "bad-retry" for each in controls) or (
        reading.passed("E16c") and all(each.is_after_retry for each in controls)
    )


def _taken_alone(reading: Reading) -> Diagnosis | None:
    """Return the diagnosis of a server that refuses every small classical hello, and takes newer ones; else None."""
    classical = [each for name in _CLASSICAL for each in reading.of(name)]
    newest, announcing = reading.of("E23"), reading.of("E15c")
    if len({each.kind for each in classical}) != 1 or classical[0].kind in (*SILENT, "ok"):
        return None
    # Every time: what refuses by chance must not be taken for one that chooses.
    if len(newest) < TAKEN_TIMES or not all(each.is_ok for each in newest):
        return None
    if len(announcing) >= TAKEN_TIMES and all(each.is_ok for each in announcing):
        notes = ("The server refuses hellos that do not announce ML-DSA signatures: it has no other certificate.",)
    elif all(
        _is_hybrid(each)
        # The usual hybrid must get through in any hello.
        and (each.attempt.group != HYBRID or reading.passed("E8(1000)"))
        for each in newest
    ):
        notes = ("The server refuses classical groups: it is post-quantum only.",)
    else:
        return None
    return Diagnosis("healthy", "unknown", notes=notes)


def _penalty(reading: Reading) -> Diagnosis | None:
    """F40: the control, which had passed, failed again and again right after another failure."""
    episodes = reading.episodes
    # A block that ends while one control waits for its connection is seen by one control only, and then by the next.
    if sum(each.failed for each in episodes) < _MIN_CONTROLS_FAILED:
        return None
    triggers = tuple(each.fault for each in explain(reading))
    recovered = len(episodes) - reading.is_blocked_at_end
    # Chance is no penalty: either a class says what sets it off, or every failure does.
    set_off = [each.trigger for each in episodes]
    is_each_followed = bool(reading.failures) and all(each in set_off for each in reading.failures)
    if recovered and not triggers and not is_each_followed:
        return None
    triggering = ", ".join(sorted({each.trigger.attempt.experiment for each in episodes}))
    if recovered:
        confidence = 0.95 if len(episodes) > 1 else 0.7
        detail = f"{_say_block(reading)}; seen {len(episodes)} times, after {triggering}"
    elif _is_turned_away_for_long(reading):
        confidence = 0.6
        detail = f"{_say_block(reading)} since {triggering}, and its end was not seen"
    else:
        note = "The control never got through again: a block that outlasts this examination, or an outage."
        return Diagnosis("inconclusive", "unknown", also_fits=("F40", "F50"), triggered_by=triggers, notes=(note,))
    return Diagnosis(
        "fault",
        "unknown",
        (NamedFault("F40", confidence, detail),),
        also_fits=() if recovered else ("F50",),
        triggered_by=triggers,
        where=CATALOGUE["F40"].where,
    )


def _is_turned_away_for_long(reading: Reading) -> bool:
    """Tell whether every control since one failure was turned away, so long that chance has not made them coincide.

    A server that takes the connection and then says nothing may still be busy with the hello that failed. What sets a
    penalty off is in the first hybrid or the first cut hello already: one that begins later may be a limit of
    connections, or the server's end.
    """
    block = find_block(reading)
    if block is None or len(reading.episodes) != 1 or reading.episodes[0].trigger.attempt.experiment not in FAST:
        return False
    trigger = reading.symptoms.index(reading.episodes[0].trigger)
    since = [each for each in reading.symptoms[trigger + 1 :] if each.attempt.experiment == CONTROL]
    is_away = all(each.kind in _TURNED_AWAY for each in since)
    return is_away and len(since) >= _ENOUGH_TURNED_AWAY and block.at_least_s >= _LONG_BLOCK_S


def _say_block(reading: Reading) -> str:
    block = find_block(reading)
    assert block is not None  # noqa: S101 - there were episodes
    if block.at_most_s is None:
        return f"for at least {block.at_least_s:.0f} s"
    return f"for {block.at_least_s:.1f} to {block.at_most_s:.1f} s"


def _healthy(reading: Reading, attempts: Sequence[Attempt]) -> Diagnosis:
    certificate = next((a.certificate for a in attempts if a.experiment == CONTROL and a.certificate), None)
    made_up = next((a.certificate for a in attempts if a.experiment == "E17" and a.certificate), None)
    state = find_server_state(attempts)
    if not any(attempt.sent is not None and HYBRID in attempt.sent.groups for attempt in attempts):
        note = "No post-quantum hello could be sent, so nothing is known about post-quantum handshakes here."
        return Diagnosis("inconclusive", "unknown", notes=(note,))
    if any(attempt.has_downgrade_sentinel for attempt in attempts if attempt.experiment in (CONTROL, "E23", "E5")):
        note = "The server's hello shows that it can do TLS 1.3, yet TLS 1.2 came out: something on the way forces it."
        return Diagnosis("inconclusive", "unknown", also_fits=("F36",), notes=(note,))
    if is_mixed(attempts):
        note = "The same offer was answered in different ways: several servers stand behind this address."
        return Diagnosis("healthy", "unknown", notes=(note,))
    if made_up is not None and _is_made_to_order(attempts) and state in ("classical", "tls12", "draft"):
        detail = f"issued by {made_up.issuer} for a name made up a moment before"
        return Diagnosis("fault", "unknown", (NamedFault("F35", 0.95, detail),), where=CATALOGUE["F35"].where)
    # What looks the same as health is told in a note: a healthy verdict lists no fault as fitting.
    notes: list[str] = []
    if certificate is not None and certificate.covers_name is not None and not certificate.is_trusted:
        notes.append(
            f"The certificate's issuer ({certificate.issuer}) is not publicly trusted: an inspecting box would look "
            "the same as this server."
        )
    unmet = sorted({each.attempt.experiment for each in reading.symptoms if each.kind == "no-connection"})
    if unmet:
        unseen = [name for name in (CONTROL, "E23", "E3") if not reading.passed(name)]
        note = (
            f"No connection was made at times ({', '.join(unmet)}): a limit of connections, or a server that is busy."
        )
        if unseen:
            return Diagnosis("inconclusive", "unknown", also_fits=("F50",), notes=(note,))
        notes.append(note)
    untried = [each for each in ("E12c", "E7d") if not reading.of(each)]
    if untried:
        notes.append("Not tried: a HelloRetryRequest, a hello in two records. --full does.")
    return Diagnosis("healthy", "unknown", notes=tuple(notes))


def _workarounds(found: Diagnosis, reading: Reading) -> tuple[Workaround, ...]:
    result: dict[str, Workaround] = {}
    for fault in found.faults:
        for remedy in CATALOGUE[fault.id].remedies:
            if remedy.what in result:
                continue
            proof = next((each for each in remedy.proved_by if _proves(each, remedy, reading)), "")
            if proof or not remedy.proved_by:
                result[remedy.what] = Workaround(remedy.what, proved=bool(proof), experiment=proof)
    return tuple(sorted(result.values(), key=lambda each: not each.proved))


def _proves(experiment: str, remedy: Remedy, reading: Reading) -> bool:
    if not reading.passed(experiment) or reading.failed(experiment):
        return False
    attempts = [each.attempt for each in reading.of(experiment)]
    if remedy.is_post_quantum and any(a.group is None or group_kind(a.group) != "hybrid" for a in attempts):
        return False
    return not remedy.is_one_segment or all(a.sent is not None and len(a.sent.segments()) == 1 for a in attempts)


def _count(reading: Reading) -> tuple[Repetition, ...]:
    found = []
    for name in dict.fromkeys(each.attempt.experiment for each in reading.symptoms):
        outcomes = [each.is_ok for each in reading.symptoms if each.attempt.experiment == name]
        # Where nothing connected there was nothing to count: it is not how often a hello fails.
        if len(outcomes) > 1 and any(each.attempt.is_connected for each in reading.of(name)):
            failed = outcomes.count(False)
            low, high = Rate(failed, len(outcomes)).interval
            found.append(Repetition(name, failed, len(outcomes), round(low, 3), round(high, 3)))
    return tuple(found)
