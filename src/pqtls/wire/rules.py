"""The rules that a pair of hellos must keep to be believed, each as one sentence when it is broken.

A choice that the client never offered, or a key share of the wrong size, is no evidence of anything: it is
reported as malformed. With ECH the inner hello is hidden, so nothing can be held against the outer one.

Source: RFC 9846 sections 4.1.3, 4.1.4, 4.2.1, 4.2.8 to 4.2.11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.wire import codepoints as cp
from pqtls.wire.groups import GROUPS, group_name

if TYPE_CHECKING:
    from pqtls.wire.client_hello import ClientHello
    from pqtls.wire.extensions import KeyShareEntry
    from pqtls.wire.server_hello import ServerHello


def find_client_hello_violation(hello: ClientHello, first: ClientHello | None, retry: ServerHello | None) -> str | None:
    """Check a ClientHello.

    Args:
        hello: The hello.
        first: The first one, if this is the second.
        retry: The HelloRetryRequest before it, if there was one.

    Returns:
        The rule that it breaks, or None.
    """
    for share in hello.key_shares or ():
        if share.group not in hello.supported_groups:
            return f"The client sent a share for {group_name(share.group)} without listing that group."
        wrong = _wrong_size(share, is_client=True)
        if wrong is not None:
            return wrong
    if first is None:
        return None
    if retry is None:
        return "The client sent a second ClientHello without a HelloRetryRequest."
    if hello.random != first.random:
        return "The second ClientHello has another random than the first."
    if retry.retry_group is not None and [share.group for share in hello.key_shares or ()] != [retry.retry_group]:
        return "The second ClientHello does not have exactly the one share that the HelloRetryRequest asked for."
    return None


def find_retry_violation(retry: ServerHello, hello: ClientHello, *, is_second: bool) -> str | None:
    """Check a HelloRetryRequest.

    Args:
        retry: The HelloRetryRequest.
        hello: The ClientHello that it answers.
        is_second: There was a HelloRetryRequest before.

    Returns:
        The rule that it breaks, or None.
    """
    if is_second:
        return "The server sent two HelloRetryRequests."
    if retry.selected_version != cp.TLS13:
        return "The HelloRetryRequest does not select TLS 1.3."
    if retry.retry_group is None and not retry.has_cookie:
        return "The HelloRetryRequest asks for nothing."
    if hello.has_extension(cp.ENCRYPTED_CLIENT_HELLO):
        return None
    group = retry.retry_group
    if group is not None and group not in hello.supported_groups:
        return f"The HelloRetryRequest asks for {group_name(group)}, which the client did not offer."
    if group is not None and any(share.group == group for share in hello.key_shares or ()):
        return f"The HelloRetryRequest asks for {group_name(group)}, whose share it already had."
    if retry.session_id_echo != hello.session_id:
        return "The HelloRetryRequest does not echo the client's session id."
    return _find_choice_violation(retry, hello)


def find_server_hello_violation(server: ServerHello, hello: ClientHello, retry: ServerHello | None) -> str | None:
    """Check a ServerHello that is no HelloRetryRequest.

    Args:
        server: The ServerHello.
        hello: The last ClientHello before it.
        retry: The HelloRetryRequest before it, if there was one.

    Returns:
        The rule that it breaks, or None.
    """
    if server.selected_version is None and server.legacy_version > cp.TLS12:
        return "The ServerHello's version field is above TLS 1.2, without supported_versions."
    if server.selected_version not in (None, cp.TLS13):
        return f"The ServerHello's supported_versions says 0x{server.selected_version:04x}, not TLS 1.3."
    if retry is not None and server.version != cp.TLS13:
        return "The server asked for a retry in TLS 1.3 and then chose an older version."
    if retry is not None and retry.cipher_suite != server.cipher_suite:
        return "The ServerHello chose another cipher suite than its HelloRetryRequest."
    if not hello.has_extension(cp.ENCRYPTED_CLIENT_HELLO):
        violation = _find_choice_violation(server, hello)
        if violation is not None:
            return violation
    return _find_key_violation(server, hello, retry) if server.version == cp.TLS13 else None


def _find_choice_violation(server: ServerHello, hello: ClientHello) -> str | None:
    offered = hello.supported_versions
    # A server without TLS 1.3 ignores supported_versions: choosing TLS 1.2 then is a finding, not a breach.
    if offered and server.version == cp.TLS13 and cp.TLS13 not in offered:
        return f"The server chose {cp.version_name(server.version)}, which the client did not offer."
    if not offered and server.selected_version is not None:
        return "The server sent supported_versions to a client that did not."
    if server.cipher_suite not in hello.cipher_suites:
        return f"The server chose {cp.cipher_suite_name(server.cipher_suite)}, which the client did not offer."
    return None


def _find_key_violation(server: ServerHello, hello: ClientHello, retry: ServerHello | None) -> str | None:
    if "_WITH_" in cp.cipher_suite_name(server.cipher_suite):
        return f"The TLS 1.3 ServerHello chose {cp.cipher_suite_name(server.cipher_suite)}, a suite of TLS 1.2."
    share = server.key_share
    if share is None:
        if server.selected_psk is None:
            return "The TLS 1.3 ServerHello has neither a key_share nor a pre_shared_key."
        return _find_psk_violation(server, hello)
    name = group_name(share.group)
    if retry is not None and retry.retry_group not in (None, share.group):
        return f"The ServerHello names {name}, not {group_name(retry.retry_group)} as its own retry did."
    wrong = _wrong_size(share, is_client=False)
    if wrong is not None:
        return wrong
    if hello.has_extension(cp.ENCRYPTED_CLIENT_HELLO):
        return None
    if server.session_id_echo != hello.session_id:
        return "The TLS 1.3 ServerHello does not echo the client's session id."
    if share.group not in hello.supported_groups:
        return f"The ServerHello names {name}, which the client did not offer."
    if all(share.group != sent.group for sent in hello.key_shares or ()):
        return f"The ServerHello names {name}, for which the client sent no share."
    return _find_psk_violation(server, hello)


def _find_psk_violation(server: ServerHello, hello: ClientHello) -> str | None:
    hidden = hello.has_extension(cp.ENCRYPTED_CLIENT_HELLO)
    if server.selected_psk is not None and not hidden and server.selected_psk >= hello.psk_identities:
        return "The ServerHello selects a pre-shared key that the client did not offer."
    return None


def _wrong_size(share: KeyShareEntry, *, is_client: bool) -> str | None:
    group = GROUPS.get(share.group)
    if group is None:
        return None
    expected = group.client_share_bytes if is_client else group.server_share_bytes
    if expected is None or len(share.key_exchange) == expected:
        return None
    who = "client" if is_client else "server"
    return f"The {who}'s share for {group.name} has {len(share.key_exchange)} bytes; that group's has {expected}."
