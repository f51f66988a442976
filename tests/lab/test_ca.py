from __future__ import annotations

import ssl
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pqtls.lab.ca import LabCA, ServerCertificate

if TYPE_CHECKING:
    from pathlib import Path


def handshake(bundle: Path, certificate: ServerCertificate, host: str) -> None:
    """Join a client and a server in memory."""
    client_context = ssl.create_default_context(cafile=str(bundle))
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificate.chain, certificate.key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for each in (client, server):
            try:
                each.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert client.version() is not None


def test_its_certificates_verify_for_their_names(tmp_path: Path) -> None:
    ca = LabCA(tmp_path / "ca")
    handshake(ca.bundle, ca.issue("right.example"), "right.example")


def test_another_name_is_refused(tmp_path: Path) -> None:
    ca = LabCA(tmp_path / "ca")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(ca.bundle, ca.issue("right.example"), "wrong.example")


def test_another_authority_is_refused(tmp_path: Path) -> None:
    ca, other = LabCA(tmp_path / "ca"), LabCA(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        handshake(ca.bundle, other.issue("right.example"), "right.example")


def test_its_files_are_private(tmp_path: Path) -> None:
    ca = LabCA(tmp_path / "ca")
    ca.issue("one.example")
    ca.issue("two.example")
    assert stat.S_IMODE((tmp_path / "ca").stat().st_mode) == 0o700
    files = list((tmp_path / "ca").iterdir())
    assert len(files) == 5
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_nothing_that_exists_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "ca").symlink_to(tmp_path)
    with pytest.raises(FileExistsError):
        LabCA(tmp_path / "ca")


def test_without_trustme_it_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; sys.modules['trustme'] = None\n"
        "from pqtls.errors import UsageError; from pqtls.lab.ca import LabCA\n"
        "try: LabCA(pathlib.Path(sys.argv[1]))\n"
        "except UsageError as error: print(error)\n"
    )
    folder = tmp_path / "ca"
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout == "The local lab needs trustme, which is not installed. Run: pip install 'pqtls[suite]'.\n"
    assert not folder.exists()
