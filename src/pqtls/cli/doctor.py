"""`pqtls doctor`: is this interpreter able, by which way, and what do the other TLS stacks in it do?"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pqtls.cli.options import openssl_source_option, python_option
from pqtls.errors import EXIT_FINDING, EXIT_PROVEN


@click.command(short_help="Can this Python do post-quantum TLS, and what to do next?")
@python_option
@openssl_source_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the screen.")
def doctor(executable: str | None, openssl_source: Path | None, as_json: bool) -> int:
    """Say whether a Python can do post-quantum TLS, which other TLS stacks are installed, and what to do next.

    Every answer about ML-KEM comes from a handshake that the doctor has just made, in memory or on loopback.

    Exits 0 if the interpreter can do post-quantum TLS, by itself or with a newer OpenSSL put under it (a graft); 1 if
    it cannot.
    """
    from pqtls.openssl.doctor import examine

    found = examine(executable or sys.executable, (openssl_source,) if openssl_source else ())
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        from pqtls.cli.console import open_console, print_lines
        from pqtls.report.doctor import render_examination

        print_lines(open_console(), render_examination(found))
    return EXIT_PROVEN if found.is_able else EXIT_FINDING
