"""A case: a small script with an unmodified client library in it, and what its header says of it.

The built-in ones lie in `cases/`, in the order of their file names. The header is lines of comment at the
top of the script, `# key: value`; nothing of the script is run to read it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from pqtls.errors import UsageError

_HEADER_LINE = re.compile(r"#\s*(title|host|needs|for):\s*(.*?)\s*$")
SUFFIXES = (".py", ".sh")
_BUILTIN = Path(__file__).parent / "cases"
# The header ends at the first line that is neither a comment nor blank; no script is read further than this.
_MAX_HEADER_LINES = 40


@dataclass(frozen=True, slots=True)
class Case:
    """One client of the suite.

    Attributes:
        name: Short name, from the file's name: `01_socket_ssl.py` is `socket-ssl`.
        title: Name for people.
        path: The script.
        host: Host that it contacts, "" if it says none.
        needs: Distributions that must be installed for it.
        is_for_aws: It speaks AWS's API, so that no other server can answer it.
        environment: More variables for it, as pairs.
        brings_own_openssl: Nothing of the chosen OpenSSL is given to it, since it would not use it.
        notes: What is to be known of it, as sentences.
    """

    name: str
    title: str
    path: Path
    host: str
    needs: tuple[str, ...]
    is_for_aws: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    brings_own_openssl: bool = False
    notes: tuple[str, ...] = ()

    @property
    def may_start_anything(self) -> bool:
        """It is a shell script of the user's: what it starts beside Python no recorder sees."""
        return self.path.suffix == ".sh" and self.path.parent != _BUILTIN

    def missing(self) -> tuple[str, ...]:
        """Return the distributions that it needs and that are not installed."""
        absent = []
        for name in self.needs:
            try:
                metadata.distribution(name)
            except metadata.PackageNotFoundError:
                absent.append(name)
        return tuple(absent)


def read_case(path: Path) -> Case:
    """Read a script's header.

    Args:
        path: The script, ending in .py or .sh.

    Raises:
        UsageError: It cannot be read.
    """
    values = {"title": "", "host": "", "needs": "", "for": ""}
    try:
        with path.open(encoding="utf-8") as file:
            for _, line in zip(range(_MAX_HEADER_LINES), file, strict=False):
                if line.strip() and not line.startswith("#"):
                    break
                match = _HEADER_LINE.match(line)
                if match:
                    values[match[1]] = match[2]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The case {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text in UTF-8'}."
        ) from error
    name = re.sub(r"^\d+[_-]", "", path.stem).replace("_", "-")
    needs = tuple(re.split(r"[,\s]+", values["needs"])) if values["needs"] else ()
    return Case(name, values["title"] or name, path, values["host"], needs, values["for"].lower() == "aws")


def load_builtin_cases() -> tuple[Case, ...]:
    """Return the built-in cases in the suite's order."""
    return tuple(read_case(path) for path in sorted(_BUILTIN.iterdir()) if path.suffix in SUFFIXES)


def select_cases(names: tuple[str, ...], present: tuple[Case, ...] = ()) -> tuple[Case, ...]:
    """Return the cases asked for: built-in ones in the suite's order, then the user's own as given.

    Args:
        names: Names or files (.py, .sh) as `--case` takes them; none means all built-in ones.
        present: Cases of what is on this machine, after the built-in ones.

    Raises:
        UsageError: A name is not known, a file cannot be read, or a case needs something that is not installed.
    """
    cases = (*load_builtin_cases(), *present)
    known = {case.name: case for case in cases}
    own: list[Case] = []
    for name in names:
        if Path(name).suffix in SUFFIXES:
            own.append(read_case(Path(name).resolve()))
        elif name not in known:
            raise UsageError(
                f"There is no case {name!r}.", f"The cases are: {', '.join(known)}; or a file of yours, .py or .sh."
            )
    chosen = (*(case for case in cases if not names or case.name in names), *own)
    missing = sorted({name for case in chosen for name in case.missing()})
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        ours = {name for case in cases for name in case.missing()}
        wanted = [*(["pqtls[suite,aws,openssl]"] if ours & set(missing) else []), *sorted(set(missing) - ours)]
        raise UsageError(
            f"These clients need {', '.join(missing)}, which {verb} not installed here.",
            f"Run: pip install {shlex.join(wanted)}, or choose other clients with --case.",
        )
    return chosen
