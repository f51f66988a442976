"""One simulation for each class: parameters drawn where it can be seen, and the set that must come out.

The expected set is computed from the parameters: what can be told apart is decided here by what reaches this end of
the wire, not by asking the code under test.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.path.drawn_path import Case, any_version, draw_clamp, draw_link, draw_tls, make_case
from tests.path.servers_model import (
    ALL_HYBRIDS,
    FFDHE4096,
    HYBRID,
    HYBRID_P256,
    HYBRID_P384,
    P256,
    P384,
    TLS12,
    TLS13,
    X448,
    X25519,
    BigPacketBox,
    ContentBox,
    ContinuationBox,
    FirstFlightBox,
    NameBox,
    TlsApp,
    WholeRecordBox,
    is_grease,
)
from tests.path.wire_model import Box, Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pqtls.wire.client_hello import ClientHello

ML_DSA = {0x0904, 0x0905, 0x0906}
UNKNOWN = 0xFEFE


def _draw_reader(rng: random.Random, link: Link) -> tuple[str, float]:
    """What one read must have seen, and how long after the first bytes it is made.

    Where the first record or the name is enough, a quick reader may look like a box that judges the first segment (F08,
    F09): so it is slow enough to see what came without a pause.
    """
    needs = rng.choice(("hello", "hello", "record", "name"))
    wake_s = rng.uniform(0, 0.002)
    return needs, wake_s if needs == "hello" else wake_s + link.jitter_s + 0.001


def read_once(rng: random.Random) -> Case:
    """F01: one read. An alert says that it is a server's; a bare end does not."""
    reaction = rng.choice(("alert:40", "alert:50", "alert:80", "reset", "close"))
    link = draw_link(rng, clamp_bytes=draw_clamp(rng))
    needs, wake_s = _draw_reader(rng, link)

    def app(made: TlsApp) -> None:
        made.reading, made.reaction, made.wake_s, made.needs = "once", reaction, wake_s, needs

    expected = {"F01"} if reaction.startswith("alert") else {"F01", "F04"}
    return make_case(rng, expected, app=app, link=link, is_by_pause=None if needs == "name" else True)


def impatient_router(rng: random.Random) -> Case:
    """F04: the same at a proxy, which has no alert to send."""
    reaction = rng.choice(("reset", "close"))
    link = draw_link(rng, clamp_bytes=draw_clamp(rng))
    needs, wake_s = _draw_reader(rng, link)
    wake_s = 0.0 if needs == "hello" else wake_s

    def app(made: TlsApp) -> None:
        made.reading, made.reaction, made.wake_s, made.needs = "once", reaction, wake_s, needs

    return make_case(rng, {"F01", "F04"}, app=app, link=link, is_by_pause=None if needs == "name" else True)


def default_server(rng: random.Random) -> Case:
    """F02: one read, then the default server with its own certificate."""
    default = draw_tls(rng, certificate="default")

    def app(made: TlsApp) -> None:
        made.reading, made.wake_s, made.default_tls = "once", rng.uniform(0, 0.002), default

    return make_case(rng, {"F02"}, app=app)


def peek_buffer(rng: random.Random) -> Case:
    """F03: a buffer smaller than the hybrid hello, or one that only the biggest hello of --full does not fit."""
    is_full = rng.random() < 0.2
    size = rng.choice((2048, 4096, 5000)) if is_full else rng.choice((1024, 1500, rng.randint(560, 1690)))
    reaction = rng.choice(("close", "reset", "mute", "alert:40"))
    needs = rng.choice(("hello", "record"))

    def app(made: TlsApp) -> None:
        made.reading, made.peek_bytes, made.reaction, made.needs = "peek", size, reaction, needs

    link = draw_link(rng, clamp_bytes=draw_clamp(rng))
    return make_case(rng, {"F03"}, app=app, link=link, also={"F20"}, is_full=is_full, size_bytes=size)


