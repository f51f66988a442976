from __future__ import annotations

from pathlib import Path

from pqtls.lab.client_environment import lab_client_environment

USERS = {
    "PATH": "/bin",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp/mine",  # noqa: S108 - only a value
    "NO_PROXY": "*",
    "no_proxy": "*",
    "https_proxy": "http://proxy.example:3128",
    "SSL_CERT_DIR": "/etc/elsewhere",
    "CURL_CA_BUNDLE": "/etc/elsewhere.pem",
    "PYTHONPATH": "/home/me",
    "PYTHONHTTPSVERIFY": "0",
    "OPENSSL_CONF": "/home/me/openssl.cnf",
    "AWS_PROFILE": "production",
    "AWS_SESSION_TOKEN": "production",
    "AWS_ENDPOINT_URL": "https://elsewhere.example",
}


def test_nothing_of_the_users_but_what_a_program_needs_to_start() -> None:
    made = lab_client_environment(Path("/ca.pem"), 1111, 2222, Path("/private"), USERS)
    assert {name for name in USERS if made.get(name) == USERS[name]} == {"PATH", "LANG", "TMPDIR"}
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        assert made[name] == "http://127.0.0.1:1111"
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        assert made[name] == "/ca.pem"
    assert made["PQTLS_DIAL"] == "127.0.0.1:2222"
    assert made["HOME"] == "/private"
    assert made["AWS_CONFIG_FILE"].startswith("/private/")
    assert made["AWS_SHARED_CREDENTIALS_FILE"].startswith("/private/")


def test_the_base_is_this_process_by_default() -> None:
    made = lab_client_environment(Path("/ca.pem"), 1, 2, Path("/private"))
    assert "PATH" in made
