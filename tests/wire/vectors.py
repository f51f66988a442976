"""The real handshakes under vectors/, and what each must come out as; made by make_vectors.py."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pqtls.wire.facts import Handshake, Side
from pqtls.wire.tracker import HandshakeTracker

_FOLDER = Path(__file__).parent / "vectors"

# name: (verdict, reason, group chosen, ClientHellos, retry, complete)
EXPECTED: dict[str, tuple[str, str, int | None, int, bool, bool]] = {
    "hybrid": ("post-quantum", "negotiated-hybrid", 0x11EC, 1, False, True),
    "hybrid-after-retry": ("post-quantum", "negotiated-hybrid", 0x11EC, 2, True, True),
    "classical-chosen": ("not-post-quantum", "server-chose-classical", 0x001D, 1, False, True),
    "classical-only": ("not-post-quantum", "not-offered", 0x001D, 1, False, True),
    "secp256r1": ("not-post-quantum", "not-offered", 0x0017, 1, False, True),
    "secp256r1mlkem768": ("post-quantum", "negotiated-hybrid", 0x11EB, 1, False, True),
    "secp384r1mlkem1024": ("post-quantum", "negotiated-hybrid", 0x11ED, 1, False, True),
    "mlkem1024": ("post-quantum", "negotiated-pure", 0x0202, 1, False, True),
    "sha256-suite": ("post-quantum", "negotiated-hybrid", 0x11EC, 1, False, True),
    "tls12-ecdhe": ("not-post-quantum", "tls12", None, 1, False, True),
    "tls12-dhe": ("not-post-quantum", "tls12", None, 1, False, True),
    "tls12-rsa": ("not-post-quantum", "tls12", None, 1, False, True),
    "tls12-resumed": ("not-post-quantum", "tls12", None, 1, False, True),
    "resumed": ("post-quantum", "negotiated-hybrid", 0x11EC, 1, False, True),
    "certificate-refused": ("inconclusive", "handshake-failed", 0x11EC, 1, False, False),
    "client-certificate": ("post-quantum", "negotiated-hybrid", 0x11EC, 1, False, True),
    "no-common-group": ("inconclusive", "alert", None, 1, False, False),
    "not-offered-3.0": ("not-post-quantum", "not-offered", 0x001D, 1, False, True),
}


@dataclass(frozen=True)
class Vector:
    """One real handshake: its flights in order, and the messages that each side's callback saw."""

    name: str
    openssl: str
    flights: tuple[tuple[Side, bytes], ...]
    messages: dict[Side, tuple[tuple[Side, int, int, bytes | None], ...]]

    def track(self, pieces: list[tuple[Side, bytes]] | None = None) -> Handshake:
        tracker = HandshakeTracker()
        for side, data in self.flights if pieces is None else pieces:
            tracker.receive_data(side, data)
        handshake = tracker.handshake
        assert handshake is not None
        return handshake

    def track_messages(self, seen_by: Side) -> Handshake:
        tracker = HandshakeTracker()
        for sender, content, kind, data in self.messages[seen_by]:
            if data is None:
                tracker.receive_message_type(sender, kind)
            else:
                tracker.receive_message(sender, content, data, records=1)
        handshake = tracker.handshake
        assert handshake is not None
        return handshake


@cache
def load(name: str) -> Vector:
    values = json.loads((_FOLDER / f"{name}.json").read_text())
    return Vector(
        values["name"],
        values["openssl"],
        tuple((Side(side), bytes.fromhex(data)) for side, data in values["flights"]),
        {
            Side(side): tuple(
                (Side(sender), content, kind, None if data is None else bytes.fromhex(data))
                for sender, content, kind, data in messages
            )
            for side, messages in values["messages"].items()
        },
    )