def peek_buffer_once(rng: random.Random) -> Case:
    """F03: the same with one look only. What shows the buffer is a hello of one segment that does not fit."""
    link = draw_link(rng, clamp_bytes=draw_clamp(rng, 800))
    size = rng.randint(560, (link.clamp_bytes or 1400) - 100)
    reaction = rng.choice(("close", "reset", "mute", "alert:40"))
    needs = rng.choice(("hello", "record"))

    def app(made: TlsApp) -> None:
        made.reading, made.peek_bytes, made.reaction, made.needs = "peek-once", size, reaction, needs
        made.wake_s = link.jitter_s + 0.001

    return make_case(rng, {"F03"}, app=app, link=link, size_bytes=size)


def name_in_buffer(rng: random.Random) -> Case:
    """F03: the name must be within the buffer. Only hellos with the name behind the key shares show it."""
    size = rng.randint(560, 1400)
    reaction = rng.choice(("close", "reset", "mute", "alert:40"))

    def app(made: TlsApp) -> None:
        made.reading, made.peek_bytes, made.reaction, made.needs = "peek", size, reaction, "name"

    return make_case(
        rng, {"F03"}, app=app, link=draw_link(rng, clamp_bytes=draw_clamp(rng)), is_full=True, size_bytes=size
    )


def zero_window(rng: random.Random) -> Case:
    """F06: a receive buffer smaller than the hybrid hello, peeked into."""
    size, peeks_again = rng.randint(600, 1650), rng.random() < 0.5
    needs = rng.choice(("hello", "record"))

    def app(made: TlsApp) -> None:
        made.buffer_bytes, made.peeks_again, made.needs = size, peeks_again, needs

    return make_case(rng, {"F06"}, app=app)


def fragment_intolerant(rng: random.Random) -> Case:
    """F07: the first record must be the whole hello. Only the whole set tries that."""
    reaction = rng.choice(("alert:40", "alert:50", "reset", "close", "mute"))

    def app(made: TlsApp) -> None:
        made.reading, made.reaction = "first-record", reaction

    return make_case(rng, {"F07"}, app=app, is_full=True)


def whole_record(rng: random.Random) -> Case:
    """F08: the first segment must hold the whole first record."""
    kill = rng.choice(("reset", "drop", "close"))
    link = draw_link(rng, clamp_bytes=draw_clamp(rng))
    return make_case(rng, {"F08"}, link=link, boxes=lambda: [WholeRecordBox(kill)], is_by_pause=False, has_place=True)


def name_in_first(rng: random.Random) -> Case:
    """F09: the first segment must hold the name."""
    kill = rng.choice(("reset", "drop"))
    link = draw_link(rng, clamp_bytes=draw_clamp(rng))
    return make_case(rng, {"F09"}, link=link, boxes=lambda: [NameBox(kill)], has_place=True)


def continuation(rng: random.Random) -> Case:
    """F10: every packet must begin with a record."""
    kill = rng.choice(("reset", "drop", "close", "alert:40"))
    link = draw_link(rng, clamp_bytes=draw_clamp(rng))
    return make_case(rng, {"F10"}, link=link, boxes=lambda: [ContinuationBox(kill)])


def oversize(rng: random.Random) -> Case:
    """F19: packets above some size end the connection."""
    kill, limit = rng.choice(("reset", "close", "alert:40")), rng.randint(530, 1420)
    return make_case(rng, {"F19"}, boxes=lambda: [BigPacketBox(kill, limit)], size_bytes=limit, has_place=True)


def forward_hole(rng: random.Random) -> Case:
    """F13: from just above what 536-byte segments need to just below a full one."""
    hole = rng.randint(530, 1447)
    link = draw_link(rng, forward_hole_bytes=hole)
    return make_case(rng, {"F13"}, link=link, also={"F15", "F19"}, size_bytes=hole, has_place=True)


def hole_both_ways(rng: random.Random) -> Case:
    """F13: a tunnel too small in both directions; a classical answer fits, one with the hybrid's share may not."""
    hole = rng.randint(900, 1380)
    tls = draw_tls(rng, groups=(HYBRID, X25519, P256), flight_bytes=rng.randint(hole - 300, hole))
    link = draw_link(rng, forward_hole_bytes=hole, reverse_hole_bytes=hole)
    return make_case(rng, {"F13"}, link=link, tls=tls, also={"F15", "F19"}, has_place=True)


