"""Entries F35 and F40: boxes that end connections themselves, or punish."""

from __future__ import annotations

from pqtls.faults.model import Fault, Remedy, Victim

MIDDLEBOXES = (
    Fault(
        id="F35",
        name="inspection-downgrade",
        kind="fault",
        sentence="a box on the way ends the TLS connection itself and answers with a classical one",
        what="TLS inspection makes a connection of its own on each side. Its own offer decides what is negotiated, and "
        "many boxes know classical groups only, or take post-quantum ones out on purpose. What protects the connection "
        "then is the box's choice, on both its sides.",
        signs="The answer is classical, and the certificate is made by a private authority for whatever name is asked "
        "for, even one made up a moment ago (E17).",
        where="inspecting-box",
        victims=(
            Victim("PAN-OS takes post-quantum algorithms out of the hello", "PAN-OS documentation"),
            Victim("Broadcom ProxySG failed until 7.3.22.1", "golang/go#70139, tldr.fail"),
            Victim("ZScaler, fixed September 2023", "tldr.fail"),
        ),
        remedies=(
            Remedy("Update the box to one that negotiates ML-KEM on both sides, or exempt this host from inspection."),
        ),
        confused_with=("F33", "F36"),
    ),
    Fault(
        id="F40",
        name="residual-block",
        kind="fault",
        sentence="after one failed handshake, every connection to this server is blocked for a while",
        what="An inspector remembers that it disliked a hello and blocks the pair of addresses for seconds to minutes. "
        "A client that falls back to a classical hello fails too, and the cause looks like something else.",
        signs="The small classical hello that passed before fails right after a failure, and passes again some time "
        "later (E22).",
        where="middlebox",
        victims=(Victim("an ISP's inspector: about two minutes", "LxBox#142"),),
        remedies=(
            Remedy("Have the inspector's rule lifted for this host; nothing at the client helps but another path."),
        ),
        confused_with=("F50",),
    ),
)
