"""`pqtls shell`: the user's own shell, with the chosen OpenSSL under everything started from it."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pqtls.cli.options import groups_option, openssl_options, require_pq_option
from pqtls.cli.run import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "(pqtls) "


@click.command(short_help="Open your shell with an OpenSSL that has ML-KEM.")
@openssl_options
@groups_option
@require_pq_option
def shell(openssl: str, openssl_source: Path | None, groups: str, require_pq: bool) -> int:
    """Open your shell with the chosen OpenSSL; its prompt is marked. Leave it with `exit`.

    With --require-pq its programs' OpenSSL is left nothing but post-quantum TLS; what you start there is not examined.
    """
    program = os.environ.get("SHELL") or "/bin/sh"
    if shutil.which(program) is None:
        program = "/bin/sh"
    with prepare(openssl, openssl_source, groups, None, require_pq=require_pq) as prepared:
        click.echo(f"pqtls: {prepared.way.openssl_version} ({prepared.way.kind}): {prepared.way.reason}", err=True)
        with _marked_shell(program, prepared.environment) as (arguments, environment):
            code = subprocess.call(arguments, env=environment)
    return code if code >= 0 else 128 - code


@contextlib.contextmanager
def _marked_shell(program: str, environment: dict[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Arrange for the prompt's mark without touching the user's start-up files.

    Each kind of shell reads a private start-up file of ours that first reads the user's own.
    """
    from pqtls.openssl.openssh import wrapper_folder

    name = Path(program).name
    environment = {**environment, "PQTLS_SHELL": "1"}
    wrappers = wrapper_folder(environment)
    # After the user's own start-up file, which may have put other folders first.
    first = f"PATH={shlex.quote(wrappers)}:$PATH\n" if wrappers else ""
    folder = Path(tempfile.mkdtemp(prefix="pqtls-shell-"))  # 0700
    try:
        if name == "bash":
            start = folder / "bashrc"
            _write(start, f'[ -f ~/.bashrc ] && . ~/.bashrc\n{first}PS1="{MARK}$PS1"\n')
            yield [program, "--rcfile", str(start), "-i"], environment
        elif name == "zsh":
            home = environment.get("ZDOTDIR", "$HOME")
            for each, own in ((".zshenv", ""), (".zshrc", f'{first}PROMPT="{MARK}$PROMPT"\n')):
                _write(folder / each, f'[ -f "{home}/{each}" ] && . "{home}/{each}"\n{own}')
            yield [program, "-i"], {**environment, "ZDOTDIR": str(folder)}
        elif name == "fish":
            mark = f"functions -c fish_prompt pqtls_prompt; function fish_prompt; echo -n '{MARK}'; pqtls_prompt; end"
            also = f"set -gx PATH {shlex.quote(wrappers)} $PATH; " if wrappers else ""
            yield [program, "-i", "-C", also + mark], environment
        else:
            start = folder / "shrc"
            user = environment.get("ENV", "")
            own = f'[ -f "{user}" ] && . "{user}"\n' if user else ""
            _write(start, own + first + f'PS1="{MARK}${{PS1-$ }}"\n')
            yield [program, "-i"], {**environment, "ENV": str(start)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(path: Path, text: str) -> None:
    """Write a start-up file; names of files in it are bytes that need not be text."""
    path.write_bytes(os.fsencode(text))
