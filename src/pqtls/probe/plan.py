"""From an experiment to the bytes to send: which hello, in which records, in which writes. No network, no clock."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pqtls.probe.model import SendPlan, Sent
from pqtls.wire import codepoints as cp
from pqtls.wire.extensions import Extension, KeyShareEntry
from pqtls.wire.hello_builder import (
    COMPACT_CIPHERS,
    COMPACT_SCHEMES,
    ML_DSA_SCHEMES,
    USUAL_CIPHERS,
    USUAL_SCHEMES,
    BuiltHello,
    HelloRecipe,
    build_message,
    frame_message,
)
from pqtls.wire.records import HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pqtls.probe.keys import KeyPair
    from pqtls.probe.model import Experiment, HelloPlan, TcpFacts

USUAL_MSS_BYTES, USUAL_MSS_BYTES_IPV6 = 1448, 1428
TIMESTAMPS_BYTES = 12
# Sent before a second hello for middleboxes' sake (RFC 9846 appendix D.4).
CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"
_MIN_CIPHERS_TLS13 = 3


@dataclass(frozen=True, slots=True)
class Ready:
    """A hello ready to send.

    Attributes:
        recipe: What it was made from; a second hello after a retry is made from it too.
        keys: Key pairs of its shares, by group.
        hello: Its bytes and landmarks.
        writes: The same bytes as they are to be written, in order.
        sent: What is told of it.
    """

    recipe: HelloRecipe
    keys: dict[int, KeyPair]
    hello: BuiltHello
    writes: tuple[bytes, ...]
    sent: Sent


def prepare(
    experiment: Experiment,
    server_name: str | None,
    make_keys: Callable[[int], KeyPair],
    random_bytes: Callable[[int], bytes],
    tcp: TcpFacts | None,
    usual_mss_bytes: int = USUAL_MSS_BYTES,
) -> Ready:
    """Build the hello of an experiment.

    Args:
        experiment: One that sends a hello.
        server_name: The target's name; None for an address.
        make_keys: Makes the key pair of a group.
        random_bytes: Source of randomness.
        tcp: Facts of the connection just made, None where the platform has none.
        usual_mss_bytes: Payload of a full segment on Ethernet, where the connection's own is not known or is huge.

    Raises:
        ValueError: The experiment sends nothing.
    """
    plan = experiment.hello
    if plan is None:
        raise ValueError(f"{experiment.id} sends no hello")
    mss_bytes = tcp.snd_mss if tcp is not None else None
    grease = _Grease(random_bytes)
    groups = ((grease.next(),) if "groups" in plan.grease else ()) + plan.groups
    greased_share = groups[:1] if "groups" in plan.grease else ()
    keys = {group: make_keys(group) for group in (*greased_share, *plan.shares)}
    recipe = _make_recipe(plan, _choose_name(plan, server_name, random_bytes), groups, keys, grease, random_bytes)
    size_bytes = _choose_padding(plan, mss_bytes, usual_mss_bytes)
    recipe = replace(recipe, padded_to_bytes=size_bytes)
    if plan.padded_to in ("segment", "segment+1") and recipe.padded_to_bytes is not None:
        recipe = replace(recipe, padded_to_bytes=max(recipe.padded_to_bytes, 517))
    ready = finish(recipe, keys, plan, experiment.send, tcp)
    asked_bytes = experiment.send.max_segment_bytes
    if asked_bytes is not None:
        usual_mss_bytes = min(usual_mss_bytes, asked_bytes - TIMESTAMPS_BYTES)
    return replace(ready, sent=replace(ready.sent, usual_mss_bytes=usual_mss_bytes))


def finish(
    recipe: HelloRecipe,
    keys: dict[int, KeyPair],
    plan: HelloPlan,
    send: SendPlan,
    tcp: TcpFacts | None,
    version: int = cp.TLS10,
) -> Ready:
    """Build a recipe and cut it.

    Args:
        recipe: The recipe.
        keys: Key pairs of its shares.
        plan: The plan it came from, for what is told of it.
        send: How to cut it.
        tcp: Facts of the connection.
        version: legacy_record_version.
    """
    message = build_message(recipe)
    record_cut = len(message) // 2 if send.record_cut == "half" else send.record_cut
    hello = frame_message(message, () if record_cut is None else (record_cut,), version)
    cut = _find_cut(hello, send)
    writes = (hello.stream,) if cut is None else (hello.stream[:cut], hello.stream[cut:])
    sent = Sent(
        size_bytes=len(hello.stream),
        write_ends=(len(hello.stream),) if cut is None else (cut, len(hello.stream)),
        pause_s=send.pause_s,
        record_ends=hello.record_ends,
        name_start=hello.name_start,
        name_end=hello.name_end,
        groups=recipe.groups,
        shares=tuple(share.group for share in recipe.shares or ()),
        schemes=recipe.signature_algorithms,
        certificate_schemes=recipe.signature_algorithms_cert,
        grease=plan.grease,
        sha256=hashlib.sha256(hello.stream).hexdigest(),
        mss_bytes=None if tcp is None else tcp.snd_mss,
        window_bytes=None if tcp is None else tcp.snd_wnd,
        is_swapped=plan.is_swapped,
    )
    return Ready(recipe, keys, hello, writes, sent)


def prepare_second(
    first: Ready, plan: HelloPlan, keys: dict[int, KeyPair], cookie: bytes | None, tcp: TcpFacts | None
) -> Ready:
    """Build the second hello, after a retry: the same but for its share, the cookie and the padding.

    Args:
        first: The first hello.
        plan: The plan of both.
        keys: The one key pair that the retry asks for; none if it asks for none.
        cookie: The retry's cookie, None without one.
        tcp: Facts of the connection.
    """
    shares = first.recipe.shares
    if keys:
        shares = tuple(KeyShareEntry(group, pair.share) for group, pair in keys.items())
    recipe = replace(
        first.recipe,
        shares=shares,
        cookie=cookie,
        padded_to_bytes=plan.second_padded_to if plan.second_padded_to is not None else first.recipe.padded_to_bytes,
    )
    # The cuts are the first hello's subject; the second leaves as the kernel likes it.
    ready = finish(recipe, keys or first.keys, plan, SendPlan(), tcp, cp.TLS12)
    of_first = first.sent
    sent = replace(
        _moved(ready.sent),
        mss_bytes=of_first.mss_bytes,
        usual_mss_bytes=of_first.usual_mss_bytes,
        is_relayed=of_first.is_relayed,
    )
    return replace(ready, writes=(CHANGE_CIPHER_SPEC + ready.hello.stream,), sent=sent)


def _moved(sent: Sent) -> Sent:
    """Return what is told of a second hello: the change_cipher_spec before it goes into the same segment."""
    by = len(CHANGE_CIPHER_SPEC)
    return replace(
        sent,
        size_bytes=sent.size_bytes + by,
        write_ends=tuple(end + by for end in sent.write_ends),
        record_ends=tuple(end + by for end in sent.record_ends),
        name_start=None if sent.name_start is None else sent.name_start + by,
        name_end=None if sent.name_end is None else sent.name_end + by,
    )


class _Grease:
    """GREASE values of one connection, each another one."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._next = random_bytes(1)[0] & 0x0F

    def next(self) -> int:
        byte = self._next << 4 | 0x0A
        self._next = self._next + 1 & 0x0F
        return byte << 8 | byte


