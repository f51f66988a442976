"""A throwaway certificate authority: made for one run, trusted by nobody who is not given its bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pqtls.lab.extras import missing_library
from pqtls.lab.private import make_private_folder, write_private_file

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate issued to a server.

    Attributes:
        chain: PEM file, the server's certificate first.
        key: PEM file with its private key.
    """

    chain: Path
    key: Path


class LabCA:
    """A certificate authority whose own key never leaves this process's memory.

    Two of them share nothing: a client that is given one's bundle refuses what the other issues.

    Args:
        folder: Where to write; made here with mode 0700, and the caller's to remove.
        name: What its certificate calls it.

    Attributes:
        bundle: PEM file with its certificate, for SSL_CERT_FILE and the like.

    Raises:
        UsageError: trustme is not installed.
        FileExistsError: The folder exists.
    """

    def __init__(self, folder: Path, name: str = "pqtls lab, throwaway") -> None:
        try:
            import trustme
        except ImportError as error:
            raise missing_library(error.name) from error
        make_private_folder(folder)
        self._folder = folder
        self._issued = 0
        self._authority = trustme.CA(organization_name=name, organization_unit_name="for one run only")
        self.bundle: Path = write_private_file(folder / "ca.pem", self._authority.cert_pem.bytes())

    def issue(self, *names: str, folder: Path | None = None) -> ServerCertificate:
        """Issue a certificate to a server.

        Args:
            names: Host names and IP addresses that it is for; at least one.
            folder: Where to write it, None for the authority's own folder.

        Returns:
            Where its files are.
        """
        folder = folder or self._folder
        leaf = self._authority.issue_cert(*names)
        self._issued += 1
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        return ServerCertificate(
            write_private_file(folder / f"server-{self._issued}.pem", chain),
            write_private_file(folder / f"server-{self._issued}.key", leaf.private_key_pem.bytes()),
        )
