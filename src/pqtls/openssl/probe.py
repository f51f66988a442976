"""Does an interpreter do post-quantum TLS? What a finished handshake in memory just did, never a version string.

A child process shakes hands with itself (`probe_child`) and hands over both directions' bytes; they are judged
here as any other connection's are, by the tracker and the verdict table.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pqtls.evidence import Finding, judge
from pqtls.openssl.child import TIMEOUT_S, ask
from pqtls.openssl.probe_child import PUBLIC_TEST_PEM, SCRIPT
from pqtls.wire.facts import Handshake, KeyShare, Side
from pqtls.wire.groups import group_name
from pqtls.wire.tracker import HandshakeTracker

if TYPE_CHECKING:
    from collections.abc import Mapping

_cache: dict[tuple[object, ...], Probe] = {}


@dataclass(frozen=True, slots=True)
class Probe:
    """What one interpreter did in one environment.

    Attributes:
        executable: The interpreter.
        openssl_version: ssl.OPENSSL_VERSION of the library that it ran, "" if it did not get that far.
        cafile: Built-in path of that library's default CA file.
        capath: Built-in path of its default CA folder.
        handshake: What was seen of the handshake; None if nothing was.
        finding: What that proves; None if nothing was seen.
        failure: What went wrong in the child, as a sentence; "" if both ends finished.
    """

    executable: Path
    openssl_version: str
    cafile: str
    capath: str
    handshake: Handshake | None
    finding: Finding | None
    failure: str

    @property
    def has_mlkem(self) -> bool:
        """Both ends finished, and the handshake was post-quantum."""
        return not self.failure and self.finding is not None and self.finding.verdict == "post-quantum"

    @property
    def offered_groups(self) -> tuple[int, ...]:
        """supported_groups of the ClientHello, in order; empty without one."""
        hellos = self.handshake.client_hellos if self.handshake else ()
        return hellos[0].groups if hellos else ()

    @property
    def offered_versions(self) -> tuple[int, ...]:
        """supported_versions of the ClientHello, in order; empty without one."""
        hellos = self.handshake.client_hellos if self.handshake else ()
        return hellos[0].versions if hellos else ()

    @property
    def key_shares(self) -> tuple[KeyShare, ...]:
        """key_share entries of the first ClientHello, in order; empty without one."""
        hellos = self.handshake.client_hellos if self.handshake else ()
        return hellos[0].key_shares if hellos else ()

    @property
    def group(self) -> str:
        """Name of the group that was negotiated; "" without one."""
        hello = self.handshake.server_hello if self.handshake else None
        return group_name(hello.group) if hello is not None and hello.group is not None else ""

    @property
    def explanation(self) -> str:
        """What happened, as one sentence."""
        if self.failure or self.finding is None:
            return self.failure or "Nothing was seen of the handshake."
        return self.finding.detail


def probe_mlkem(
    executable: Path | str,
    environment: Mapping[str, str] | None = None,
    *,
    is_bare: bool = False,
    prelude: str = "",
) -> Probe:
    """Let an interpreter shake hands with itself, and judge what it did.

    Args:
        executable: A Python 3.6 or newer.
        environment: Its whole environment; None for this process's.
        is_bare: Without `site`, so that no `.pth` runs.
        prelude: Python source that runs before `ssl` is imported; if it raises, that is the failure.

    Returns:
        What it did. A failure of any kind is part of the value; nothing is raised. The same interpreter in the
        same environment is asked once per process of ours.
    """
    given = dict(os.environ if environment is None else environment)
    key = (str(executable), tuple(sorted(given.items())), _state(given.get("OPENSSL_CONF", "")), is_bare, prelude)
    if key not in _cache:
        _cache[key] = _probe(Path(executable), given, prelude, is_bare=is_bare)
    return _cache[key]


def forget_probes() -> None:
    """Forget earlier answers: the libraries in an environment have changed."""
    _cache.clear()


def _state(path: str) -> tuple[int, ...]:
    """Return what changes when a file is written anew: a configuration may, under the same name."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return ()
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _probe(executable: Path, environment: dict[str, str], prelude: str, *, is_bare: bool) -> Probe:
    with tempfile.TemporaryDirectory(prefix="pqtls-probe-") as folder:  # 0700
        pem = Path(folder, "public-test-material.pem")
        pem.touch(mode=0o600)
        pem.write_text(PUBLIC_TEST_PEM, encoding="ascii")
        answer = ask(executable, prelude + SCRIPT, [str(pem)], environment, TIMEOUT_S, is_bare=is_bare)
    if answer.value is None:
        return Probe(executable, "", "", "", None, None, f"{executable} {answer.failure}.")
    tracker = HandshakeTracker()
    for side, data in answer.value["flights"]:
        tracker.receive_data(Side(side), bytes.fromhex(data))
    handshake = tracker.handshake
    failure = ""
    if answer.value["error"] or sorted(answer.value["finished"]) != ["client", "server"]:
        failure = f"The handshake in memory did not finish ({answer.value['error'] or 'no error was reported'})."
    finding = judge(handshake) if handshake is not None else None
    cafile, capath = (str(path) for path in answer.value["default_paths"])
    return Probe(executable, str(answer.value["openssl_version"]), cafile, capath, handshake, finding, failure)