def reverse_hole(rng: random.Random) -> Case:
    """F14: the server's first segment never comes back, always or with the hybrid's share in it only."""
    hole = rng.randint(530, 1440)
    if rng.random() < 0.5:
        tls = draw_tls(rng, flight_bytes=rng.randint(hole + 1, 6000))
    else:
        # Without a retry of its own: then the hybrid's share comes only where it was asked for.
        flight = rng.randint(max(300, hole - 800), hole)
        tls = draw_tls(rng, groups=(HYBRID, X25519, P256), flight_bytes=flight)
    return make_case(rng, {"F14"}, link=draw_link(rng, reverse_hole_bytes=hole), tls=tls, also={"F15", "F19"})


def unknown_group(rng: random.Random) -> Case:
    """F22: aborts on what it does not know: in the list, among the shares, or where no share that it knows is beside.

    The hybrid is unknown to it; GREASE it may know. One that knows the hybrid, too, shows in the whole set alone.
    """
    place = rng.choice(("list", "shares", "lone share"))
    known = {X25519, P256, P384} | ({X448} if rng.random() < 0.5 else set())
    knows_grease, knows_hybrid = rng.random() < 0.5, place != "lone share" and rng.random() < 0.3

    def is_unknown(group: int) -> bool:
        return group not in known and not (is_grease(group) and knows_grease) and not (knows_hybrid and group == HYBRID)

    def refuses(hello: ClientHello) -> bool:
        shares = [share.group for share in hello.key_shares or ()]
        if place == "lone share":
            return bool(shares) and not set(shares) & known
        return any(map(is_unknown, shares if place == "shares" else hello.supported_groups))

    refusal = rng.choice(("alert:40", "alert:47", "alert:80", "reset", "close", "mute"))
    groups = tuple(group for group in (X25519, P256, P384, X448) if group in known)
    groups = (HYBRID, *groups) if knows_hybrid else groups
    tls = draw_tls(rng, groups=groups, refuses=refuses, refusal=refusal, retries_for_first=False)
    if place != "lone share" and not knows_hybrid:
        tls = any_version(rng, tls)
    return make_case(rng, {"F22"}, tls=tls, is_full=knows_hybrid)


def blocked_number(rng: random.Random) -> Case:
    """F23: acts on 0x11EC alone or on every hybrid's number, wherever it stands or among the shares only."""
    in_shares, blocked = rng.random() < 0.5, set(rng.choice(((HYBRID,), ALL_HYBRIDS)))
    kill = rng.choice(("reset", "drop", "close", "alert:47", "alert:40"))

    def dislikes(hello: ClientHello) -> bool:
        shares = [share.group for share in hello.key_shares or ()]
        return bool(blocked & set(shares if in_shares else hello.supported_groups))

    # A server that has the halves in the wrong order refuses the share with illegal_parameter too.
    expected = {"F23", "F31"} if in_shares and kill == "alert:47" else {"F23"}
    # Where none that names it gets through, nothing is known of what the server makes of it.
    tls = any_version(rng, draw_tls(rng))
    state = "tls12" if tls.max_version == TLS12 else "" if in_shares else "unknown"
    return make_case(rng, expected, tls=tls, boxes=lambda: [ContentBox(kill, dislikes)], has_place=True, state=state)


def ml_dsa(rng: random.Random) -> Case:
    """F24: ML-DSA in either extension."""
    extension = rng.choice((13, 50))
    kill = rng.choice(("reset", "drop", "close", "alert:40"))

    def dislikes(hello: ClientHello) -> bool:
        data = next((each.data for each in hello.extensions or () if each.extension_type == extension), b"")
        codes = {int.from_bytes(data[index : index + 2], "big") for index in range(2, len(data), 2)}
        return bool(codes & ML_DSA)

    tls, state = any_version(rng, draw_tls(rng)), ""
    if rng.random() < 0.2:
        # It takes the hybrid only where nothing else is named (E11); until then it looks classical.
        tls, state = replace(tls, groups=(X25519, HYBRID, P256), retries_for_first=True, max_version=TLS13), "supported"
    return make_case(rng, {"F24"}, tls=tls, boxes=lambda: [ContentBox(kill, dislikes)], has_place=True, state=state)