def _make_recipe(
    plan: HelloPlan,
    name: str | None,
    groups: tuple[int, ...],
    keys: dict[int, KeyPair],
    grease: _Grease,
    random_bytes: Callable[[int], bytes],
) -> HelloRecipe:
    def greased(field: str) -> tuple[int, ...]:
        return (grease.next(),) if field in plan.grease else ()

    is_tls13_only = plan.versions == (cp.TLS13,)
    ciphers: tuple[int, ...] = COMPACT_CIPHERS if plan.is_compact or is_tls13_only else USUAL_CIPHERS
    if cp.TLS13 not in plan.versions:
        ciphers = USUAL_CIPHERS[_MIN_CIPHERS_TLS13:]
    schemes: tuple[int, ...] = COMPACT_SCHEMES if plan.is_compact else USUAL_SCHEMES
    if plan.ml_dsa != "none":
        schemes = (*ML_DSA_SCHEMES, *schemes)
    extras = tuple(Extension(code, b"") for code in greased("extensions"))
    return HelloRecipe(
        random=random_bytes(32),
        session_id=random_bytes(32),
        server_name=name,
        versions=greased("versions") + plan.versions,
        cipher_suites=greased("ciphers") + ciphers,
        groups=groups,
        shares=tuple(KeyShareEntry(group, pair.share) for group, pair in keys.items())
        if cp.TLS13 in plan.versions
        else None,
        signature_algorithms=greased("signatures") + schemes,
        signature_algorithms_cert=schemes if plan.ml_dsa == "signatures-and-certificates" else None,
        extra_extensions=extras,
        has_usual_extensions=not plan.is_compact,
        is_name_last=plan.is_name_last,
    )


def _choose_name(plan: HelloPlan, server_name: str | None, random_bytes: Callable[[int], bytes]) -> str | None:
    if plan.name == "none":
        return None
    # .invalid never resolves and no public authority issues for it (RFC 6761): a certificate for it is made to order.
    return f"pqtls-{random_bytes(5).hex()}.invalid" if plan.name == "other" else server_name


def _choose_padding(plan: HelloPlan, mss_bytes: int | None, usual_mss_bytes: int) -> int | None:
    # Loopback's segments are bigger than any hello; there, a usual segment's size has to do.
    mss_bytes = min(mss_bytes or usual_mss_bytes, usual_mss_bytes)
    if plan.padded_to == "segment":
        return mss_bytes
    return mss_bytes + 1 if plan.padded_to == "segment+1" else plan.padded_to


def _find_cut(hello: BuiltHello, send: SendPlan) -> int | None:
    """Return where the second write starts; None for one write, also where there is nothing to cut at."""
    size_bytes = len(hello.stream)
    places = {
        "half": size_bytes // 2,
        "record": hello.record_ends[0],
        "last-byte": size_bytes - 1,
        "before-name": hello.name_start,
        "inside-name": None if hello.name_start is None or hello.name_end is None else _middle(hello),
        "after-name": hello.name_end,
    }
    cut = places[send.cut] if isinstance(send.cut, str) else send.cut
    if cut is None:
        cut = None if send.cut is None else size_bytes // 2
    return cut if cut is not None and HEADER_BYTES - 4 <= cut < size_bytes else None


def _middle(hello: BuiltHello) -> int:
    return ((hello.name_start or 0) + (hello.name_end or 0)) // 2
