"""The experiments, as data: what each sends, how it is cut, what its outcome tells.

Hellos are real: real key shares, and nothing a compliant server may refuse but where `is_declinable` says so. No
ALPN is offered: a server of another protocol might rightly refuse it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from pqtls.probe.model import (
    ALL_GREASE,
    FFDHE4096,
    HYBRID,
    HYBRID_P256,
    HYBRID_P384,
    KYBER_DRAFT,
    P256,
    P384,
    UNKNOWN_GROUP,
    X448,
    X25519,
    Cut,
    Experiment,
    HelloPlan,
    SendPlan,
)
from pqtls.wire import codepoints as cp

CLASSICAL_GROUPS = (X25519, P256, P384)
HYBRID_GROUPS = (HYBRID, X25519, P256, P384)
ONLY_TLS13 = (cp.TLS13,)
PAUSE_S = 0.3

_CLASSICAL = HelloPlan(padded_to=250)
_HYBRID = HelloPlan(HYBRID_GROUPS, (HYBRID, X25519), padded_to=1700)
_COMPACT = HelloPlan(HYBRID_GROUPS, (HYBRID, X25519), ONLY_TLS13, is_compact=True)
_NEWEST = HelloPlan(
    (HYBRID, X25519, P256, P384, HYBRID_P256, HYBRID_P384),
    (HYBRID, X25519),
    grease=ALL_GREASE,
    ml_dsa="signatures-and-certificates",
    padded_to=1700,
)


def _split(cut: Cut, pause_s: float = PAUSE_S) -> SendPlan:
    return SendPlan(cut=cut, pause_s=pause_s)


def _classical(**changes: Any) -> HelloPlan:
    return replace(_CLASSICAL, **changes)


_LIST = (
    Experiment("E0", "connect, and wait in silence", "does the server speak first; MSS and window", None),
    Experiment("E1", "classical, 250 B, one segment", "the control: does TLS work at all", _CLASSICAL),
    Experiment(
        "E1t(1.2)",
        "classical, TLS 1.2 only",
        "filters on versions",
        _classical(versions=(cp.TLS12,), shares=()),
        is_declinable=True,
    ),
    Experiment(
        "E1t(1.3)",
        "classical, TLS 1.3 only",
        "filters on versions",
        _classical(versions=ONLY_TLS13),
        is_declinable=True,
    ),
    Experiment("E2", "classical, padded to 1700 B", "size without post-quantum bytes", _classical(padded_to=1700)),
    Experiment("E2(5500)", "classical, padded to 5500 B", "the size of hellos to come", _classical(padded_to=5500)),
    Experiment("E2(2700)", "classical, padded to 2700 B", "size without two hybrid shares", _classical(padded_to=2700)),
    Experiment(
        "E2s", "classical, exactly one segment", "size without a second segment", _classical(padded_to="segment")
    ),
    Experiment(
        "E2s+1",
        "classical, one segment and one byte",
        "one byte of a second segment",
        _classical(padded_to="segment+1"),
    ),
    Experiment(
        "E3", "classical, cut before the name, 0.3 s pause", "splits without size", _CLASSICAL, _split("before-name")
    ),
    Experiment(
        "E3(0)", "classical, cut before the name, no pause", "timing of splits", _CLASSICAL, _split("before-name", 0.0)
    ),
    Experiment(
        "E3(after)", "classical, cut after the name, 0.3 s pause", "place of the name", _CLASSICAL, _split("after-name")
    ),
    Experiment("E3(3)", "classical, cut within the record header", "is the header put together", _CLASSICAL, _split(3)),
    Experiment("E4", "hybrid, compact, one segment", "the group without a split", _COMPACT),
    Experiment("E5", "hybrid, 1700 B, name first", "the real thing", _HYBRID),
    Experiment(
        "E6",
        "hybrid, 1700 B, name after the key share",
        "place of the name",
        HelloPlan(HYBRID_GROUPS, (HYBRID, X25519), is_name_last=True, padded_to=1700),
    ),
    Experiment(
        "E7",
        "hybrid, a record in each of two segments",
        "whole records in each segment",
        _HYBRID,
        SendPlan(cut="record", pause_s=PAUSE_S, record_cut=400),
    ),
    Experiment(
        "E7b",
        "the same, name in the second record",
        "place of the name",
        HelloPlan(HYBRID_GROUPS, (HYBRID, X25519), is_name_last=True),
        SendPlan(cut="record", pause_s=PAUSE_S, record_cut=200),
    ),
    Experiment(
        "E7d", "classical, two records in one segment", "records alone", _CLASSICAL, SendPlan(record_cut="half")
    ),
    Experiment("E8(1000)", "hybrid, TCP segments of 1000 B", "MTU", _HYBRID, SendPlan(max_segment_bytes=1000)),
    Experiment("E8(536)", "hybrid, TCP segments of 536 B", "MTU", _HYBRID, SendPlan(max_segment_bytes=536)),
    Experiment(
        "E8c", "classical, TCP segments of 1000 B", "MTU towards us", _CLASSICAL, SendPlan(max_segment_bytes=1000)
    ),
    Experiment(
        "E8c(536)", "classical, TCP segments of 536 B", "MTU towards us", _CLASSICAL, SendPlan(max_segment_bytes=536)
    ),
    Experiment(
        "E9",
        "hybrid named, share for x25519 only",
        "the code point without its size",
        HelloPlan(HYBRID_GROUPS, (X25519,), padded_to=250),
    ),
    Experiment(
        "E10",
        "hybrid share alone, x25519 named, one segment",
        "has the server the group",
        HelloPlan(HYBRID_GROUPS, (HYBRID,), ONLY_TLS13, is_compact=True),
    ),
    Experiment(
        "E10(1700)",
        "hybrid share alone, 1700 B, TLS 1.2 too",
        "one share, before a server of TLS 1.2",
        HelloPlan(HYBRID_GROUPS, (HYBRID,), padded_to=1700),
    ),
    Experiment(
        "E10p",
        "another hybrid's share alone, x25519 named, one segment",
        "does a hybrid of another number get through",
        HelloPlan((HYBRID_P256, *CLASSICAL_GROUPS), (HYBRID_P256,), ONLY_TLS13, is_compact=True),
    ),
    Experiment(
        "E11",
        "hybrid alone, one segment",
        "does the server take nothing else",
        HelloPlan((HYBRID,), (HYBRID,), ONLY_TLS13, is_compact=True),
        is_declinable=True,
    ),
    Experiment(
        "E12",
        "no share, hybrid named",
        "a retry, and a big second hello",
        HelloPlan(HYBRID_GROUPS, (), padded_to=250, second_padded_to=1700),
    ),
    Experiment(
        "E12c",
        "a share for x448 only, x25519 named",
        "a retry without post-quantum",
        HelloPlan((X448, *CLASSICAL_GROUPS), (X448,), padded_to=250),
    ),
    Experiment(
        "E12d",
        "a share for ffdhe4096 only, x25519 named",
        "a retry without post-quantum, where the server has x448",
        HelloPlan((FFDHE4096, *CLASSICAL_GROUPS), (FFDHE4096,), ONLY_TLS13, padded_to=1000),
    ),
    Experiment(
        "E13", "classical with GREASE everywhere", "what is unknown", _classical(grease=ALL_GREASE, padded_to=517)
    ),
    *(
        Experiment(
            f"E13({field})",
            f"classical with GREASE in {field}",
            "what is unknown",
            _classical(grease=frozenset((field,))),
        )
        for field in sorted(ALL_GREASE)
    ),
    Experiment(
        "E14",
        "an unknown group's share of 1216 B, one segment",
        "an unknown big share without a known number",
        HelloPlan((UNKNOWN_GROUP, *CLASSICAL_GROUPS), (UNKNOWN_GROUP, X25519), ONLY_TLS13, is_compact=True),
    ),
    Experiment(
        "E14(1700)",
        "an unknown group's share of 1216 B, 1700 B, TLS 1.2 too",
        "an unknown big share, before a server of TLS 1.2",
        HelloPlan((UNKNOWN_GROUP, *CLASSICAL_GROUPS), (UNKNOWN_GROUP, X25519), padded_to=1700),
    ),
    Experiment("E15", "classical with ML-DSA signatures", "ML-DSA", _classical(ml_dsa="signatures")),
    Experiment(
        "E15c",
        "classical with ML-DSA signatures and certificates",
        "ML-DSA",
        _classical(ml_dsa="signatures-and-certificates"),
    ),
    Experiment("E16c", "two classical shares", "two shares", _classical(shares=(X25519, P256), padded_to=517)),
    Experiment(
        "E16h",
        "two hybrid shares",
        "two post-quantum shares",
        HelloPlan((HYBRID, HYBRID_P256, *CLASSICAL_GROUPS), (HYBRID, HYBRID_P256), ONLY_TLS13, is_compact=True),
    ),
    Experiment(
        "E16r",
        "x25519 share before the hybrid's",
        "order of shares",
        HelloPlan((X25519, HYBRID, P256, P384), (X25519, HYBRID), ONLY_TLS13, is_compact=True),
    ),
    Experiment(
        "E17",
        "classical, a name made up just now",
        "policies on names; certificates made to order",
        _classical(name="other"),
        is_declinable=True,
    ),
    Experiment("E17n", "classical without a name", "the default server", _classical(name="none"), is_declinable=True),
    Experiment("E23", "hybrid as the newest browsers send it", "all that is new in one hello", _NEWEST),
    Experiment(
        "E24",
        "the Kyber draft named, no share",
        "a server of yesterday",
        HelloPlan((KYBER_DRAFT,), (), ONLY_TLS13, padded_to=250),
        is_declinable=True,
    ),
    Experiment(
        "E31",
        "hybrid share alone, its halves swapped, one segment",
        "a server that has the order wrong",
        HelloPlan(HYBRID_GROUPS, (HYBRID,), ONLY_TLS13, is_compact=True, is_swapped=True),
        is_declinable=True,
    ),
)

EXPERIMENTS: dict[str, Experiment] = {experiment.id: experiment for experiment in _LIST}
"""Every experiment without a number of its own. E22 is E1 again after a failure; E20 repeats what failed, and E1."""

_NUMBERED = re.compile(r"(E18|E19)\((\d{1,5})\)|E21\((E[0-9a-z()+]+)@(\d{1,2})\)")


def find_experiment(name: str) -> Experiment:
    """Return an experiment, also of the families that take a number: E18(bytes), E19(ms), E21(experiment@hops).

    Args:
        name: Its id.

    Raises:
        KeyError: There is none of that id.
    """
    found = EXPERIMENTS.get(name)
    if found is not None:
        return found
    match = _NUMBERED.fullmatch(name)
    if match is None:
        raise KeyError(name)
    family, number, flight, hops = match.groups()
    if family == "E18":
        plan = _classical(padded_to=int(number))
        return Experiment(name, f"classical, padded to {number} B", "the smallest size that fails", plan)
    if family == "E19":
        pause_ms = int(number)
        title = f"classical, cut before the name, {pause_ms} ms pause"
        cut = _split("before-name", pause_ms / 1000)
        return Experiment(name, title, "the pause at which it fails", _CLASSICAL, cut)
    limited = EXPERIMENTS[flight]
    title, send = f"{flight}, to hop {hops}", replace(limited.send, hops=int(hops))
    return Experiment(name, title, "where it is dropped or answered", limited.hello, send, is_aside=True)