def grease(rng: random.Random) -> Case:
    """F25: GREASE in some field or fields."""
    looks: dict[str, Callable[[ClientHello], Iterable[int]]] = {
        "ciphers": lambda hello: hello.cipher_suites,
        "groups": lambda hello: hello.supported_groups,
        "extensions": lambda hello: [each.extension_type for each in hello.extensions or ()],
        "versions": lambda hello: hello.supported_versions,
        "signatures": lambda hello: hello.signature_algorithms,
    }
    fields = rng.sample(sorted(looks), rng.randint(1, 5))

    def refuses(hello: ClientHello) -> bool:
        return any(is_grease(code) for name in fields for code in looks[name](hello))

    refusal = rng.choice(("alert:40", "alert:47", "alert:50", "reset", "close", "mute"))
    return make_case(rng, {"F25"}, tls=any_version(rng, draw_tls(rng, refuses=refuses, refusal=refusal)))


def two_shares(rng: random.Random) -> Case:
    """F26: two shares of any kind, or of those that it counts; two hybrid or classical ones take the whole set."""
    counted: dict[str, Callable[[int], bool]] = {
        "any": lambda _: True,
        "no GREASE": lambda group: not is_grease(group),
        "known": lambda group: group in (HYBRID, *rarer, X25519, P256, P384),
        "hybrid": lambda group: group in ALL_HYBRIDS,
        "classical": lambda group: group in (X25519, P256, P384, X448, FFDHE4096),
        "mixed": lambda _: False,
    }
    which = rng.choice(sorted(counted))
    rarer = rng.choice(((), (HYBRID_P256, HYBRID_P384), (UNKNOWN,)))

    def refuses(hello: ClientHello) -> bool:
        shares = [share.group for share in hello.key_shares or ()]
        is_mixed = any(map(counted["hybrid"], shares)) and any(map(counted["classical"], shares))
        return sum(map(counted[which], shares)) > 1 or (which == "mixed" and is_mixed)

    refusal = rng.choice(("alert:40", "reset", "close"))
    tls = draw_tls(rng, refuses=refuses, refusal=refusal)
    # Two hybrid shares are never sent with TLS 1.2.
    tls = tls if which == "hybrid" else any_version(rng, tls)
    return make_case(rng, {"F26"}, tls=tls, is_full=which in ("hybrid", "classical"))


def broken_retry(rng: random.Random) -> Case:
    """F27: fails at or after its own retry, which only the whole set provokes for certain.

    Or only where the second hello is a hybrid's; or it asks for what it has.
    """
    faults = ("close", "alert:40", "alert:47", "reset", "no-echo", "no-retry", "needless", "big-second")
    fault = rng.choice(faults)
    tls = draw_tls(rng, retry_fault=fault)
    if fault == "big-second":
        tls = replace(tls, groups=(HYBRID, X25519, P256), refusal=rng.choice(("alert:50", "reset", "close", "mute")))
    return make_case(rng, {"F27"}, tls=tls, is_full=True)


def wrong_order(rng: random.Random) -> Case:
    """F31: halves of the share, or of the secret, in the wrong order; or a secret that is simply another.

    However the right order is refused, that the wrong one is taken is proof. The server may prefer classical groups.
    """
    fault = rng.choice(("swapped-share", "swapped-secret", "garbage"))
    groups = rng.choice(((HYBRID, X25519, P256, P384), (X25519, HYBRID, P256, P384)))
    refusal = rng.choice(("alert:40", "alert:47", "alert:50", "reset", "close", "mute"))
    # One that retries for a classical group over the hybrid's share never comes to use it.
    retries = groups[0] == HYBRID and rng.random() < 0.3
    tls = draw_tls(rng, groups=groups, hybrid_fault=fault, refusal=refusal, retries_for_first=retries)
    return make_case(rng, {"F31"}, tls=tls, also={"F37"} if fault == "garbage" else set())


