"""`pqtls disable`: undo `pqtls enable`."""

from __future__ import annotations

from pathlib import Path

import click

from pqtls.cli.options import venv_option
from pqtls.errors import EXIT_PROVEN


@click.command(short_help="Undo `pqtls enable`, byte for byte.")
@venv_option
def disable(folder: Path | None) -> int:
    """Undo `pqtls enable`: the virtual environment's files are as they were before.

    Programs that run keep what they have loaded. Twice is fine, and so is one after a killed `enable`.
    """
    from pqtls.openssl.enable import disable
    from pqtls.openssl.venv import choose_root

    root, chosen_by = choose_root(folder)
    word = "disabled" if disable(root) else "was not enabled"
    click.echo(f"{root} ({chosen_by}): {word}.")
    return EXIT_PROVEN
