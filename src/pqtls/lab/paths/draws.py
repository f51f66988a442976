"""One drawing for each class: parameters only where it can be seen, and the set that must come out.

The expected set is computed from the parameters: what can be told apart is decided by what reaches the client, not by
asking the code under test. The rules are those of the model in tests/path/.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pqtls.lab.paths.scenario import Box, Dislike, Front, Link, Scenario, Tls
from pqtls.probe.model import HYBRID, HYBRID_P256, HYBRID_P384, KYBER_DRAFT, P256, P384, X448, X25519
from pqtls.wire.hello_builder import ML_DSA_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.lab.paths.scenario import HelloField

CLASSICAL = (X25519, P256, P384)
HYBRIDS = (HYBRID, HYBRID_P256, HYBRID_P384)
_WITH_HYBRID = (HYBRID, *CLASSICAL)


def draw(fault: str, seed: int) -> Scenario:
    """Return the path that a class and a seed stand for; always the same.

    Args:
        fault: A key of `DRAWINGS`, or of `HEALTHY`.
        seed: Any number.

    Raises:
        KeyError: There is no such class here.
    """
    drawing = (DRAWINGS | HEALTHY)[fault]
    return drawing(fault, random.Random(f"{fault} {seed}"))  # noqa: S311 - a drawing, seeded


def _link(rng: random.Random, **changes: Any) -> Link:
    rtt_s = rng.uniform(0.002, 0.04)
    return replace(Link(rtt_s=rtt_s, jitter_s=rng.uniform(0, 0.1) * rtt_s), **changes)


def _tls(rng: random.Random, **changes: Any) -> Tls:
    groups: tuple[int, ...] = CLASSICAL
    if rng.random() < 0.7:
        groups = (HYBRID, *groups)
    if rng.random() < 0.5:
        groups = (*groups, X448)
    tls = Tls(
        groups=groups,
        flight_bytes=rng.randint(1200, 6000),
        think_s=rng.uniform(0.0002, 0.02),
        retries_for_first=rng.random() < 0.3,
    )
    return replace(tls, **changes)


def _clamp(rng: random.Random) -> int | None:
    return rng.choice((None, rng.randint(600, 1400)))


def _scenario(fault: str, rng: random.Random, expected: set[str], **parts: Any) -> Scenario:
    parts.setdefault("link", _link(rng))
    parts.setdefault("tls", _tls(rng))
    sets: dict[str, Any] = {name: frozenset(parts.pop(name, ())) for name in ("also", "triggered_by", "costs")}
    return Scenario(fault, expected=frozenset(expected), **sets, **parts)


def _read_once(fault: str, rng: random.Random) -> Scenario:
    reaction = rng.choice(("alert:40", "alert:50", "alert:80", "reset", "close"))
    front = Front("once", reaction, wake_s=rng.uniform(0, 0.002))
    # A router has no alert to send; what ends without one may be either.
    expected = {"F01"} if reaction.startswith("alert") else {"F01", "F04"}
    return _scenario(fault, rng, expected, front=front, link=_link(rng, clamp_bytes=_clamp(rng)))


def _default_server(fault: str, rng: random.Random) -> Scenario:
    front = Front("once", "default", wake_s=rng.uniform(0, 0.002), is_router=True)
    return _scenario(fault, rng, {"F02"}, front=front)


def _peek_buffer(fault: str, rng: random.Random) -> Scenario:
    size_bytes = rng.choice((1024, 1500, rng.randint(560, 1690)))
    front = Front("peek", rng.choice(("close", "reset", "mute", "alert:40")), size_bytes, is_router=True)
    return _scenario(fault, rng, {"F03"}, front=front, link=_link(rng, clamp_bytes=_clamp(rng)), also={"F20"})


def _impatient_router(fault: str, rng: random.Random) -> Scenario:
    front = Front("once", rng.choice(("reset", "close")), is_router=True)
    return _scenario(fault, rng, {"F01", "F04"}, front=front, link=_link(rng, clamp_bytes=_clamp(rng)))


def _zero_window(fault: str, rng: random.Random) -> Scenario:
    return _scenario(fault, rng, {"F06"}, front=Front("window"))


def _fragment_intolerant(fault: str, rng: random.Random) -> Scenario:
    front = Front("first-record", rng.choice(("alert:40", "alert:50", "reset", "close", "mute")))
    return _scenario(fault, rng, {"F07"}, front=front, is_full=True)


def _whole_record(fault: str, rng: random.Random) -> Scenario:
    box = Box("whole-record", rng.choice(("reset", "drop", "close")))
    # What ends the stream in the server's name has acknowledged the first segment: so would a quick reader.
    expected = {"F01", "F04", "F08"} if box.kill == "close" else {"F08"}
    return _scenario(fault, rng, expected, box=box, link=_link(rng, clamp_bytes=_clamp(rng)))


def _name_in_first(fault: str, rng: random.Random) -> Scenario:
    box = Box("name", rng.choice(("reset", "drop")))
    return _scenario(fault, rng, {"F09"}, box=box, link=_link(rng, clamp_bytes=_clamp(rng)))


def _continuation(fault: str, rng: random.Random) -> Scenario:
    box = Box("record-start", rng.choice(("reset", "drop")))
    return _scenario(fault, rng, {"F10"}, box=box, link=_link(rng, clamp_bytes=_clamp(rng)))


def _oversize(fault: str, rng: random.Random) -> Scenario:
    box = Box("small", "reset", limit_bytes=rng.randint(530, 1447))
    return _scenario(fault, rng, {"F19"}, box=box)


def _forward_hole(fault: str, rng: random.Random) -> Scenario:
    # From just above what 536-byte segments need to just below a full one.
    link = _link(rng, forward_hole_bytes=rng.randint(530, 1447))
    return _scenario(fault, rng, {"F13"}, link=link, also={"F15", "F19"})


def _reverse_hole(fault: str, rng: random.Random) -> Scenario:
    hole_bytes = rng.randint(530, 1440)
    if rng.random() < 0.5 or hole_bytes < 1250:
        tls = _tls(rng, flight_bytes=rng.randint(max(hole_bytes + 1, 1200), 6000))
    else:
        # The classical flight fits just so, the hybrid's does not.
        tls = _tls(rng, groups=(HYBRID, X25519, P256), flight_bytes=rng.randint(1200, hole_bytes - 40))
    link = _link(rng, reverse_hole_bytes=hole_bytes)
    return _scenario(fault, rng, {"F14"}, link=link, tls=tls, also={"F15", "F19"})


def _unknown_group(fault: str, rng: random.Random) -> Scenario:
    known = (*CLASSICAL, X448) if rng.random() < 0.5 else CLASSICAL
    dislikes = Dislike(("shares",) if rng.random() < 0.5 else ("groups",), known=known)
    refusal = rng.choice(("alert:40", "alert:47", "alert:80", "reset", "close", "mute"))
    tls = _tls(rng, groups=known, dislikes=dislikes, refusal=refusal, retries_for_first=False)
    return _scenario(fault, rng, {"F22"}, tls=tls)


def _blocked_number(fault: str, rng: random.Random) -> Scenario:
    in_shares = rng.random() < 0.5
    kill = rng.choice(("reset", "drop", "close", "alert:47", "alert:40"))
    box = Box("content", kill, Dislike(("shares",) if in_shares else ("groups",), (HYBRID,)))
    # A server that has the halves in the wrong order refuses the share with illegal_parameter too.
    return _scenario(fault, rng, {"F23", "F31"} if in_shares and kill == "alert:47" else {"F23"}, box=box)


def _ml_dsa(fault: str, rng: random.Random) -> Scenario:
    looks = Dislike((rng.choice(("signatures", "certificate-signatures")),), ML_DSA_SCHEMES)
    return _scenario(fault, rng, {"F24"}, box=Box("content", rng.choice(("reset", "drop", "close", "alert:40")), looks))


def _grease(fault: str, rng: random.Random) -> Scenario:
    names: tuple[HelloField, ...] = ("ciphers", "extensions", "groups", "signatures", "versions")
    dislikes = Dislike(tuple(rng.sample(names, rng.randint(1, 5))), has_grease=True)
    refusal = rng.choice(("alert:40", "alert:47", "alert:50", "reset", "close", "mute"))
    return _scenario(fault, rng, {"F25"}, tls=_tls(rng, dislikes=dislikes, refusal=refusal))


def _two_shares(fault: str, rng: random.Random) -> Scenario:
    only_hybrid = rng.random() < 0.4
    dislikes = Dislike(("hybrid-shares",) if only_hybrid else ("shares",), count=1)
    tls = _tls(rng, dislikes=dislikes, refusal=rng.choice(("alert:40", "reset", "close")))
    return _scenario(fault, rng, {"F26"}, tls=tls, is_full=only_hybrid)


def _broken_retry(fault: str, rng: random.Random) -> Scenario:
    how = rng.choice(("close", "alert:40", "alert:47", "reset", "no-echo", "no-retry"))
    return _scenario(fault, rng, {"F27"}, tls=_tls(rng, retry_fault=how), is_full=True)


def _wrong_order(fault: str, rng: random.Random) -> Scenario:
    how = rng.choice(("swapped-share", "swapped-secret", "garbage"))
    tls = _tls(rng, groups=_WITH_HYBRID, hybrid_fault=how)
    return _scenario(fault, rng, {"F31"}, tls=tls, also={"F37"} if how == "garbage" else set())


def _inspected(fault: str, rng: random.Random) -> Scenario:
    return _scenario(fault, rng, {"F35"}, is_inspected=True, tls=_tls(rng, groups=_WITH_HYBRID))


def _penalty(fault: str, rng: random.Random) -> Scenario:
    inner = rng.choice(("F08", "F23"))
    block: dict[str, Any] = {"block_s": rng.uniform(3.0, 15.0), "block_kind": rng.choice(("reset", "drop"))}
    looks = Dislike(("groups",), (HYBRID,))
    box = Box("whole-record", "reset", **block) if inner == "F08" else Box("content", "reset", looks, **block)
    return _scenario(fault, rng, {"F40"}, box=box, triggered_by={inner})


def _mixed_pool(fault: str, rng: random.Random) -> Scenario:
    """F43: two to four servers take turns, of which one reads once, or refuses what is new."""
    kind = rng.choice(("number", "schemes", "once"))
    refusal = rng.choice(("alert:40", "reset", "close"))
    looks = {"number": Dislike(("groups",), (HYBRID,)), "schemes": Dislike(("signatures",), ML_DSA_SCHEMES)}
    tls = _tls(rng, groups=_WITH_HYBRID, dislikes=looks.get(kind), refusal=refusal)
    front = Front("once", refusal) if kind == "once" else Front()
    return _scenario(fault, rng, {"F43"}, tls=tls, front=front, pool=rng.randint(2, 4), repeats=16)


def _low_mtu(fault: str, rng: random.Random) -> Scenario:
    mtu = rng.choice((1480, 1420, 1400, 1280, rng.randint(952, 1492)))
    both_ways = rng.random() < 0.5
    # Both ways it is the server who learns first, by its own flight, and then asks for smaller segments: a clamp, as
    # far as the client can see.
    tls = _tls(rng, flight_bytes=rng.randint(1500, 6000))
    link = _link(rng, honest_mtu=mtu, is_honest_both_ways=both_ways)
    return _scenario(fault, rng, set(), link=link, tls=tls, costs={"F17" if both_ways else "F16"})


def _clamped(fault: str, rng: random.Random) -> Scenario:
    return _scenario(fault, rng, set(), link=_link(rng, clamp_bytes=rng.randint(536, 1400)), costs={"F17"})


def _small_window(fault: str, rng: random.Random) -> Scenario:
    return _scenario(fault, rng, set(), link=_link(rng, window_bytes=rng.randint(300, 1200)), costs={"F18"})


def _draft(fault: str, rng: random.Random) -> Scenario:
    tls = _tls(rng, groups=(KYBER_DRAFT, X25519, P256), retries_for_first=False)
    return _scenario(fault, rng, set(), tls=tls, state="draft")


def _not_preferred(fault: str, rng: random.Random) -> Scenario:
    """F33: without the hybrid, or with x25519 before it."""
    if rng.random() < 0.5:
        return _scenario(fault, rng, set(), tls=_tls(rng, groups=CLASSICAL), state="classical")
    tls = _tls(rng, groups=(X25519, HYBRID, P256), retries_for_first=False)
    return _scenario(fault, rng, set(), tls=tls, state="supported")


def _tls12(fault: str, rng: random.Random) -> Scenario:
    return _scenario(fault, rng, set(), tls=_tls(rng, is_tls12=True), state="tls12")


def _big_flight(fault: str, rng: random.Random) -> Scenario:
    tls = _tls(rng, groups=(HYBRID, X25519, P256), flight_bytes=rng.randint(15_500, 30_000))
    link = Link(rtt_s=rng.uniform(0.02, 0.04))
    return _scenario(fault, rng, set(), tls=tls, link=link, costs={"F45"}, state="preferred")


def _asks_again(fault: str, rng: random.Random) -> Scenario:
    tls = _tls(rng, groups=(HYBRID_P384, X25519, P256), retries_for_first=True)
    return _scenario(fault, rng, set(), tls=tls, costs={"F46"}, state="only-by-retry")


def _rough(fault: str, rng: random.Random) -> Scenario:
    """Nothing is wrong, and nothing is easy: far, lossy, shuffled, clamped, narrow; a slow server of any kind."""
    link = Link(
        rtt_s=rng.uniform(0.001, 0.2),
        jitter_s=rng.uniform(0, 0.02),
        loss=rng.choice((0.0, rng.uniform(0, 0.03))),
        reorder=rng.choice((0.0, rng.uniform(0, 0.2))),
        clamp_bytes=_clamp(rng),
        window_bytes=rng.choice((None, None, rng.randint(300, 4000))),
        honest_mtu=rng.choice((None, None, rng.randint(952, 1492))),
        is_honest_both_ways=rng.random() < 0.5,
    )
    orders = ((HYBRID, X25519, P256), (X25519, P256), (X25519, HYBRID), (KYBER_DRAFT, X25519), (P384, X25519))
    tls = _tls(
        rng,
        groups=rng.choice(orders),
        think_s=rng.choice((0.001, rng.uniform(0, 1.5))),
        is_tls12=rng.random() < 0.2,
        flight_bytes=rng.randint(1200, 30_000),
    )
    return _scenario(fault, rng, set(), link=link, tls=tls, is_full=rng.random() < 0.2)


DRAWINGS: dict[str, Callable[[str, random.Random], Scenario]] = {
    "F01": _read_once,
    "F02": _default_server,
    "F03": _peek_buffer,
    "F04": _impatient_router,
    "F06": _zero_window,
    "F07": _fragment_intolerant,
    "F08": _whole_record,
    "F09": _name_in_first,
    "F10": _continuation,
    "F13": _forward_hole,
    "F14": _reverse_hole,
    "F16": _low_mtu,
    "F17": _clamped,
    "F18": _small_window,
    "F19": _oversize,
    "F22": _unknown_group,
    "F23": _blocked_number,
    "F24": _ml_dsa,
    "F25": _grease,
    "F26": _two_shares,
    "F27": _broken_retry,
    "F30": _draft,
    "F31": _wrong_order,
    "F33": _not_preferred,
    "F34": _tls12,
    "F35": _inspected,
    "F40": _penalty,
    "F43": _mixed_pool,
    "F45": _big_flight,
    "F46": _asks_again,
}
"""How each class is drawn, by its id in the catalogue."""

HEALTHY: dict[str, Callable[[str, random.Random], Scenario]] = {"rough": _rough}
"""Paths that are no class of the catalogue and must be called healthy."""
