"""The error for a library of an extra that is not installed."""

from __future__ import annotations

from pqtls.errors import UsageError


def missing_library(name: str | None) -> UsageError:
    """Return the error that says what to install.

    Args:
        name: Name of the module that could not be imported, as in `ImportError.name`; None if not known.
    """
    library = (name or "one of its libraries").partition(".")[0]
    extras = "suite,aws" if library == "moto" else "suite"
    return UsageError(f"The local lab needs {library}, which is not installed.", f"Run: pip install 'pqtls[{extras}]'.")