def inspected(rng: random.Random) -> Case:
    """F35: a box that makes certificates to order and knows classical groups only."""
    tls = draw_tls(rng, groups=(X25519, P256, P384), mints=True, issuer="CN=Some Gateway CA", is_trusted=False)
    return make_case(rng, {"F35"}, tls=replace(tls, retries_for_first=False))


def penalty(rng: random.Random) -> Case:
    """F40: a box that kills, and blocks the client for some seconds after it."""
    return _penalty(rng, rng.uniform(3.0, 18.0), is_full=False)


def long_penalty(rng: random.Random) -> Case:
    """F40: for minutes, as an ISP's inspector does (LxBox#142). Only --full sees the end of that."""
    is_full = rng.random() < 0.3
    case = _penalty(rng, rng.uniform(70.0, 130.0), is_full=is_full)
    return case if is_full else replace(case, also=frozenset(("F50",)))


def _penalty(rng: random.Random, block_s: float, *, is_full: bool) -> Case:
    inner = rng.choice(("F08", "F23"))
    block_kind = rng.choice(("reset", "drop"))
    case = make_case(rng, {"F40"}, is_full=is_full)
    simulator = case.simulator

    def dislikes(hello: ClientHello) -> bool:
        return HYBRID in hello.supported_groups

    def make_boxes() -> list[Box]:
        box: FirstFlightBox = WholeRecordBox("reset") if inner == "F08" else ContentBox("reset", dislikes)

        def block() -> None:
            simulator.blocked_until_s = simulator.clock_s + block_s

        box.on_kill = block
        return [box]

    simulator.make_boxes = make_boxes
    simulator.block_kind = block_kind
    return replace(case, triggered_by=frozenset((inner,)), block_s=block_s)


def mixed_pool(rng: random.Random) -> Case:
    """F43: one of some servers is odd; they take turns, in one order or in another each round. --repeat counts."""
    by_turns = rng.random() < 0.5
    # By chance one of four can be met too seldom to be told from chance.
    servers = rng.randint(2, 4 if by_turns else 3)
    kind = rng.choice(("number", "once", "schemes", "big"))
    refusal = rng.choice(("alert:40", "reset", "close"))
    looks: dict[str, Callable[[ClientHello], bool]] = {
        "number": lambda hello: HYBRID in hello.supported_groups,
        "schemes": lambda hello: bool(set(hello.signature_algorithms) & ML_DSA),
    }
    groups = (HYBRID, X25519, P256)
    odd = draw_tls(rng, groups=groups, refuses=looks.get(kind), refusal=refusal)
    even = draw_tls(rng, groups=groups)
    case = make_case(rng, {"F43"})
    simulator = case.simulator
    turns = rng.sample(range(servers), servers)
    turn, number = 0, 0

    def connect() -> None:
        nonlocal turn, number
        if number % servers == 0 and not by_turns:
            rng.shuffle(turns)
        turn = turns[number % servers]
        number += 1

    def make_app() -> TlsApp:
        made = TlsApp(odd if turn == 0 else even, rng)
        if turn == 0 and kind in ("once", "big"):
            made.reading, made.reaction, made.peek_bytes = ("once" if kind == "once" else "peek"), refusal, 1024
        return made

    simulator.on_connect, simulator.make_app = connect, make_app
    return replace(case, repeats=24)


FAULTS: dict[str, Callable[[random.Random], Case]] = {
    "F01": read_once,
    "F02": default_server,
    "F03": peek_buffer,
    "F03-once": peek_buffer_once,
    "F03-name": name_in_buffer,
    "F04": impatient_router,
    "F06": zero_window,
    "F07": fragment_intolerant,
    "F08": whole_record,
    "F09": name_in_first,
    "F10": continuation,
    "F19": oversize,
    "F13": forward_hole,
    "F13-both": hole_both_ways,
    "F14": reverse_hole,
    "F22": unknown_group,
    "F23": blocked_number,
    "F24": ml_dsa,
    "F25": grease,
    "F26": two_shares,
    "F27": broken_retry,
    "F31": wrong_order,
    "F35": inspected,
    "F40": penalty,
    "F40-long": long_penalty,
    "F43": mixed_pool,
}
