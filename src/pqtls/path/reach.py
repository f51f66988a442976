"""How a target is reached, and what that means for what was found: behind a proxy much less is seen than before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from pqtls.faults.catalogue import fault_name
from pqtls.path.words import say_answer

if TYPE_CHECKING:
    from pqtls.path.diagnosis import Diagnosis
    from pqtls.probe.http_proxy import Proxy

_PUNISHES = "F40"
_BY_PROXY = "F42"
# Two requests for a connection, a second apart, that a proxy repeated and that nobody here saw.
_LATE_S = 1.9


@dataclass(frozen=True, slots=True)
class Reach:
    """The way to a target.

    Attributes:
        proxy: Go through this one; None for the straight way.
        starttls: Ask for TLS in this protocol, a key of `PROTOCOLS`; "" for TLS from the start.
    """

    proxy: Proxy | None = None
    starttls: str = ""


def qualify(found: Diagnosis, reach: Reach) -> Diagnosis:
    """Return a diagnosis that says how its target was reached, and claims no more than that allows.

    Args:
        found: The diagnosis, as if every byte had gone straight to the server.
        reach: The way that was taken.
    """
    proxy = "" if reach.proxy is None else str(reach.proxy)
    found = _without_hasty_blame(replace(found, proxy=proxy, starttls=reach.starttls), reach)
    return _behind_proxy(found, proxy) if proxy else found


def qualify_unseen(problem: str, reach: Reach) -> Diagnosis:
    """Return the diagnosis of a target of which nothing was seen.

    Args:
        problem: Why not, as a sentence.
        reach: The way that was to be taken.
    """
    from pqtls.path.diagnosis import Diagnosis

    found = qualify(Diagnosis("inconclusive", "unknown", notes=(problem,)), reach)
    return replace(found, answer=say_answer(found))


def _without_hasty_blame(found: Diagnosis, reach: Reach) -> Diagnosis:
    """Connections that were turned away before TLS are nobody's punishment for a hello: limits look the same."""
    turned_away = [each for each in found.attempts if each.ended_before_tls]
    if not turned_away or len(turned_away) == len(found.attempts):
        return found
    who = "the proxy" if reach.proxy is not None else "the server"
    note = (
        f"{len(turned_away)} of {len(found.attempts)} connections did not get as far as TLS; the last time: "
        f"{turned_away[-1].detail}"
    )
    if _PUNISHES not in found.fault_ids:
        return replace(found, notes=(*found.notes, note))
    told = replace(
        found,
        verdict="inconclusive",
        faults=(),
        also_fits=(_PUNISHES, *found.also_fits),
        where="unknown",
        workarounds=(),
        notes=(f"After some failures {who} let no connection through; it may just limit their rate.", note),
    )
    return replace(told, answer=say_answer(told))


def _behind_proxy(found: Diagnosis, proxy: str) -> Diagnosis:
    if not any(attempt.is_connected for attempt in found.attempts):
        return found
    note = (
        f"Through the proxy {proxy}: what TCP tells (segments, losses, costs) is of the way to it. It sends on what it "
        "gets in segments of its own; of what is behind it only the answers are seen."
    )
    found = replace(found, notes=(*found.notes, note))
    if found.verdict != "fault":
        return found
    if _PUNISHES not in found.fault_ids and (late_s := _late_tunnels_s(found)) is not None:
        late = f"Right after failures the proxy took up to {late_s:.1f} s more for its tunnel: something behind it may "
        late += f"block for a while what it dislikes ({_PUNISHES} {fault_name(_PUNISHES)})."
        found = replace(found, also_fits=(*found.also_fits, _PUNISHES), answer=f"{found.answer} {late}")
    caveat = "It was seen through a proxy, which may be what breaks (F42 explicit-proxy): compare without it."
    return replace(found, also_fits=(*found.also_fits, _BY_PROXY), answer=f"{found.answer} {caveat}")


def _late_tunnels_s(found: Diagnosis) -> float | None:
    """Return how much longer than the fastest a tunnel took right after a failure; None if none took much longer."""
    tunnels = [attempt.preamble_s for attempt in found.attempts if attempt.is_connected]
    after_failures = [
        after.preamble_s - min(tunnels)
        for before, after in pairwise(found.attempts)
        if before.ending != "answered" and after.is_connected
    ]
    longest_s = max(after_failures, default=0.0)
    return longest_s if longest_s >= _LATE_S else None
