"""`pqtls status`: what is active in a virtual environment, from where, how old, and whether it works. For cron too."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pqtls.cli.options import venv_option


@click.command(short_help="Check an enabled environment: active, fresh, proven? For cron.")
@venv_option
@click.option(
    "--fail-if-older-than", "oldest", metavar="V", help="An OpenSSL older than V, such as 3.5.8, is a finding."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(folder: Path | None, oldest: str | None, as_json: bool) -> int:
    """Say which OpenSSL is active in a virtual environment, and prove it by a handshake in memory.

    Every byte of the graft, of its source and of what it stands in for is compared.

    Exits 0 if its Python does post-quantum TLS and nothing is wrong; 1 if it does not, or the graft is stale, damaged
    or older than V; 3 if its Python gives no answer.
    """
    from pqtls.openssl.paths import map_texts, to_json_text
    from pqtls.openssl.status import examine_venv, parse_oldest
    from pqtls.openssl.venv import find_venv
    from pqtls.report.status import render_status

    limit = parse_oldest(oldest) if oldest is not None else ()
    found = examine_venv(find_venv(folder), oldest=limit)
    if as_json:
        click.echo(json.dumps(map_texts(found.to_json(), to_json_text), indent=2, ensure_ascii=False))
    else:
        for line in render_status(found):
            click.echo(line)
    return found.exit_code
