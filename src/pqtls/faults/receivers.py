"""Entries F01 to F10: receivers and boxes that do not put a ClientHello together again."""

from __future__ import annotations

from pqtls.faults.model import Fault, Remedy, Victim

SMALLER_HELLO = Remedy(
    "Until it is fixed, send a hello that fits one segment: one hybrid share, TLS 1.3 only, few extensions.",
    ("E4", "E10"),
    is_one_segment=True,
)
RECORD_SPLIT = Remedy("Until it is fixed, cut the hello into TLS records that each fit a segment.", ("E7",))
OTHER_HYBRID = Remedy(
    "Until it is fixed, offer SecP256r1MLKEM768 in place of X25519MLKEM768, which stays post-quantum.",
    ("E10p",),
    is_post_quantum=True,
)
BY_RETRY = Remedy(
    "Until it is fixed, name X25519MLKEM768 in the first hello without a share for it, so that the server asks for it "
    "by a retry, which stays post-quantum; where the server takes a classical share instead, send none at first.",
    ("E9", "E12"),
    is_post_quantum=True,
)
CLASSICAL = Remedy("As a last resort offer x25519 alone to this host, which gives up post-quantum.", ("E1",))

RECEIVERS = (
    Fault(
        id="F01",
        name="read-once-server",
        kind="fault",
        sentence="the server reads the ClientHello once and fails if it has not all arrived by then",
        what="The receiver calls read once, takes what came for the whole hello, and gives up on a part. A hybrid "
        "hello needs two segments, so it fails whenever the second one is late. On fast paths it often passes.",
        signs="A small classical hello cut in two with a pause fails (E3), and the answer comes before the second "
        "half is sent: in a capture the alert or the reset follows the first segment. The hybrid in one segment passes "
        "(E4). Without the pause it may pass (E3(0)); how long a pause it takes is looked for (E19).",
        where="server-or-box-before-it",
        victims=(
            Victim("Vercel, August 2023", "tldr.fail"),
            Victim("Lightspeed Rocket, July 2024", "tldr.fail"),
            Victim("Cisco CSCwj82736, April 2024", "tldr.fail"),
            Victim(
                "Apache Traffic Server 8.x to 10.x as a blind tunnel, fixed June 2025", "apache/trafficserver#11758"
            ),
            Victim("sniproxy by mosajjal", "mosajjal/sniproxy PR 181"),
            Victim("vesvault/snif relay: decode_error with OpenSSL 3", "vesvault/snif"),
        ),
        remedies=(
            Remedy("Update the server, or make it read until the ClientHello's stated length has come."),
            SMALLER_HELLO,
            CLASSICAL,
        ),
        confused_with=("F04", "F43"),
        radar="splitClientHello",
    ),
    Fault(
        id="F02",
        name="read-once-sni-router",
        kind="fault",
        sentence="a router by server name sends connections to its default server when the hello comes in parts",
        what="A TLS router reads once to find the server name. If it is not there yet, it does not fail: it picks its "
        "default server, which answers with another certificate. Clients then see a wrong certificate, now and then.",
        signs="The cut hello (E3) gets another certificate than the whole one (E1), and a hello without any name "
        "(E17) gets that same one.",
        where="middlebox",
        victims=(
            Victim(
                "ingress-nginx with ssl-passthrough; about 5 % of GitHub's webhooks", "kubernetes/ingress-nginx#11424"
            ),
            Victim("ingress-nginx with ssl-passthrough, two more reports", "kubernetes/ingress-nginx#11491, #10454"),
        ),
        remedies=(
            Remedy(
                "Make the router read on until the hello is complete; for ingress-nginx, do not use ssl-passthrough."
            ),
            SMALLER_HELLO,
            CLASSICAL,
        ),
        confused_with=("F01", "F43"),
        radar="splitClientHello",
    ),
    Fault(
        id="F03",
        name="fixed-peek-buffer",
        kind="fault",
        sentence="something looks at the ClientHello through a buffer that it does not fit into",
        what="A proxy or router peeks at the hello into a buffer of fixed size. Bigger hellos never fit, however they "
        "are cut.",
        signs="Every hello above one size fails and every smaller one passes, post-quantum or not, and smaller "
        "segments do not help. Halving what lies between finds the threshold to the byte (E18), and that is the "
        "buffer: 1024, 1500, 2048 bytes. Buffers of 4096 bytes take today's hellos; --full sends one of 5,500 bytes "
        "(E2(5500)).",
        where="server-or-box-before-it",
        victims=(
            Victim("sslsplit, 1024 bytes", "droe/sslsplit PR 342", 1024),
            Victim("SSLproxy, 2048 bytes", "sonertari/SSLproxy", 2048),
            Victim("fabio, 1024 bytes", "fabiolb/fabio PR 423", 1024),
            Victim("inetaf/tcpproxy, 4096 bytes; an Envoy hello had 5476", "inetaf/tcpproxy#40", 4096),
            Victim("Traefik, 4096 bytes before PR 8194", "traefik/traefik PR 8194, PR 12638", 4096),
            Victim("caddy-l4, 8 KB before PR 346", "mholt/caddy-l4 PR 346", 8192),
        ),
        remedies=(
            Remedy("Raise the buffer to at least 16,384 bytes, or update the proxy."),
            Remedy("Until it is fixed, send a hello below the threshold.", ("E4", "E10")),
            CLASSICAL,
        ),
        confused_with=("F05", "F20"),
    ),
    Fault(
        id="F04",
        name="impatient-sni-router",
        kind="fault",
        sentence="a router by server name decides before the ClientHello has all arrived",
        what="A proxy applies its rule on the server name to what has come so far, and rejects what it cannot read "
        "yet. HAProxy does so without `tcp-request inspect-delay`.",
        signs="As F01, with a close or a reset in place of an alert.",
        where="server-or-box-before-it",
        victims=(
            Victim("HAProxy: 3 to 10 % of connections of OpenSSL 3.5 clients", "haproxy/haproxy#3148"),
            Victim("HAProxy again, seen by an OpenSSL 3.5 client", "openssl/openssl discussion 28729"),
        ),
        remedies=(
            Remedy(
                "In HAProxy add `tcp-request inspect-delay 5s` and `tcp-request content accept if "
                "{ req.ssl_hello_type 1 }` before any rule that uses req.ssl_sni."
            ),
            SMALLER_HELLO,
            CLASSICAL,
        ),
        confused_with=("F01", "F43"),
        radar="splitClientHello",
    ),
    Fault(
        id="F06",
        name="zero-window-peek",
        kind="fault",
        sentence="the receiver's buffer fills before the hello is complete, and it waits for the rest for ever",
        what="A listener peeks at the hello without taking it out of a receive buffer that is smaller than the hello. "
        "The TCP window closes and both sides wait.",
        signs="The bigger hello times out with the peer's window at 0 and nothing sent again. Small ones pass, cut or "
        "not.",
        where="server-or-box-before-it",
        victims=(Victim("Envoy with a 4096-byte receive buffer, met by Chrome 124", "envoyproxy/envoy#33850"),),
        remedies=(
            Remedy("Raise the listener's receive buffer (net.ipv4.tcp_rmem, SO_RCVBUF) above the size of any hello."),
            SMALLER_HELLO,
            CLASSICAL,
        ),
        confused_with=("F05",),
    ),
    Fault(
        id="F07",
        name="record-fragment-intolerant",
        kind="fault",
        sentence="a ClientHello that spans two TLS records, as usual clients never send it, is refused",
        what="The receiver takes the first record for the whole hello. TLS allows a message to span records; usual "
        "clients never do it with a hello, so this hurts those who cut records to get around other faults.",
        signs="Only hellos in two records fail (E7, E7b, E7d), also a small classical one in one segment.",
        where="server-or-box-before-it",
        victims=(
            Victim("wolfSSL 5.8.0", "wolfSSL/wolfssl#8754"),
            Victim("Mbed TLS", "Mbed-TLS/mbedtls#9269"),
            Victim("mtg", "9seconds/mtg PR 431"),
            Victim("caddy-l4", "mholt/caddy-l4 PR 346"),
            Victim("sniproxy by dlundquist: a fixed alert 40", "its source"),
        ),
        remedies=(
            Remedy("Update the receiver. Do not use record splitting against this host."),
            Remedy("Send the hello in one record.", ("E5", "E4", "E1")),
        ),
        confused_with=(),
    ),
    Fault(
        id="F08",
        name="whole-record-in-first-segment",
        kind="fault",
        sentence="something demands that the first TLS record arrives whole in the first segment",
        what="A packet inspector compares the record's stated length with the first segment and kills the connection "
        "if it does not fit. It does not put segments together.",
        signs="A cut hello fails at any pause (E3), also without one (E3(0)). The hybrid in one segment passes (E4), "
        "and so does the big one in two records of a segment each (E7).",
        where="middlebox",
        victims=(
            Victim("an ISP's inspector, 2026: record cuts pass, segment cuts do not", "LxBox#142"),
            Victim("users behind an AWS firewall: the second hello after a retry is let through", "tldr.fail#23"),
        ),
        remedies=(
            Remedy("Have the firewall's stream reassembly turned on, or this host exempted from inspection."),
            RECORD_SPLIT,
            SMALLER_HELLO,
            CLASSICAL,
        ),
        confused_with=("F10",),
        radar="splitClientHello",
    ),
    Fault(
        id="F09",
        name="sni-in-first-segment",
        kind="fault",
        sentence="something demands the server name in the first segment",
        what="A filter by host name looks at the first data packet only. If the name comes later, as it does when "
        "a browser puts its key share before it, the connection is dropped or reset. Browsers shuffle their "
        "extensions, so there it comes and goes.",
        signs="The outcome flips with the place of the name: cut before it fails, cut after it passes (E3); name first "
        "passes (E5), name last fails (E6).",
        where="middlebox",
        victims=(
            Victim("AWS Network Firewall with aws:drop_established and a rule on tls.sni", "AWS sample README"),
            Victim("lunatik's sni.lua, met by Chrome", "luainkernel/lunatik#193"),
            Victim("PAN-OS 9.1.12 and later deny truncated hellos", "PAN-OS: debug proxy discard-partial-client-hello"),
        ),
        remedies=(
            Remedy("On AWS Network Firewall use aws:drop_established_app_layer; elsewhere turn on stream reassembly."),
            Remedy("Until it is fixed, put the server name first in the hello.", ("E5",)),
            SMALLER_HELLO,
            CLASSICAL,
        ),
        confused_with=("F39",),
    ),
    Fault(
        id="F10",
        name="continuation-segment-drop",
        kind="fault",
        sentence="something lets only packets pass that begin with a TLS record",
        what="A filter without a memory checks that every packet on the port looks like TLS, and takes each packet by "
        "itself. The second segment of a hello begins in the middle of a record, so it is dropped or answered by a "
        "reset. No public report is known of a product that does just this.",
        signs="A cut hello fails at any pause, after the second part was sent and with only the first acknowledged "
        "(E3, E3(0)). The hybrid in one segment passes (E4), and so does the big one in two records of a segment each "
        "(E7). What fails at the first part is F08.",
        where="middlebox",
        remedies=(
            Remedy("Have the filter follow the stream, or take the check for TLS off this host."),
            RECORD_SPLIT,
            SMALLER_HELLO,
            CLASSICAL,
        ),
        confused_with=("F08", "F11"),
        radar="splitClientHello",
    ),
)
