"""`pqtls` and `python -m pqtls`: load the command line and run it. Ctrl-C meanwhile is no traceback either."""

from __future__ import annotations

import sys

_EXIT_INTERRUPTED = 130


def main() -> None:
    """Load the command line and run it."""
    try:
        from pqtls.cli import main as run

        run()
    except KeyboardInterrupt:
        print("pqtls: interrupted.", file=sys.stderr)  # noqa: T201 - click may not be there yet
        sys.exit(_EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
