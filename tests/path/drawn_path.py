"""A drawn path with what must come out of it, and what every drawing has: an ordinary link, an ordinary server."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pqtls.path.plan import PlanOptions
from tests.path.servers_model import FFDHE4096, HYBRID, P256, P384, TLS12, X448, X25519, Tls, TlsApp
from tests.path.simulator import ADVMSS_IPV6, Simulator
from tests.path.wire_model import Box, Link

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Case:
    """One drawn path.

    Attributes:
        simulator: The path.
        expected: Ids of the faults that must be named, all of them and no other.
        also: Ids that must be among those that fit as well.
        triggered_by: The same of what sets a penalty off.
        is_full: The fault shows only in the whole set.
        repeats: What --repeat is given.
        state: Server state that must come out, "" for any.
        costs: Costs that must come out.
        size_bytes: The size up to which it passes, None where it is not about size.
        is_by_pause: Whether a pause decides, None where that is not looked for.
        has_place: It is done where the link says that boxes are; else at the server.
        block_s: How long a penalty lasts, 0 for none.
    """

    simulator: Simulator
    expected: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    triggered_by: frozenset[str] = frozenset()
    is_full: bool = False
    repeats: int = 0
    state: str = ""
    costs: frozenset[str] = field(default_factory=frozenset)
    size_bytes: int | None = None
    is_by_pause: bool | None = None
    has_place: bool = False
    block_s: float = 0.0

    @property
    def options(self) -> PlanOptions:
        """How it is examined."""
        return PlanOptions(is_full=self.is_full, repeats=self.repeats, can_limit_hops=True)


def draw_link(rng: random.Random, **changes: Any) -> Link:
    """An ordinary path: 2 to 80 ms, a little jitter; no loss, so that what is lost has one cause. Some routers."""
    rtt_s = rng.uniform(0.002, 0.08)
    hops = rng.randint(1, 20)
    deaf = tuple(hop for hop in range(1, hops) if rng.random() < 0.15)
    link = Link(rtt_s, jitter_s=rng.uniform(0, 0.1) * rtt_s, hops=hops, box_after=rng.randint(0, hops - 1), deaf=deaf)
    return replace(link, **changes)


def draw_tls(rng: random.Random, **changes: Any) -> Tls:
    """An ordinary server, with the hybrid or without."""
    groups: tuple[int, ...] = (X25519, P256, P384)
    if rng.random() < 0.7:
        groups = (HYBRID, *groups)
    if rng.random() < 0.5:
        groups = (*groups, X448)
        if rng.random() < 0.3:
            groups = (*groups, FFDHE4096)
    tls = Tls(
        groups=groups,
        flight_bytes=rng.randint(700, 6000),
        think_s=rng.uniform(0.0002, 0.02),
        retries_for_first=rng.random() < 0.3,
        is_trusted=rng.random() < 0.7,
    )
    return replace(tls, **changes)


def any_version(rng: random.Random, tls: Tls) -> Tls:
    """The same server; of TLS 1.2, at times."""
    return replace(tls, max_version=TLS12) if rng.random() < 0.25 else tls


def make_case(
    rng: random.Random,
    expected: set[str],
    *,
    link: Link | None = None,
    tls: Tls | None = None,
    app: Callable[[TlsApp], None] | None = None,
    boxes: Callable[[], list[Box]] = list,
    also: set[str] | None = None,
    is_full: bool = False,
    state: str = "",
    costs: set[str] | None = None,
    **truth: Any,
) -> Case:
    server = tls or draw_tls(rng)

    def make_app() -> TlsApp:
        made = TlsApp(server, rng)
        if app is not None:
            app(made)
        return made

    simulator = Simulator(rng, link or draw_link(rng), make_app, boxes)
    limits = (simulator.link.forward_hole_bytes, simulator.link.reverse_hole_bytes, simulator.link.honest_bytes)
    # What is above IPv6's full segment shows with IPv4 only.
    simulator.is_ipv6 = rng.random() < 0.3 and all(limit is None or limit < ADVMSS_IPV6 for limit in limits)
    simulator.is_kernel_new = rng.random() < 0.5
    case = Case(simulator, frozenset(expected), frozenset(also or ()), state=state, costs=frozenset(costs or ()))
    return replace(case, is_full=is_full, **truth)


def draw_clamp(rng: random.Random, low: int = 600) -> int | None:
    return rng.choice((None, rng.randint(low, 1400)))
