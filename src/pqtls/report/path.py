"""A diagnosis on the screen: the answer, what it rests on, what to do; then every experiment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pqtls.faults.catalogue import CATALOGUE, fault_name
from pqtls.path.reading import read_attempts
from pqtls.path.words import say_gap, say_hops, say_state, say_step
from pqtls.probe.experiments import find_experiment
from pqtls.report.terminal import clean_text
from pqtls.wire.codepoints import alert_name, version_name
from pqtls.wire.groups import group_name

if TYPE_CHECKING:
    from pqtls.path.diagnosis import Diagnosis
    from pqtls.path.reading import Symptom
    from pqtls.probe.model import Attempt
    from pqtls.report.terminal import Line

_STYLES = {"healthy": "bold green", "fault": "bold red", "inconclusive": "bold yellow"}
_MAX_VICTIMS = 4
_ID_WIDTH = 16
# Where the answer's first sentence ends; there are full stops in numbers and names too.
_SENTENCE_END = re.compile(r"(?<=[.]) (?=[A-Z])")
_TITLE_WIDTH = 50


def render_diagnosis(found: Diagnosis, target: str, address: str) -> list[Line]:
    """Return the screen.

    Args:
        found: The diagnosis.
        target: Host and port as asked for.
        address: IP address that was examined, "" if none was reached.
    """
    where = target if not address or address in target else f"{target} ({address})"
    head, *rest = _SENTENCE_END.split(found.answer, maxsplit=1)
    lines: list[Line] = [
        [(where, "bold"), ("  ", ""), (head, _STYLES[found.verdict]), *((f" {each}", "") for each in rest)]
    ]
    if found.proxy or found.starttls:
        ways = [f"the proxy {found.proxy}"] if found.proxy else []
        ways += [f"STARTTLS of {found.starttls}"] if found.starttls else []
        lines.append(_row("via", ", then ".join(ways)))
    if found.verdict != "healthy" and found.server_state != "unknown":
        lines.append(_row("server", say_state(found.server_state, is_faulty=found.verdict == "fault")))
    lines += _render_details(found)
    if way := _describe_way(found):
        lines.append(_row("tcp", way))
    lines += [_row("cost", f"{cost.id} {fault_name(cost.id)}: {cost.detail}") for cost in found.costs]
    lines += [
        _row(
            "repeat",
            f"{each.experiment} failed {each.failed} of {each.attempts} (95 %: {each.low:.0%} to {each.high:.0%})",
        )
        for each in found.repetitions
    ]
    lines += [_row("note", note) for note in found.notes if note not in found.answer]
    if any(attempt.detail not in found.answer or attempt.is_connected for attempt in found.attempts):
        lines.append([])
        lines += [_render_attempt(symptom) for symptom in read_attempts(found.attempts).symptoms]
    return [[(clean_text(text), style) for text, style in line] for line in lines]


def _render_details(found: Diagnosis) -> list[Line]:
    """Return a row for whatever the answer has not said already."""
    lines: list[Line] = []
    for number, fault in enumerate(found.faults):
        entry = CATALOGUE[fault.id]
        if number:  # the first is what the answer begins with
            detail = f"; {fault.detail}" if fault.detail else ""
            lines.append(_row("or", f"{fault.id} {entry.name}, {fault.confidence:.0%}{detail}"))
        radar = _row("radar", f"Cloudflare Radar calls it {entry.radar}")
        lines += [radar] if entry.radar and radar not in lines else []
        hit = [f"{each.what} ({each.source})" for each in entry.victims[:_MAX_VICTIMS]]
        lines += [_row("hit", each) for each in hit if each not in found.answer]
    gap, hops = found.findings.gap, found.findings.hops
    if gap is not None:
        lines += [_row("pause", text) for text in say_gap(gap) if text not in found.answer]
        without = f", without {gap.unpaused.say_interval()}" if gap.unpaused.attempts else ""
        lines.append(_row("pause", f"with 0.3 s {gap.paused.say_interval()}{without}"))
    if hops is not None and say_hops(hops) not in found.answer:
        lines.append(_row("hops", f"{hops.flight} ends {say_hops(hops)}"))
    for workaround in found.workarounds:
        if say_step(workaround) in found.answer:
            continue
        proof = f"proved here by {workaround.experiment}" if workaround.proved else "not tried here"
        lines.append(
            [("do       ", "dim"), (f"{workaround.what} ", ""), (f"({proof})", "green" if workaround.proved else "dim")]
        )
    return lines


def _render_attempt(symptom: Symptom) -> Line:
    attempt = symptom.attempt
    title = find_experiment(attempt.experiment).title
    style = "green" if symptom.is_ok else "red"
    return [
        (f"{attempt.experiment:<{_ID_WIDTH}}", "bold"),
        (f"{title:<{_TITLE_WIDTH}} ", ""),
        (f"{_describe_sent(attempt):<28} ", "dim"),
        (describe_outcome(symptom), style),
        (_describe_tcp(attempt), "dim"),
    ]


def _describe_way(found: Diagnosis) -> str:
    """Return what TCP told of the way when a connection was made, "" where it told nothing."""
    plain = (each for each in found.attempts if find_experiment(each.experiment).send.max_segment_bytes is None)
    facts = next((each.tcp_at_connect for each in plain if each.tcp_at_connect is not None), None)
    if facts is None:
        return ""
    fastest_s = min(each.connect_s for each in found.attempts if each.connect_s is not None)
    parts = [f"a connection in {fastest_s * 1000:.1f} ms at best"]
    if facts.snd_mss is not None:
        parts.append(f"segments of {facts.snd_mss} bytes" + (f" ({facts.advmss} offered)" if facts.advmss else ""))
    parts += [f"MTU {facts.pmtu} as far as known"] if facts.pmtu is not None else []
    parts += [f"first window {facts.snd_wnd} bytes"] if facts.snd_wnd is not None else []
    return ", ".join(parts) + (", all of it to the proxy" if found.proxy else "")


def _describe_sent(attempt: Attempt) -> str:
    sent = attempt.sent
    if sent is None:
        return ""
    segments = "+".join(str(segment.size_bytes) for segment in sent.segments())
    records = f" in {len(sent.record_ends)} records" if len(sent.record_ends) > 1 else ""
    return f"{segments} B{records}"


def describe_outcome(symptom: Symptom) -> str:
    """Return what came back, in words.

    Args:
        symptom: The attempt, read.
    """
    attempt = symptom.attempt
    retry = ""
    if attempt.was_retried:
        retry = "retry, " if attempt.retry_group is None else f"retry for {group_name(attempt.retry_group)}, "
    if attempt.ending == "answered":
        chosen = version_name(attempt.version or 0) if attempt.group is None else group_name(attempt.group)
        if attempt.is_secret_swapped:
            return f"{retry}{chosen}, with the secrets joined in the wrong order"
        return f"{retry}{chosen}, finished" + ("" if symptom.is_ok else ", by another server's certificate")
    if attempt.ending == "alert":
        return f"{retry}alert {attempt.alert} {alert_name(attempt.alert or 0)}" + _when(attempt)
    words = {
        "lost": f"no answer: {symptom.acked_bytes} bytes acknowledged, the rest sent again without success",
        "zero-window": f"no answer: the window closed after {symptom.acked_bytes} bytes",
        "reverse": "no answer in order: later segments came, the first never did",
        "mute": "no answer: all bytes acknowledged",
        "timeout": "no answer",
        "bad-retry": f"a retry that breaks the rules: {attempt.detail}",
        "closed": "closed",
        "reset": "reset",
    }
    return retry + words.get(symptom.kind, f"{attempt.ending}: {attempt.detail}".rstrip(": ")) + _when(attempt)


def _when(attempt: Attempt) -> str:
    return " before all was sent" if attempt.was_early else ""


def _describe_tcp(attempt: Attempt) -> str:
    parts = []
    if attempt.handshake_s is not None:
        parts.append(f"{attempt.handshake_s * 1000:.0f} ms")
    if attempt.tcp is not None and attempt.tcp.total_retrans:
        parts.append(f"{attempt.tcp.total_retrans} sent again")
    return f"  {', '.join(parts)}" if parts else ""


def _row(label: str, text: str) -> Line:
    return [(f"{label:<9}", "dim"), (text, "")]
