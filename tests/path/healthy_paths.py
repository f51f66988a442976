"""One simulation for each path that is healthy, but different: never a fault."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.path.drawn_path import Case, draw_clamp, draw_link, draw_tls, make_case
from tests.path.servers_model import HYBRID, HYBRID_P384, KYBER, P256, P384, TLS12, X25519
from tests.path.wire_model import Link

if TYPE_CHECKING:
    from collections.abc import Callable


def low_mtu(rng: random.Random) -> Case:
    link = draw_link(rng, honest_bytes=rng.choice((1428, 1368, 1348, 1228, rng.randint(900, 1440))))
    return make_case(rng, set(), link=link, costs={"F16"})


def clamped(rng: random.Random) -> Case:
    return make_case(rng, set(), link=draw_link(rng, clamp_bytes=rng.randint(536, 1400)), costs={"F17"})


def small_window(rng: random.Random) -> Case:
    return make_case(rng, set(), link=draw_link(rng, window_bytes=rng.randint(300, 1200)), costs={"F18"})


def draft(rng: random.Random) -> Case:
    return make_case(
        rng, set(), tls=draw_tls(rng, groups=(KYBER, X25519, P256), retries_for_first=False), state="draft"
    )


def classical(rng: random.Random) -> Case:
    tls = draw_tls(rng, groups=(X25519, P256, P384))
    return make_case(rng, set(), tls=tls, state="classical")


def prefers_classical(rng: random.Random) -> Case:
    tls = draw_tls(rng, groups=(X25519, HYBRID, P256), retries_for_first=False)
    return make_case(rng, set(), tls=tls, state="supported")


def hybrid_only(rng: random.Random) -> Case:
    return make_case(rng, set(), tls=draw_tls(rng, groups=(HYBRID,)), state="preferred")


def tls12(rng: random.Random) -> Case:
    return make_case(rng, set(), tls=draw_tls(rng, max_version=TLS12), state="tls12")


def big_flight(rng: random.Random) -> Case:
    tls = draw_tls(rng, groups=(HYBRID, X25519, P256), flight_bytes=rng.randint(15_500, 30_000))
    return make_case(rng, set(), tls=tls, link=draw_link(rng, jitter_s=0.0), costs={"F45"}, state="preferred")


def asks_again(rng: random.Random) -> Case:
    tls = draw_tls(rng, groups=(HYBRID_P384, X25519, P256), retries_for_first=True)
    return make_case(rng, set(), tls=tls, costs={"F46"}, state="only-by-retry")


def rough(rng: random.Random) -> Case:
    """Far, lossy, shuffled; a slow server of any kind; any of the above at once."""
    link = Link(
        rtt_s=rng.uniform(0.001, 0.2),
        jitter_s=rng.uniform(0, 0.02),
        loss=rng.choice((0.0, rng.uniform(0, 0.03))),
        reorder=rng.choice((0.0, rng.uniform(0, 0.2))),
        clamp_bytes=draw_clamp(rng),
        window_bytes=rng.choice((64_240, 64_240, rng.randint(300, 4000))),
        honest_bytes=rng.choice((None, None, rng.randint(900, 1440))),
    )
    groups = rng.choice(((HYBRID, X25519, P256), (X25519, P256), (X25519, HYBRID), (KYBER, X25519), (P384, X25519)))
    tls = draw_tls(
        rng,
        groups=groups,
        think_s=rng.choice((0.001, rng.uniform(0, 2.5))),
        max_version=rng.choice((0x0304, 0x0304, TLS12)),
        flight_bytes=rng.randint(600, 30_000),
    )
    case = make_case(rng, set(), link=link, tls=tls)
    case.simulator.has_tcp_facts = rng.random() < 0.8
    return replace(case, is_full=rng.random() < 0.2)


HEALTHY: dict[str, Callable[[random.Random], Case]] = {
    "F16": low_mtu,
    "F17": clamped,
    "F18": small_window,
    "F30": draft,
    "F33-classical": classical,
    "F33-supported": prefers_classical,
    "F29": hybrid_only,
    "F34": tls12,
    "F45": big_flight,
    "F46": asks_again,
    "rough": rough,
}
