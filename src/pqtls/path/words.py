"""The answer as a sentence or two, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.faults.catalogue import CATALOGUE, fault_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.path.diagnosis import Diagnosis

_STATES = {
    "preferred": "the server chose X25519MLKEM768",
    "supported": "the server has X25519MLKEM768 and prefers a classical group",
    "only-by-retry": "the server has a post-quantum group and asks for it by a retry",
    "classical": "the server has no post-quantum group that was offered",
    "tls12": "the server speaks TLS 1.2 only, in which there is no post-quantum key exchange",
    "draft": "the server knows only the obsolete Kyber draft",
    "unknown": "how far the server itself is was not seen",
}
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


def say_state(state: str) -> str:
    """Return a server's state as a clause.

    Args:
        state: ServerState.
    """
    return _STATES[state]


def say_answer(found: Diagnosis) -> str:
    """Return the answer: what is wrong, how sure, whose it is, what fits too, what to do.

    Args:
        found: The diagnosis, but for its answer.
    """
    if found.verdict == "healthy":
        if found.server_state in ("preferred", "supported", "only-by-retry"):
            return f"Healthy: post-quantum handshakes get through, and {say_state(found.server_state)}."
        if "F43" in found.also_fits:
            return (
                "Healthy: the path lets post-quantum hellos through; of the servers behind this address not all answer "
                "them alike, so post-quantum key exchange is a matter of chance."
            )
        return f"Healthy: the path lets post-quantum hellos through; {say_state(found.server_state)}."
    if found.verdict == "inconclusive":
        fits = _name_all(found.also_fits)
        return f"Inconclusive. {' '.join(found.notes)}" + (f" It could be {fits}." if fits else "")
    first, *others = found.faults
    entry = CATALOGUE[first.id]
    parts = [f"On this path {entry.sentence} ({first.id} {entry.name}, {first.confidence:.0%})"]
    if first.detail:
        parts[0] += f": {first.detail}"
    twins = [*(each.id for each in others), *found.also_fits]
    if twins:
        parts.append(
            f"From this end it cannot be told from {', '.join(f'{each} {fault_name(each)}' for each in twins)}"
        )
    if found.triggered_by:
        parts.append(f"What sets it off fits {_name_all(found.triggered_by)}")
    parts.append(f"Most likely it is {_WHERES[found.where]}")
    proved = [each for each in found.workarounds if each.proved]
    if proved:
        parts.append(f"Proved to work here ({proved[0].experiment}): {proved[0].what[:1].lower()}{proved[0].what[1:]}")
    return " ".join(f"{part.rstrip('.')}." for part in parts)


def _name_all(ids: Sequence[str]) -> str:
    return ", ".join(f"{each} {fault_name(each)}" for each in ids)
