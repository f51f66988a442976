"""Why a client failed, in plain words, from the last lines that it printed.

What is known is what the eight clients, and AWS's services through them, really print. Whatever is not known is left
as it is: the client's own last words are shown beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a client did not get its answer.

    Attributes:
        reason: A stable word for programs.
        sentence: What it means, and what to do, for people.
    """

    reason: str
    sentence: str


TIMED_OUT = Failure("timeout", "It had not ended in time and was stopped; --timeout allows more.")

# The first that matches decides, so causes stand before what follows from them.
_KNOWN: tuple[tuple[str, Failure], ...] = (
    (
        r"Unable to locate credentials|NoCredentialsError|You must specify a profile|could not be found in.*credential",
        Failure(
            "no-credentials",
            "No AWS credentials were found: no profile, SSO sign-in, environment, container or instance role has any. "
            "/ping needs none; this client does.",
        ),
    ),
    (
        r"ProfileNotFound|The config profile \(.*\) could not be found",
        Failure("no-credentials", "The AWS profile that AWS_PROFILE names is not there."),
    ),
    (
        r"ConfigParseError|Unable to parse config file",
        Failure("no-credentials", "AWS's own settings (~/.aws/config or credentials) cannot be read: look for a typo."),
    ),
    (
        r"PartialCredentialsError|Partial credentials found",
        Failure("no-credentials", "The AWS credentials that were found are not whole."),
    ),
    (
        r"UnauthorizedSSOToken|SSOTokenLoadError|SSO session associated with this profile (has expired|is)"
        r"|Error loading SSO Token|TokenRetrievalError|Token has expired and refresh failed",
        Failure("expired-credentials", "The AWS SSO sign-in is missing or has expired; run: aws sso login"),
    ),
    (
        r"ExpiredToken|security token included in the request is expired|RequestExpired",
        Failure("expired-credentials", "The AWS credentials have expired; get new ones, such as by: aws sso login"),
    ),
    (
        r"InvalidClientTokenId|UnrecognizedClientException|InvalidSignatureException|SignatureDoesNotMatch"
        r"|AuthFailure|InvalidAccessKeyId|security token included in the request is invalid",
        Failure("refused-credentials", "AWS does not accept these credentials (or this machine's clock is wrong)."),
    ),
    (
        r"AccessDenied|is not authorized to perform",
        Failure("access-denied", "These AWS credentials may not call secretsmanager:ListSecrets."),
    ),
    (
        r"CredentialRetrievalError|MetadataRetrievalError|Error when retrieving credentials from",
        Failure("no-credentials", "The place that AWS credentials were to come from did not give any."),
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError|CertificateError",
        Failure(
            "certificate-refused",
            "The client does not accept the server's certificate. Where a proxy opens TLS, its authority must be "
            "known to the client (SSL_CERT_FILE, REQUESTS_CA_BUNDLE, AWS_CA_BUNDLE).",
        ),
    ),
    (
        r"407 Proxy|Proxy Authentication Required|Tunnel connection failed: 407|ProxyError\(?.{0,40}407",
        Failure("proxy-refused", "The proxy wants a user name and a password (407)."),
    ),
    (
        r"Tunnel connection failed|ProxyError|ProxyConnectionError|ClientHttpProxyError|Failed to connect to proxy"
        r"|Cannot connect to proxy|ClientProxyConnectionError",
        Failure("proxy-refused", "The proxy that the environment names refuses this host, or is not there."),
    ),
    (
        r"Name or service not known|Temporary failure in name resolution|nodename nor servname|NameResolutionError"
        r"|No address associated with hostname|getaddrinfo failed|gaierror|Failed to resolve",
        Failure(
            "name-not-resolved",
            "The host name cannot be resolved: no network, another DNS view, or a proxy that this client does not use.",
        ),
    ),
    (
        r"Network is unreachable|No route to host|Network is down",
        Failure("no-network", "There is no way to that address from here: no network, or a firewall."),
    ),
    (
        r"Connection refused|ConnectionRefusedError|Connect call failed|actively refused",
        Failure("connection-refused", "Nothing listens at that address and port, or a firewall refuses it."),
    ),
    (
        r"timed out|TimeoutError|Timeout on (reading|connect)|ConnectTimeout|ReadTimeout"
        r"|(Read|Connect) timeout on endpoint",
        Failure("timeout", "No answer came within the client's ten seconds: the server is slow, or packets are lost."),
    ),
    (
        r"WRONG_VERSION_NUMBER|wrong version number|UNKNOWN_PROTOCOL|packet length too long|RECORD_LAYER_FAILURE",
        Failure("not-tls", "What the server says is no TLS: another protocol, or the wrong port."),
    ),
    (
        r"Server disconnected without|closed the connection without",
        Failure("connection-lost", "The connection was broken off before an answer came."),
    ),
    (
        r"got more than \d+ bytes|BadStatusLine"
        r"|RemoteProtocolError|BadHttpMessage|Expected HTTP|illegal status line|bad http|InvalidHeader",
        Failure("not-http", "The server's answer is no HTTP; --case socket-ssl and --case asyncio-streams need none."),
    ),
    (
        r"Connection reset|ConnectionResetError|Server disconnected|RemoteDisconnected|Connection aborted"
        r"|closed without|EOF occurred|SSLEOFError|Connection was closed before we received",
        Failure("connection-lost", "The connection was broken off before an answer came."),
    ),
    (
        r"Could not connect to the endpoint URL|EndpointConnectionError|All connection attempts failed",
        Failure("no-network", "The endpoint cannot be reached: no network, no such region, or a firewall."),
    ),
)
_PATTERNS = tuple((re.compile(pattern, re.IGNORECASE), failure) for pattern, failure in _KNOWN)
_USER_INFO = re.compile(r"(\w+://)[^/\s@'\"]+@")


def explain_failure(exit_code: int | None, output: str) -> Failure | None:
    """Say why a client failed.

    Args:
        exit_code: Its exit code; None if it was stopped after its time.
        output: The end of what it printed.

    Returns:
        The failure; None if it did not fail, or nothing that is known stands there.
    """
    if exit_code == 0:
        return None
    if exit_code is None:
        return TIMED_OUT
    return next((failure for pattern, failure in _PATTERNS if pattern.search(output)), None)


def hide_user_info(output: str) -> str:
    """Take user names and passwords out of URLs, such as a proxy's in an error message.

    Args:
        output: What a client printed.
    """
    return _USER_INFO.sub(r"\1***@", output)
