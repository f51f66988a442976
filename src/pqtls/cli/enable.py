"""`pqtls enable`: a whole virtual environment post-quantum, from the next start of its Python."""

from __future__ import annotations

from pathlib import Path

import click

from pqtls.errors import EXIT_PROVEN


@click.command()
@click.option(
    "--venv",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The virtual environment; else $VIRTUAL_ENV, else the one that pqtls runs in.",
)
@click.option(
    "--openssl-source",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="PQTLS_OPENSSL_SOURCE",
    help="Folder with libssl.so.3 and libcrypto.so.3 (3.5 or newer) to graft from.",
)
@click.option("--ignore-crypto-policies", is_flag=True, help="Insist where system-wide crypto-policies forbid a graft.")
def enable(folder: Path | None, openssl_source: Path | None, ignore_crypto_policies: bool) -> int:
    """Make every Python program of a virtual environment use an OpenSSL with ML-KEM.

    It takes effect at their next start: python, pip and every script, with the standard `ssl` module and no code
    change. `pqtls disable` undoes it, `pqtls status` watches it. Programs that bring their own TLS are not changed
    (`pqtls doctor` names them).
    """
    from pqtls.openssl.enable import Request, enable
    from pqtls.openssl.venv import find_venv

    venv = find_venv(folder)
    request = Request((openssl_source,) if openssl_source else (), not ignore_crypto_policies)
    done = enable(venv, request)
    word = {"enabled": "enabled", "unchanged": "already enabled", "native": "nothing to do"}[done.outcome]
    click.echo(f"{venv.root} ({venv.chosen_by}): {word}. {done.detail}")
    if done.outcome == "enabled":
        click.echo("Programs take it up at their next start. Updates of libssl by the system no longer reach them:")
        click.echo("run `pqtls status` from cron, and `pqtls enable` again after updates.")
    return EXIT_PROVEN
