"""Paths and pools that come and go: what fails at times must not be taken for a class that fails always."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tests.path.drawn_path import draw_link, draw_tls
from tests.path.faulty_paths import ML_DSA
from tests.path.servers_model import HYBRID, P256, X25519, ContentBox, TlsApp
from tests.path.simulator import Simulator

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from pqtls.wire.client_hello import ClientHello
    from tests.path.wire_model import Box

KILLS = ("reset", "drop", "close", "alert:40")


def _simulator(rng: random.Random, make_app: Callable[[], TlsApp], boxes: Callable[[], list[Box]]) -> Simulator:
    return Simulator(rng, draw_link(rng), make_app, boxes)


def chance_for_all(rng: random.Random) -> tuple[Simulator, frozenset[str]]:
    """A box that kills some connections, whatever is in them."""
    rate, kill, tls = rng.uniform(0.03, 0.7), rng.choice(KILLS), draw_tls(rng)

    def boxes() -> list[Box]:
        return [ContentBox(kill, lambda _: True)] if rng.random() < rate else []

    return _simulator(rng, lambda: TlsApp(tls, rng), boxes), frozenset(("F43",))


def chance_for_hybrid(rng: random.Random) -> tuple[Simulator, frozenset[str]]:
    """A box, or one of several paths, that kills some of the connections with 0x11EC in them."""
    rate, kill, tls = rng.uniform(0.1, 0.9), rng.choice(KILLS), draw_tls(rng)

    def dislikes(hello: ClientHello) -> bool:
        return HYBRID in hello.supported_groups

    def boxes() -> list[Box]:
        return [ContentBox(kill, dislikes)] if rng.random() < rate else []

    return _simulator(rng, lambda: TlsApp(tls, rng), boxes), frozenset(("F23", "F43"))


def dead_backend(rng: random.Random) -> tuple[Simulator, frozenset[str]]:
    """A balancer in front of two to four servers, one of which refuses all; in turn or by chance."""
    good, bad = draw_tls(rng), draw_tls(rng, refuses=lambda _: True, refusal=rng.choice(("alert:40", "reset", "close")))
    pool = [good] * rng.randint(1, 3) + [bad]
    turn, is_in_turn = itertools.cycle(pool), rng.random() < 0.5
    return _simulator(rng, lambda: TlsApp(next(turn) if is_in_turn else rng.choice(pool), rng), list), frozenset(
        ("F43",)
    )


def faulty_backend(rng: random.Random) -> tuple[Simulator, frozenset[str]]:
    """The same, and one has a fault of its own."""

    def dislikes_ml_dsa(hello: ClientHello) -> bool:
        return bool(ML_DSA & set(hello.signature_algorithms))

    expected, changes = rng.choice((("F24", {"refuses": dislikes_ml_dsa}), ("F01", {})))
    good, bad = draw_tls(rng), draw_tls(rng, refusal="reset", **changes)
    pool = [False] * rng.randint(1, 3) + [True]
    turn, is_in_turn = itertools.cycle(pool), rng.random() < 0.5

    def make_app() -> TlsApp:
        is_bad = next(turn) if is_in_turn else rng.choice(pool)
        app = TlsApp(bad if is_bad else good, rng)
        if is_bad and expected == "F01":
            app.reading, app.reaction = "once", "alert:50"
        return app

    return _simulator(rng, make_app, list), frozenset((expected, "F43"))


def mixed_pool(rng: random.Random) -> tuple[Simulator, frozenset[str]]:
    """Some servers have the hybrid, some do not: no fault."""
    new, old = draw_tls(rng, groups=(HYBRID, X25519, P256)), draw_tls(rng, groups=(X25519, P256))
    pool = [new] * rng.randint(1, 2) + [old] * rng.randint(1, 2)
    return _simulator(rng, lambda: TlsApp(rng.choice(pool), rng), list), frozenset()


UNSTEADY: dict[str, Callable[[random.Random], tuple[Simulator, frozenset[str]]]] = {
    "chance-for-all": chance_for_all,
    "chance-for-hybrid": chance_for_hybrid,
    "dead-backend": dead_backend,
    "faulty-backend": faulty_backend,
    "mixed-pool": mixed_pool,
}
