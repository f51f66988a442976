"""The answer as a sentence or two, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.faults.catalogue import CATALOGUE, fault_name
from pqtls.path.state import is_mixed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.faults.model import Victim
    from pqtls.path.diagnosis import Diagnosis, Workaround
    from pqtls.path.findings import GapDependence, HopRange

_STATES = {
    "preferred": "the server chose X25519MLKEM768",
    "supported": "the server has X25519MLKEM768 and prefers a classical group",
    "only-by-retry": "the server has a post-quantum group and asks for it by a retry",
    "classical": "the server has no post-quantum group that was offered",
    "tls12": "the server speaks TLS 1.2 only, in which there is no post-quantum key exchange",
    "draft": "the server knows only the obsolete Kyber draft",
    "unknown": "what the server itself supports is not known",
}
_POST_QUANTUM_STATES = ("preferred", "supported", "only-by-retry")
_WHERES = {
    "server": "the server",
    "server-or-box-before-it": "the server, or a box right before it (this end cannot tell)",
    "middlebox": "a box on the way",
    "network-path": "the network path",
    "tunnel-or-router": "a tunnel or router on the way",
    "return-path": "a tunnel or router on the way back",
    "inspecting-box": "an inspecting box on the way",
    "client-network": "this end's network",
}
_MAX_KNOWN = 2
# So many classes narrow nothing down; the JSON has them all.
_MAX_FITTING = 3
_MEANWHILE = "Until it is fixed, "


def say_state(state: str, *, is_faulty: bool = False) -> str:
    """Return a server's state as a clause.

    Args:
        state: ServerState.
        is_faulty: Something on the path breaks handshakes, so that what the server prefers was not seen.
    """
    if is_faulty and state == "supported":
        return "the server has X25519MLKEM768; whether it prefers it was not seen"
    return _STATES[state]


def say_where(where: str) -> str:
    """Return whose it most likely is, as a noun.

    Args:
        where: Of a catalogue entry.
    """
    return _WHERES[where]


def _say_health(found: Diagnosis) -> str:
    if found.server_state in ("preferred", "supported", "only-by-retry"):
        return f"Healthy: post-quantum handshakes get through, and {say_state(found.server_state)}."
    state = say_state(found.server_state)
    if is_mixed(found.attempts):
        state = "the servers behind this address differ, so whether a connection is post-quantum is a matter of chance"
    return f"Healthy: the path lets post-quantum hellos through; {state}."


def say_answer(found: Diagnosis) -> str:
    """Return the answer: what is wrong, how sure, whose it is, what fits too, what to do, and who is known for it.

    Args:
        found: The diagnosis, but for its answer.
    """
    if found.verdict == "healthy":
        return _say_health(found)
    if found.verdict == "inconclusive":
        fits = _name_all(found.also_fits)
        return f"Inconclusive. {' '.join(found.notes)}" + (f" It could be {fits}." if fits else "")
    first, *others = found.faults
    entry = CATALOGUE[first.id]
    parts = [f"On this path {entry.sentence} ({first.id} {entry.name}, {first.confidence:.0%})"]
    if first.detail:
        parts[0] += f": {first.detail}"
    if found.findings.gap is not None and first.id != "F43":
        parts += say_gap(found.findings.gap)
    twins = [*(each.id for each in others), *found.also_fits]
    if twins:
        parts.append(f"From this end it looks the same as {_name_all(twins)}")
    if found.is_blind:
        parts.append(
            "This platform gives no facts about its TCP connections, so more faults may fit here than on Linux"
        )
    if found.triggered_by and len(found.triggered_by) <= _MAX_FITTING:
        what = "What fails there looks like" if first.id == "F43" else "What triggers it looks like"
        parts.append(f"{what} {_name_all(found.triggered_by)}")
    parts.append(f"Most likely it is {say_where(found.where)}")
    hops = found.findings.hops
    if hops is not None and (hops.after or hops.is_before_server):
        parts[-1] += f": {say_hops(hops)}"
    proved = [each for each in found.workarounds if each.proved]
    if proved:
        parts.append(say_step(proved[0]))
    fix = next((each for each in found.workarounds if not each.proved), None)
    if fix is not None:
        parts.append(say_step(fix))
    known = "; ".join(f"{each.what} ({each.source})" for each in known_products(found)[:_MAX_KNOWN])
    if known:
        parts.append(f"Known cases: {known}")
    return " ".join(f"{part.rstrip('.')}." for part in parts)


def known_products(found: Diagnosis) -> tuple[Victim, ...]:
    """Return who is known to behave so; where a size was found, only those that it fits.

    Args:
        found: The diagnosis.
    """
    size = found.findings.size
    victims = CATALOGUE[found.faults[0].id].victims if found.faults else ()
    if size is None or all(each.limit_bytes is None for each in victims):
        return victims
    passed, failed = size.passed_bytes, size.failed_bytes
    return tuple(each for each in victims if each.limit_bytes is not None and passed <= each.limit_bytes < failed)


def say_gap(gap: GapDependence) -> list[str]:
    """Return what pauses do, as sentences without their full stops; none where too little was tried.

    Args:
        gap: What was found.
    """
    if gap.depends is None:
        return []
    cut = f"a small hello cut in two failed {gap.paused} with a pause and {gap.unpaused} without"
    if not gap.depends:
        return [f"It is not a matter of timing: {cut}"]
    if gap.passed_ms:
        return [f"It is a matter of timing: {cut}; {gap.passed_ms} ms were short enough, {gap.failed_ms} ms too long"]
    return [f"It is a matter of timing: {cut}; {gap.failed_ms} ms were too long"]


def say_hops(hops: HopRange) -> str:
    """Return where it is, as a clause.

    Args:
        hops: What was found.
    """
    where = f"after hop {hops.after}, at hop {hops.at} at the latest" if hops.after else f"within {hops.at} hops"
    if hops.at == hops.after + 1 and hops.after:
        where = f"between hop {hops.after} and hop {hops.at}"
    if hops.is_before_server is None:
        return where
    return f"{where}, {'short of the server' if hops.is_before_server else 'where the server answers'}"


def say_step(workaround: Workaround) -> str:
    """Return something to do as a clause of the answer.

    Args:
        workaround: It.
    """
    how = f"Proved to work here ({workaround.experiment})" if workaround.proved else "The fix"
    return f"{how}: {_lower(workaround.what).rstrip('.')}"


def _lower(text: str) -> str:
    text = text.removeprefix(_MEANWHILE)
    return text if text[1:2].isupper() else f"{text[:1].lower()}{text[1:]}"


def _name_all(ids: Sequence[str]) -> str:
    return ", ".join(f"{each} {fault_name(each)}" for each in ids)


def say_unmet(found: Diagnosis) -> str:
    """Return why a healthy path does not meet --require-pq, "" where it does, or where it is not healthy anyway.

    Args:
        found: The diagnosis.
    """
    if found.verdict != "healthy" or found.server_state in _POST_QUANTUM_STATES:
        return ""
    if found.server_state == "unknown":
        return "the server was not seen to be post-quantum each time"
    return f"the server is not post-quantum ({found.server_state})"
