"""What a run of the suite stands on, as reports show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls import __version__
from pqtls.report.model import Setting

if TYPE_CHECKING:
    from pqtls.openssl.interpreter import Interpreter
    from pqtls.openssl.ways import Way
    from pqtls.suite.options import Options
    from pqtls.suite.target import Target


def describe_setting(
    options: Options,
    python: Interpreter,
    clients: Way,
    witnesses: str,
    *,
    servers: Way | None = None,
    targets: tuple[Target, ...] = (),
    aws_cli_v2: str = "",
) -> Setting:
    """Return the setting.

    Args:
        options: What was asked for.
        python: The clients' interpreter.
        clients: Their OpenSSL.
        witnesses: Who looks, as a sentence.
        servers: The OpenSSL of the lab's servers; None for real ones.
        targets: The real servers; none in the lab.
        aws_cli_v2: A sentence about the AWS CLI v2, "" if there is none.
    """
    return Setting(
        pqtls=__version__,
        python=python.version,
        way=clients.kind,
        openssl=clients.openssl_version,
        why=clients.reason,
        source=clients.source_description,
        servers="" if servers is None else f"{servers.openssl_version} ({servers.kind})",
        client_groups=options.groups,
        server_groups=options.server_groups,
        server_tls="TLSv1.2" if options.server_tls else "",
        witnesses=witnesses,
        targets=tuple(target.address for target in targets),
        aws_cli_v2=aws_cli_v2,
    )
