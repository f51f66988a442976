"""`pqtls enable`: a whole virtual environment post-quantum, from the next start of its Python."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from pqtls.cli.options import groups_option, openssl_source_option, venv_option
from pqtls.errors import EXIT_PROVEN


@click.command(short_help="Give a whole virtual environment an OpenSSL with ML-KEM.")
@venv_option
@openssl_source_option
@groups_option
@click.option(
    "--require-pq",
    is_flag=True,
    help="Refuse every TLS connection that is not post-quantum, before any application data.",
)
@click.option("--ignore-crypto-policies", is_flag=True, help="Insist where system-wide crypto-policies forbid a graft.")
def enable(
    folder: Path | None, openssl_source: Path | None, groups: str, require_pq: bool, ignore_crypto_policies: bool
) -> int:
    """Make every Python program of a virtual environment use an OpenSSL with ML-KEM.

    It takes effect at their next start: python, pip and every script, with the standard `ssl` module and no code
    change. `pqtls disable` undoes it, `pqtls status` watches it. Programs that bring their own TLS are not changed
    (`pqtls doctor` names them).
    """
    from pqtls.openssl.enable import Request, enable
    from pqtls.openssl.venv import find_venv
    from pqtls.openssl.venv_settings import plan_settings

    settings = plan_settings(groups, require_pq=require_pq)
    venv = find_venv(folder)
    also = ["--openssl-source", str(openssl_source.absolute())] if openssl_source else []
    also += ["--ignore-crypto-policies"] if ignore_crypto_policies else []
    command = " ".join([settings.command, *([shlex.join(also)] if also else [])])
    request = Request(
        (openssl_source,) if openssl_source else (),
        has_to_follow_policies=not ignore_crypto_policies,
        require_pq=require_pq,
        plugins=settings.plugins,
        settings=settings.values,
        has_own_list=settings.has_own_list,
        command=command,
    )
    done = enable(venv, request)
    words = {"enabled": "enabled", "unchanged": "already enabled", "native": "nothing to do"}
    word = words.get(done.outcome, "as it was before `enable`; it needs nothing")
    click.echo(f"{venv.root} ({venv.chosen_by}): {word}. {done.detail}")
    if done.outcome == "enabled" and done.manifest is not None:
        watch = venv.name_in("pqtls status")
        if require_pq:
            click.echo(
                "Post-quantum is required: Python's TLS there refuses every other connection, as client and server."
            )
            click.echo("Wheels with a TLS library of their own are not reached (`pqtls doctor` names them).")
        if require_pq and not done.manifest.settings.get("groups"):
            click.echo("Its OpenSSL is linked in and cannot be told its groups: classical ones are still offered, and")
            click.echo("a peer that chooses one is refused, even if it could do ML-KEM.")
        if done.manifest.is_native:
            click.echo(f"Programs take it up at their next start. Run `{watch}` from cron.")
        else:
            click.echo("Programs take it up at their next start. Updates of libssl by the system no longer reach them:")
            click.echo(f"run `{watch}` from cron, and `{venv.name_in(command)}` again after updates.")
            if done.manifest.source_folder:
                click.echo(f"It was made from files in {done.manifest.source_folder}, outside this environment.")
                click.echo("Keep them and upgrade them there: if they go away, Python steps back to its own OpenSSL.")
    return EXIT_PROVEN
