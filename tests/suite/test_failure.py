"""What clients really print when they fail, and what pqtls makes of it."""

from __future__ import annotations

import pytest

from pqtls.errors import UsageError
from pqtls.suite.failure import explain_failure, hide_user_info
from pqtls.suite.target import parse_endpoint, parse_region

# Printed by the clients of the suite (boto3 1.43, awscli 1.46, requests 2.34, urllib3 2.7, httpx 0.28, aiohttp 3.14).
PRINTED = [
    ("no-credentials", "botocore.exceptions.NoCredentialsError: Unable to locate credentials"),
    ("no-credentials", "botocore.exceptions.ProfileNotFound: The config profile (nosuch) could not be found"),
    ("no-credentials", 'Unable to locate credentials. You can configure credentials by running "aws configure".'),
    (
        "no-credentials",
        "botocore.exceptions.PartialCredentialsError: Partial credentials found in env, missing: AWS_SECRET_ACCESS_KEY",
    ),
    (
        "expired-credentials",
        "An error occurred (ExpiredTokenException) when calling the ListSecrets operation: The security token "
        "included in the request is expired",
    ),
    (
        "no-credentials",
        "Error when retrieving credentials from container-role: Error retrieving metadata: Received error when "
        'attempting to retrieve container metadata: Could not connect to the endpoint URL: "http://169.254.170.2/creds"',
    ),
    ("no-credentials", "botocore.exceptions.ConfigParseError: Unable to parse config file: /home/me/.aws/config"),
    ("expired-credentials", "Error loading SSO Token: Token for s does not exist"),
    (
        "expired-credentials",
        "The SSO session associated with this profile has expired or is otherwise invalid. To refresh this SSO "
        "session run aws sso login with the corresponding profile.",
    ),
    (
        "refused-credentials",
        "An error occurred (UnrecognizedClientException) when calling the ListSecrets operation: The security token "
        "included in the request is invalid.",
    ),
    ("name-not-resolved", "socket.gaierror: [Errno -2] Name or service not known"),
    (
        "name-not-resolved",
        "urllib3.exceptions.NameResolutionError: HTTPSConnection(host='x', port=443): Failed to resolve 'x'",
    ),
    ("no-network", 'Could not connect to the endpoint URL: "https://secretsmanager.us-east-1.amazonaws.com/"'),
    ("no-network", "OSError: [Errno 101] Network is unreachable"),
    ("connection-refused", "ConnectionRefusedError: [Errno 111] Connection refused"),
    ("proxy-refused", "requests.exceptions.ProxyError: ... OSError('Tunnel connection failed: 403 Forbidden')"),
    ("proxy-refused", "httpx.ProxyError: 407 Proxy Authentication Required"),
    ("proxy-refused", 'botocore.exceptions.ProxyConnectionError: Failed to connect to proxy URL: "http://p:3128"'),
    ("timeout", "TimeoutError: timed out"),
    ("timeout", "requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='x'): Read timed out. (read timeout=10)"),
    ("timeout", 'botocore.exceptions.ReadTimeoutError: Read timeout on endpoint URL: "https://x/"'),
    ("timeout", 'Read timeout on endpoint URL: "https://x/"'),  # the AWS CLI names no exception
    ("timeout", 'Connect timeout on endpoint URL: "https://x/"'),
    (
        "certificate-refused",
        "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed",
    ),
    ("not-http", "requests.exceptions.ConnectionError: ('Connection aborted.', BadStatusLine('* OK IMAP4rev1'))"),
    ("connection-lost", "ConnectionResetError: [Errno 104] Connection reset by peer"),
    (
        "connection-lost",
        'Connection was closed before we received a valid response from endpoint URL: "https://x/".',
    ),
]


@pytest.mark.parametrize(("reason", "text"), PRINTED)
def test_known_words(reason: str, text: str) -> None:
    failure = explain_failure(1, f"Traceback (most recent call last):\n  File x\n{text}")
    assert failure is not None
    assert failure.reason == reason


def test_nothing_is_made_up() -> None:
    assert explain_failure(1, "ValueError: something else entirely") is None
    assert explain_failure(0, "Unable to locate credentials") is None
    stopped = explain_failure(None, "Unable to locate credentials")
    assert stopped is not None
    assert stopped.reason == "timeout"


def test_user_info_is_hidden() -> None:
    text = "Failed to connect to proxy URL: 'http://me:hunter2@proxy:3128'; see https://example.com/a@b"
    assert (
        hide_user_info(text) == "Failed to connect to proxy URL: 'http://***@proxy:3128'; see https://example.com/a@b"
    )


@pytest.mark.parametrize(
    ("text", "name", "host", "port", "path"),
    [
        ("example.com", "example.com:443", "example.com", 443, "/"),
        ("example.com:8443", "example.com:8443", "example.com", 8443, "/"),
        ("https://Example.com/a?b=c#d", "example.com:443", "example.com", 443, "/a?b=c"),
        ("[2001:db8::1]:853", "[2001:db8::1]:853", "2001:db8::1", 853, "/"),
        ("192.0.2.1:993", "192.0.2.1:993", "192.0.2.1", 993, "/"),
        ("https://b\u00fccher.example", "xn--bcher-kva.example:443", "xn--bcher-kva.example", 443, "/"),
    ],
)
def test_endpoints(text: str, name: str, host: str, port: int, path: str) -> None:
    target = parse_endpoint(text)
    assert (target.name, target.host, target.port, target.path) == (name, host, port, path)
    assert target.address == name


@pytest.mark.parametrize("text", ["a b", "https://", "x:y", "-", "x\n", "ftp://x", "https://[::1", "x" * 300, "a:0"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(UsageError):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "secretsmanager.us-east-1.amazonaws.com"),
        ("us-gov-west-1", "secretsmanager.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "secretsmanager.cn-north-1.amazonaws.com.cn"),
        ("eusc-de-east-1", "secretsmanager.eusc-de-east-1.amazonaws.eu"),
    ],
)
def test_regions(region: str, host: str) -> None:
    assert parse_region(region).host == host


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ssl.SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "not-tls"),
        ("httpx.RemoteProtocolError: Server disconnected without sending a response.", "connection-lost"),
        ("the server closed the connection without an answer", "connection-lost"),
        (
            "('Connection aborted.', LineTooLong('got more than 65536 bytes when reading header line'))",
            "not-http",
        ),
    ],
)
def test_servers_that_speak_something_else_or_nothing(output: str, reason: str) -> None:
    failure = explain_failure(1, output)
    assert failure is not None
    assert failure.reason == reason
