"""Entries F35, F40 and F43: boxes that end connections themselves, or punish; several behind one address."""

from __future__ import annotations

from pqtls.faults.model import Fault, Remedy, Victim
from pqtls.faults.receivers import CLASSICAL

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
        "later (E22). How long it lasts is read from several blocks, each looked at half-way between what is known of "
        "its length.",
        where="middlebox",
        victims=(Victim("an ISP's inspector: about two minutes", "LxBox#142"),),
        remedies=(
            Remedy("Have the inspector's rule lifted for this host; nothing at the client helps but another path."),
        ),
        confused_with=("F50",),
    ),
    Fault(
        id="F43",
        name="mixed-pool",
        kind="fault",
        sentence="the same hello fails at times and gets through at others, whatever the pause between its parts",
        what="Several servers, boxes or routes stand behind one address and take turns; some of them break the "
        "handshake, the others do not. A balancer or the ports decide which one a connection meets, so that clients "
        "see a part of their connections fail, and a retry help. Two other classes come and go as well: F04 by timing "
        "(haproxy/haproxy#3148), and F09 because browsers shuffle their extensions (luainkernel/lunatik#193). No "
        "public report is known of a pool with one odd server.",
        signs="An experiment both fails and gets through when it is repeated (E20), while the control never fails; cut "
        "hellos with a pause do not fail each time, as they would at a receiver that reads once (E3). How often is "
        "counted, with the interval in which the rate lies.",
        where="server-or-box-before-it",
        remedies=(
            Remedy(
                "Find the odd one: examine each server of the pool by its own address, compare versions and settings "
                "of those that fail with the others."
            ),
            Remedy("Until it is fixed, try again on a new connection, which may meet another server."),
            CLASSICAL,
        ),
        confused_with=("F01", "F04", "F12"),
    ),
)
