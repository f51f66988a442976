"""Entries F22 to F34 and F46: what is offered, and what is made of it."""

from __future__ import annotations

from pqtls.faults.model import Fault, Remedy, Victim
from pqtls.faults.receivers import BY_RETRY, CLASSICAL, OTHER_HYBRID

NEGOTIATION = (
    Fault(
        id="F22",
        name="unknown-group-intolerant",
        kind="fault",
        sentence="any key exchange group that the receiver does not know makes the handshake fail",
        what="The receiver aborts on a group it has not heard of, in the list of groups or among the key shares; it "
        "may know GREASE. Or it aborts only where no share that it knows is beside, in place of asking for one. TLS "
        "demands that unknown groups are ignored.",
        signs="A made-up private group fails as the hybrid does (E14), in one segment. Big classical hellos pass (E2). "
        "Where only a lone share is the trouble, every hybrid's fails alone (E10, E10p), passes beside x25519's (E5), "
        "and a hello without shares is answered by a retry (E12).",
        where="server-or-box-before-it",
        victims=(
            Victim("origins that fail on an unknown share instead of asking for a retry", "Cloudflare Radar"),
            Victim("OpenSSL: a brainpool id as a share gave internal_error", "openssl/openssl#28281"),
        ),
        remedies=(
            Remedy("Update the TLS library of the server, or of the box before it."),
            Remedy("Until it is fixed, send a share for x25519 beside the hybrid's.", ("E5",)),
            CLASSICAL,
        ),
        confused_with=("F23", "F25"),
        radar="unknownKeyshare",
    ),
    Fault(
        id="F23",
        name="pq-codepoint-block",
        kind="fault",
        sentence="the post-quantum group X25519MLKEM768 is blocked by its number",
        what="A policy, or a parser that knows the old draft only, acts on code point 0x11EC, or on those of all "
        "hybrids. Unknown groups of the same size pass.",
        signs="Where supported_groups is looked at, every hello that names X25519MLKEM768 fails, small or big. Where "
        "only key shares are, one that names it without a share passes (E9, E12), and the server may then choose it by "
        "a retry. A made-up group of the same size passes (E14), and so does a big classical hello (E2).",
        where="middlebox",
        victims=(
            Victim(
                "FortiGate deep inspection in flow mode: illegal_parameter, Chrome and Edge 131",
                "Fortinet community 357555",
            ),
            Victim("PAN-OS can detect, block and log post-quantum key exchange", "PAN-OS documentation"),
        ),
        remedies=(
            Remedy("Update the firewall (on FortiGate use proxy mode, or a newer IPS engine) or lift the policy."),
            OTHER_HYBRID,
            BY_RETRY,
            CLASSICAL,
        ),
        confused_with=("F22", "F31"),
    ),
    Fault(
        id="F24",
        name="sigalg-intolerant",
        kind="fault",
        sentence="ML-DSA among the signature algorithms makes the handshake fail",
        what="New clients announce ML-DSA in signature_algorithms or signature_algorithms_cert. An intrusion signature "
        "or a strict parser kills the connection for it. The hello is 12 bytes longer; size is not the cause.",
        signs="A small classical hello with ML-DSA fails, in signature_algorithms (E15) or only in "
        "signature_algorithms_cert (E15c); the hybrid without it passes (E5). The same client works with an older TLS "
        "library, and curl with another.",
        where="middlebox",
        victims=(
            Victim("Palo Alto IPS signature 58033 (for CVE-2020-1967), met by Go 1.27", "golang/go#79626"),
            Victim("Prisma Access, an F5 and Kaseya's edge", "golang/go#81199"),
            Victim("Go programs behind them", "grafana/mcp-grafana#1193, pgsty/silo#154"),
        ),
        remedies=(
            Remedy(
                "Update the inspector's signatures, or make an exception for the one that its log names (on PAN-OS "
                "threat ID 58033 in the vulnerability protection profile)."
            ),
            Remedy(
                "Until it is fixed, leave ML-DSA out of the client's signature algorithms (`SignatureAlgorithms` in "
                "openssl.cnf); key exchange stays post-quantum.",
                ("E5",),
            ),
        ),
        confused_with=(),
    ),
    Fault(
        id="F25",
        name="grease-intolerant",
        kind="fault",
        sentence="GREASE values, as every browser sends them, make the handshake fail",
        what="Browsers add meaningless values (RFC 8701) so that receivers learn to ignore what they do not know. "
        "This one does not. testssl.sh and TLS-Scanner look for it too; no public report names a product of today.",
        signs="A small classical hello with GREASE fails (E13), field by field to see which. The hybrid without "
        "GREASE passes (E5).",
        where="server-or-box-before-it",
        remedies=(
            Remedy("Update the server's TLS library, or the box before it."),
            Remedy("Until it is fixed, use a client without GREASE.", ("E5",)),
        ),
        confused_with=("F22",),
    ),
    Fault(
        id="F26",
        name="two-keyshare-intolerant",
        kind="fault",
        sentence="a ClientHello with two key shares is refused",
        what="Clients send a hybrid and a classical share together, to save a round trip with either kind of server. "
        "Some servers take one share only, or one post-quantum share only, or no post-quantum beside a classical one.",
        signs="Two shares fail, also two classical ones (E16c) or two hybrids (E16h); a hybrid share alone passes "
        "(E10). GREASE may be counted as a share or not (E13).",
        where="server",
        victims=(Victim("wolfSSL: two hybrid shares", "wolfSSL/wolfssl#10287"),),
        remedies=(
            Remedy("Update the server's TLS library."),
            Remedy("Until it is fixed, send the hybrid share alone.", ("E10",)),
            CLASSICAL,
        ),
        confused_with=("F22",),
    ),
    Fault(
        id="F27",
        name="hrr-broken",
        kind="fault",
        sentence="the server asks for another key share and then fails (HelloRetryRequest)",
        what="A HelloRetryRequest is how a server without the client's first choice asks for another. Here it does not "
        "work: the server closes after the second hello, or after one with a hybrid's share, or its request breaks the "
        "rules (no session id, a share that it has, a group that was not offered), or it aborts in place of it.",
        signs="Every hello that has to be answered by a retry fails, classical ones too (E12c, E12); only E12 where "
        "the second hello's size decides. Those whose share fits pass (E1, E5).",
        where="server",
        victims=(
            Victim("origins that send a retry and fail after the second hello", "Cloudflare Radar"),
            Victim("a server that leaves the session id out of its retry", "cloudflare/cfnts#64"),
            Victim("wolfSSL with DTLS", "wolfSSL/wolfssl#5813"),
        ),
        remedies=(
            Remedy("Update the server's TLS library."),
            Remedy(
                "Send a share for the server's own group in the first hello, so that no retry is needed.", ("E5", "E1")
            ),
        ),
        confused_with=("F28",),
        radar="hrrFailure",
    ),
    Fault(
        id="F30",
        name="draft-only",
        kind="state",
        sentence="the server knows the obsolete Kyber draft and not ML-KEM",
        what="The server speaks X25519Kyber768Draft00 (0x6399), which Chrome 131 and Go 1.24 dropped. Connections "
        "work and are silently classical.",
        signs="The hybrid is answered with x25519; a hello that lists the draft is answered by a retry for it (E24).",
        where="server",
        remedies=(Remedy("Update the server's TLS library to one with X25519MLKEM768 (RFC 10024)."),),
        confused_with=("F33",),
    ),
    Fault(
        id="F31",
        name="hybrid-encoding-mismatch",
        kind="fault",
        sentence="the server puts the two halves of the hybrid key exchange together in another order",
        what="X25519MLKEM768 has ML-KEM first, the P-256 and P-384 hybrids have it last. A server that mixes this up "
        "refuses the share, or derives another secret, and the handshake fails after its ServerHello.",
        signs="The hybrid share alone fails, with illegal_parameter, or after a ServerHello; naming the group without "
        "a share passes (E9). A share in the wrong order is taken (E31), or the records open with the secret swapped.",
        where="server",
        victims=(
            Victim("aioquic's first patch had the classical part first for all groups", "aiortc/aioquic PR 634"),
            Victim("s2n's draft groups had length prefixes", "aws/s2n-tls"),
        ),
        remedies=(Remedy("Update the server's TLS library."), OTHER_HYBRID, CLASSICAL),
        confused_with=("F37", "F23"),
    ),
    Fault(
        id="F33",
        name="classical-server",
        kind="state",
        sentence="the server chooses a classical group",
        what="It has no hybrid group, or prefers a classical one though it has. Nothing is broken.",
        signs="The hybrid is answered with x25519. Offered the hybrid share alone, a server that has it takes it "
        "(E10), one that lacks it asks for x25519.",
        where="server",
        remedies=(Remedy("Update the server, or put X25519MLKEM768 first among its groups."),),
        confused_with=("F35", "F30"),
    ),
    Fault(
        id="F34",
        name="tls12-server",
        kind="state",
        sentence="the server speaks TLS 1.2 only",
        what="Post-quantum key exchange exists in TLS 1.3 only. Nothing on the path is broken.",
        signs="Every hello is answered in TLS 1.2, without the mark of a server that could do more.",
        where="server",
        remedies=(Remedy("Turn on TLS 1.3 at the server."),),
        confused_with=("F36",),
    ),
    Fault(
        id="F46",
        name="retry-cost",
        kind="cost",
        sentence="the server asks for another key share first, which costs a round trip",
        what="The server's group is not the one the client sent a share for, so it asks again (HelloRetryRequest).",
        signs="Success after a retry.",
        where="server",
        remedies=(Remedy("Let client and server agree on X25519MLKEM768 as first choice."),),
    ),
)
