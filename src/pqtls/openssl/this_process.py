"""Which OpenSSL this very process uses, and what a handshake with itself, in memory, just negotiated."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pqtls.errors import CannotProveError
from pqtls.evidence import judge
from pqtls.openssl.environment import is_graft_folder
from pqtls.openssl.probe_child import HOST, PUBLIC_TEST_CERTIFICATE, PUBLIC_TEST_PEM
from pqtls.wire.facts import Side
from pqtls.wire.groups import group_name
from pqtls.wire.tracker import HandshakeTracker

if TYPE_CHECKING:
    from pqtls.evidence import Finding

_ROUNDS = 10
"""A handshake in memory takes 3 with a retry; more would be a loop."""


@dataclass(frozen=True, slots=True)
class OpenSSLInfo:
    """What stands under this process's `ssl`.

    Attributes:
        version: ssl.OPENSSL_VERSION.
        way: "graft" where a library put there by pqtls is mapped, else "native" if the handshake was post-quantum,
            else "system".
        library: The mapped libssl; None if it is part of the interpreter.
        group: What the handshake in memory negotiated, such as "X25519MLKEM768"; "" for none.
        is_post_quantum: That handshake finished and was post-quantum. It tells what this process can do with itself,
            not what any server agrees to.
        offered_groups: Names of the groups that it offered, in order.
        explanation: What happened, as one sentence.
    """

    version: str
    way: Literal["native", "graft", "system"]
    library: Path | None
    group: str
    is_post_quantum: bool
    offered_groups: tuple[str, ...]
    explanation: str


def openssl_info() -> OpenSSLInfo:
    """Let this process shake hands with itself, and say which OpenSSL did it.

    Neither a recorder nor a guard sees that handshake: it is no connection.

    Returns:
        What was found.

    Raises:
        CannotProveError: This Python has no `ssl`.
    """
    try:
        import ssl
    except ImportError as error:
        raise CannotProveError(
            f"This Python has no `ssl` module ({error}).", "Use a Python that was built with OpenSSL."
        ) from error
    tracker = HandshakeTracker()
    try:
        failure = _shake_hands(ssl, tracker)
    except (OSError, ValueError) as error:
        failure = f"{type(error).__name__}: {error}"
    handshake = tracker.handshake
    finding: Finding | None = judge(handshake) if handshake is not None else None
    is_post_quantum = not failure and finding is not None and finding.verdict == "post-quantum"
    hello = handshake.server_hello if handshake is not None else None
    hellos = handshake.client_hellos if handshake is not None else ()
    library = _mapped_libssl()
    is_graft = library is not None and (is_graft_folder(library.parent) or "pqtls-graft" in library.parts)
    explanation = finding.detail if finding is not None and not failure else ""
    return OpenSSLInfo(
        version=ssl.OPENSSL_VERSION,
        way="graft" if is_graft else "native" if is_post_quantum else "system",
        library=library,
        group=group_name(hello.group) if hello is not None and hello.group is not None and not failure else "",
        is_post_quantum=is_post_quantum,
        offered_groups=tuple(group_name(code) for code in hellos[0].groups) if hellos else (),
        explanation=explanation or f"The handshake in memory did not finish ({failure or 'nothing was seen of it'}).",
    )


def _shake_hands(ssl: Any, tracker: HandshakeTracker) -> str:
    """Let a client and a server of this process finish a handshake; return why not, "" if they did."""
    import _ssl

    private: Any = _ssl  # the contexts below those of `ssl`, which a recorder or a guard may watch
    server_context = private._SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="pqtls-info-") as folder:  # 0700
        pem = Path(folder, "public-test-material.pem")
        pem.touch(mode=0o600)
        pem.write_text(PUBLIC_TEST_PEM, encoding="ascii")
        server_context.load_cert_chain(os.fspath(pem))
    client_context = private._SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificate and name are checked
    client_context.load_verify_locations(cadata=PUBLIC_TEST_CERTIFICATE)
    bios = [ssl.MemoryBIO() for _ in range(4)]
    client = client_context._wrap_bio(bios[0], bios[1], False, HOST, owner=None, session=None)
    server = server_context._wrap_bio(bios[2], bios[3], True, None, owner=None, session=None)
    ends = [(Side.CLIENT, client, bios[1], bios[2]), (Side.SERVER, server, bios[3], bios[0])]
    unfinished = {Side.CLIENT, Side.SERVER}
    for _ in range(_ROUNDS):
        for side, end, outgoing, other in ends:
            try:
                end.do_handshake()
                unfinished.discard(side)
            except ssl.SSLWantReadError:
                pass
            data = outgoing.read()
            tracker.receive_data(side, data)
            other.write(data)
        if not unfinished:
            return ""
    return "neither an end nor an error"


def _mapped_libssl() -> Path | None:
    """Return the libssl that `_ssl` was bound to; None if none is mapped under such a name."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        path = line.split(None, 5)[5] if len(line.split(None, 5)) == 6 else ""
        # Wheels that bring their own give it another name, libssl-6a9b88ec.so.3.
        if path.rpartition("/")[2].startswith("libssl.so"):
            return Path(path)
    return None
