"""`pqtls doctor` as one file: the command line of doctor.pyz, with nothing but the standard library under it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls import __version__
from pqtls.errors import EXIT_BUG, EXIT_FINDING, EXIT_PROVEN, EXIT_USAGE, PqtlsError
from pqtls.openssl.doctor import examine
from pqtls.report.doctor import render_examination

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_INTERRUPTED = 130
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the doctor.

    Args:
        arguments: What stands after the program's name; None for this process's own.

    Returns:
        The exit code: as `pqtls doctor`.
    """
    given = _parser().parse_args(arguments)
    sources = (given.openssl_source,) if given.openssl_source else ()
    try:
        found = examine(given.python or sys.executable, sources, is_standalone=True)
        if given.json:
            text = json.dumps(found.to_json(), indent=2, ensure_ascii=False)
        else:
            text = "\n".join(_paint(line) for line in render_examination(found))
        sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
        sys.stdout.flush()
    except PqtlsError as error:
        sys.stderr.write(f"doctor.pyz: {error.message}\n" + (f"  {error.next_step}\n" if error.next_step else ""))
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("doctor.pyz: interrupted.\n")
        return EXIT_INTERRUPTED
    except OSError as error:
        sys.stderr.write(f"doctor.pyz: {error.strerror}{f': {error.filename}' if error.filename else ''}.\n")
        return EXIT_USAGE
    except Exception:  # noqa: BLE001 - the last line of defence: say that it is ours, and exit 4
        traceback.print_exc()
        sys.stderr.write("doctor.pyz: this is a bug in pqtls; please report it with the lines above.\n")
        return EXIT_BUG
    return EXIT_PROVEN if found.is_able else EXIT_FINDING


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="doctor.pyz",
        description="Say which OpenSSL stands under Python, what every TLS stack in its environment does, "
        "and what to do next. Exits 0 if this interpreter can do post-quantum TLS, by itself or by a graft; 1 if not.",
    )
    parser.add_argument("--python", metavar="PROGRAM", help="examine this interpreter instead of the one that runs")
    source = os.environ.get("PQTLS_OPENSSL_SOURCE")
    parser.add_argument(
        "--openssl-source",
        metavar="FOLDER",
        type=Path,
        default=Path(source) if source else None,
        help="folder with libssl.so.3 and libcrypto.so.3 (3.5 or newer) to graft from",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the screen")
    parser.add_argument("--version", action="version", version=f"doctor.pyz {__version__}")
    return parser


def _paint(line: list[tuple[str, str]]) -> str:
    """Return a styled line as text, coloured only on a terminal whose user wants it."""
    is_plain = not sys.stdout.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    if is_plain:
        return "".join(text for text, _ in line)
    return "".join(
        f"\x1b[{';'.join(_CODES[word] for word in style.split())}m{text}\x1b[0m" if style else text
        for text, style in line
    )


if __name__ == "__main__":
    sys.exit(main())
