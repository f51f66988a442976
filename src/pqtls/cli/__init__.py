"""The command line: one thin file per verb, and the exit codes.

The verbs' modules import click and nothing heavy; what they need they import when they run.
"""

from __future__ import annotations

import codecs
import errno
import io
import sys

import click

from pqtls import __version__
from pqtls.cli.disable import disable
from pqtls.cli.doctor import doctor
from pqtls.cli.enable import enable
from pqtls.cli.lab import lab
from pqtls.cli.openssl import openssl
from pqtls.cli.path import path
from pqtls.cli.run import run
from pqtls.cli.serve import serve
from pqtls.cli.shell import shell
from pqtls.cli.status import status
from pqtls.cli.test import test
from pqtls.errors import EXIT_BUG, EXIT_USAGE, PqtlsError

EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
# What the machine refuses is not our bug: no room, no rights, too many files, a closed pipe.
_USERS_ERRORS = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE),
        *(errno.ENOMEM, errno.EFBIG, errno.EIO, errno.EPIPE, errno.ENOENT, errno.ENOTDIR),
    }
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pqtls")
def app() -> None:
    """Post-quantum TLS for Python: turn it on, prove it on every connection.

    Exit codes: 0 proven, 1 a finding, 2 wrong usage, 3 inconclusive, 4 a bug in pqtls.
    """


for _verb in (doctor, test, path, run, shell, enable, disable, status, openssl, lab, serve):
    app.add_command(_verb)


def _write_names(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write what an output's encoding does not have: names of files as the bytes that they are, the rest escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    if all("\udc80" <= character <= "\udcff" for character in part):
        return part.encode("ascii", "surrogateescape"), error.end
    return part.encode("ascii", "backslashreplace"), error.end


_WRITE_NAMES = "pqtls.cli.write_names"
codecs.register_error(_WRITE_NAMES, _write_names)


def main() -> None:
    """Run the command line and exit with the designed code; no traceback for a person's mistake."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # there may be none
            # As other programs do in the C locale, where Python would have ASCII.
            encoding = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else None
            stream.reconfigure(encoding=encoding, errors=_WRITE_NAMES)
    sys.exit(run_app(sys.argv[1:]))


def run_app(arguments: list[str]) -> int:
    """Run the command line.

    Args:
        arguments: What stands after the program's name.

    Returns:
        The exit code.
    """
    try:
        code = app.main(arguments, prog_name="pqtls", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("pqtls: interrupted.", err=True)
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except PqtlsError as error:
        click.echo(f"pqtls: {error.message}", err=True)
        if error.next_step:
            click.echo(f"  {error.next_step}", err=True)
        return error.exit_code
    except SystemExit as stop:
        # click ends so where standard output was closed early, as by `head`: then as a shell tells SIGPIPE.
        return EXIT_PIPE_CLOSED if stop.code == 1 else int(stop.code or 0)
    except OSError as error:
        if error.errno not in _USERS_ERRORS:
            return _report_bug()
        where = f": {error.filename}" if error.filename else ""
        click.echo(f"pqtls: {error.strerror}{where}.", err=True)
        return EXIT_USAGE
    except Exception:  # noqa: BLE001 - the last line of defence: say that it is ours, and exit 4
        return _report_bug()
    return code if isinstance(code, int) else 0


def _report_bug() -> int:
    import traceback

    traceback.print_exc()
    click.echo("pqtls: this is a bug in pqtls; please report it with the lines above.", err=True)
    return EXIT_BUG
