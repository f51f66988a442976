"""A throwaway certificate authority in a private folder, by trustme."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pqtls.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import trustme


class LabCA:
    """An authority that lives as long as its folder, and a second one that no client trusts.

    Args:
        folder: Where to write; made with mode 0700. The caller removes it.

    Raises:
        UsageError: trustme is not installed.

    Attributes:
        bundle: The authority's certificate as a PEM file, for clients.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import trustme
        except ImportError as error:
            raise UsageError(
                "The lab's authority needs trustme, not installed here.", "Run: pip install 'pqtls[suite,aws,openssl]'."
            ) from error
        folder.mkdir(mode=0o700)
        self._folder = folder
        self._ca = trustme.CA(organization_name="pqtls lab")
        self._other = trustme.CA(organization_name="pqtls lab, not trusted")
        self.bundle = folder / "ca.pem"
        _write_private(self.bundle, self._ca.cert_pem.bytes())

    def issue(self, names: Sequence[str], *, is_trusted: bool = True) -> Path:
        """Issue a server certificate.

        Args:
            names: Host names or IP addresses.
            is_trusted: By the authority that clients trust; else by the other one.

        Returns:
            A PEM file (0600) with the private key and the chain.
        """
        issuer: trustme.CA = self._ca if is_trusted else self._other
        path = self._folder / f"server-{len(list(self._folder.iterdir()))}.pem"
        _write_private(path, issuer.issue_cert(*names).private_key_and_cert_chain_pem.bytes())
        return path


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
