"""Entries F13 to F19: segment sizes, MTUs and windows, broken ones and merely unusual ones."""

from __future__ import annotations

from pqtls.faults.model import Fault, Remedy, Victim
from pqtls.faults.receivers import CLASSICAL

SMALLER_SEGMENTS = Remedy(
    "Until it is fixed, make segments smaller here: lower the interface's MTU, or the route's with "
    "`ip route ... advmss`.",
    ("E8(1000)", "E8(536)"),
)

TRANSPORT = (
    Fault(
        id="F13",
        name="pmtu-blackhole-forward",
        kind="fault",
        sentence="packets towards the server above some size vanish without a word",
        what="A tunnel or link on the way carries smaller packets than the ends believe, and the message that would "
        "say so (ICMP fragmentation needed) is lost or filtered. Small hellos pass, a hybrid's first full segment "
        "never arrives.",
        signs="Big hellos time out with nothing acknowledged, hybrid or not (E5, E2); with a smaller TCP segment size "
        "they pass (E8). Nothing else is cured by that alone. Small hellos padded to one segment find the largest that "
        "passes, and so the real MTU (E18): 1420 is WireGuard's, 1492 PPPoE's.",
        where="tunnel-or-router",
        victims=(
            Victim(
                "Start9 StartTunnel over WireGuard; browsers failed, curl worked", "Start9Labs/start-os#3261, #3262"
            ),
            Victim("gluetun, which lowered its MTU to 1320", "qdm12/gluetun#1650, #2533"),
            Victim("vprox", "modal-labs/vprox PR 10"),
            Victim("pod-gateway", "angelnu/pod-gateway#33"),
        ),
        remedies=(
            Remedy(
                "Clamp the MSS on the tunnel's router (`tcp flags syn tcp option maxseg size set rt mtu` in nft, "
                "`-j TCPMSS --clamp-mss-to-pmtu` in iptables), lower the tunnel's MTU on both ends, or let ICMP type 3 "
                "code 4 (ICMPv6 type 2) through."
            ),
            SMALLER_SEGMENTS,
            Remedy("On Linux clients `net.ipv4.tcp_mtu_probing=1` recovers by itself after some seconds."),
            CLASSICAL,
        ),
        confused_with=("F15", "F19"),
        measured="Linux with tcp_mtu_probing=1 recovered after 3.1 s and 6 retransmissions (our lab).",
    ),
    Fault(
        id="F14",
        name="pmtu-blackhole-reverse",
        kind="fault",
        sentence="packets from the server above some size vanish without a word",
        what="As F13, the other way: the server's certificate, or its hybrid share of 1,120 bytes, fills a segment "
        "that never arrives. It is not special to post-quantum: bigger answers meet it first.",
        signs="Everything we sent is acknowledged and no byte in order comes back, while later segments arrive out of "
        "order. Announcing a smaller segment size cures it (E8).",
        where="return-path",
        victims=(Victim("the same tunnels as F13, seen from their other end", "Start9Labs/start-os#3308"),),
        remedies=(
            Remedy("Clamp the MSS, lower the MTU at the server's side, or let ICMP through to the server."),
            SMALLER_SEGMENTS,
        ),
        confused_with=("F15", "F19"),
    ),
    Fault(
        id="F16",
        name="low-pmtu",
        kind="cost",
        sentence="the path carries smaller packets than the ends first believe, and says so",
        what="WireGuard (1420), PPPoE (1492) or a 1280-byte tunnel with working ICMP. The first big packet is answered "
        "by a message with the right size and sent again: one round trip, once.",
        signs="Success, with the kernel's path MTU lowered and a segment or two sent again.",
        where="network-path",
        remedies=(Remedy("None needed. Clamping the MSS saves the round trip."),),
        confused_with=("F13",),
    ),
    Fault(
        id="F17",
        name="mss-clamped",
        kind="circumstance",
        sentence="something on the way lowers the segment size",
        what="A router rewrites the MSS option. Harmless, and a good answer to small MTUs; but a hello becomes two to "
        "four segments, which brings F01, F08 and F09 to light.",
        signs="The segment size towards the server is below the one that we announce, from the start.",
        where="network-path",
        confused_with=(),
    ),
    Fault(
        id="F18",
        name="small-first-window",
        kind="circumstance",
        sentence="the server's first window is smaller than a hello",
        what="A load balancer or SYN proxy announces a small window in its SYN-ACK. The hello leaves in two parts, one "
        "round trip apart, and its first segment is small, which brings F01, F08 and F09 to light.",
        signs="The window when the connection was made is smaller than the hello.",
        where="server-or-box-before-it",
        confused_with=("F06",),
    ),
    Fault(
        id="F19",
        name="oversize-packet-drop",
        kind="fault",
        sentence="something ends connections whose first packets towards the server are above some size",
        what="A filter goes by the length of packets, and takes a long first one for an attack. Where it drops all of "
        "them in silence it looks like a black hole (F13), and is named so; here it answers, or lets later ones pass. "
        "On a router with offloading it may measure several segments joined into one. No public report is known of a "
        "product.",
        signs="Full segments end in a reset or an alert with nothing acknowledged, hybrid or not (E2s, E5), and small "
        "cut hellos pass (E3); smaller segments pass (E8), unless joined ones are measured. Small hellos "
        "padded to one segment find the largest that passes (E18).",
        where="middlebox",
        remedies=(Remedy("Take the limit out of the filter's rules, or raise it above 1500 bytes."), SMALLER_SEGMENTS),
        confused_with=("F03", "F13"),
    ),
    Fault(
        id="F45",
        name="first-flight-overflow",
        kind="cost",
        sentence="the server's first flight does not fit its first congestion window",
        what="Servers send ten segments before they wait for an acknowledgement. A flight beyond that, through a long "
        "certificate chain, costs a round trip; a hybrid's share adds 1,088 bytes to it.",
        signs="Success; more than ten segments of flight, and a pause of a round trip within it.",
        where="server",
        remedies=(Remedy("Send a shorter certificate chain, without the root and with ECDSA keys."),),
        measured="20.6 ms at 14,480 bytes and 41.1 ms at 14,481, at a round trip of 20 ms (our lab).",
    ),
)
