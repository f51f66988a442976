"""Every TLS stack in an interpreter's environment: what it carries, and whether it has ML-KEM.

One process can hold several: `ssl`, cryptography's own OpenSSL, libpq's, libcurl's, BoringSSL in grpcio. None of
them is believed. Each that is installed runs in a short-lived child of its own and is made to shake hands with the
doctor on loopback; the bytes are judged as any other connection's are. A crash or a hang is part of the answer.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pqtls.evidence import is_post_quantum_group, judge
from pqtls.openssl.carried_library import read_carried_library
from pqtls.openssl.child import Answer, ask
from pqtls.openssl.library_text import read_library_text
from pqtls.openssl.paths import is_file
from pqtls.openssl.stack_children import SCRIPTS
from pqtls.openssl.stack_listener import Opening, StackListener
from pqtls.wire.codepoints import HANDSHAKE
from pqtls.wire.facts import Handshake, Side
from pqtls.wire.groups import group_name, is_grease
from pqtls.wire.tracker import HandshakeTracker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.openssl.installed import Installed
    from pqtls.openssl.interpreter import Interpreter

MlKem = Literal["negotiates", "offers", "no", "unknown"]

TIMEOUT_S = 10.0
"""A stack's import and handshake take 0.1 to 0.5 s; a loaded machine may need twenty times that."""
_WORKERS = 8
_MAX_TEXT = 160


@dataclass(frozen=True, slots=True)
class Stack:
    """A TLS stack that pqtls knows.

    Attributes:
        name: What it is called here.
        distributions: Which distributions bring it, by normalised name; the first that is installed is named.
        opening: What its client speaks before TLS.
        in_memory: It hands over its bytes itself, instead of sending them to the doctor's listener.
        why_not: Why it is not driven, as a clause; "" if it is.
    """

    name: str
    distributions: tuple[str, ...]
    opening: Opening = "tls"
    in_memory: bool = False
    why_not: str = ""


_NOT_DRIVEN = "pqtls does not drive it"
STACKS = (
    Stack("pyOpenSSL", ("pyopenssl",), in_memory=True),
    Stack("cryptography", ("cryptography",), in_memory=True),
    Stack("psycopg", ("psycopg-binary", "psycopg-c", "psycopg"), "postgres"),
    Stack("psycopg2", ("psycopg2-binary", "psycopg2"), "postgres"),
    Stack("mysql-connector", ("mysql-connector-python",), "mysql"),
    Stack("pycurl", ("pycurl",)),
    Stack("curl_cffi", ("curl-cffi",)),
    Stack("grpcio", ("grpcio",)),
    Stack("awscrt", ("awscrt",)),
    Stack("confluent-kafka", ("confluent-kafka",)),
    Stack("pygit2", ("pygit2",)),
    Stack("primp", ("primp",)),
    Stack("aioquic", ("aioquic",), in_memory=True),
    Stack("gevent", ("gevent",)),
    Stack("uvloop", ("uvloop",)),
    Stack("M2Crypto", ("m2crypto",), why_not=_NOT_DRIVEN),
    Stack("mysqlclient", ("mysqlclient",), why_not=_NOT_DRIVEN),
    Stack("nassl", ("nassl",), why_not=_NOT_DRIVEN),
    Stack("pymssql", ("pymssql",), why_not="its TLS lies inside TDS packets, which pqtls does not speak"),
    Stack("Qt", ("pyside6-essentials", "pyqt6"), why_not=_NOT_DRIVEN),
    Stack("qh3", ("qh3",), why_not=_NOT_DRIVEN),
)
"""All that are looked for, in the order in which they are shown."""

THROUGH_SSL = (
    "aiohttp", "asyncpg", "awscli", "boto3", "botocore", "httplib2", "httpx", "ldap3", "pymongo", "pymysql", "redis",
    "requests", "tornado", "twine", "urllib3", "websockets",
)  # fmt: skip
"""Distributions without a TLS library of their own: they do what the interpreter's `ssl` does."""


@dataclass(frozen=True, slots=True)
class StackReport:
    """What one stack is and did.

    Attributes:
        name: The stack.
        distribution: The distribution that brings it.
        version: The distribution's version.
        library: The TLS library and its version; "" if unknown.
        ml_kem: "negotiates": a finished handshake chose it; "offers": its ClientHello lists it, no handshake with it
            was finished; "no": its ClientHello lists none; "unknown": see `explanation`.
        group: The group that was negotiated; "" without one.
        offered: supported_groups of its ClientHello, GREASE left out.
        explanation: The same for people, as a clause.
    """

    name: str
    distribution: str
    version: str
    library: str
    ml_kem: MlKem
    group: str
    offered: tuple[int, ...]
    explanation: str


def find_stacks(installed: Installed) -> list[tuple[Stack, str]]:
    """Return the stacks that are installed, each with the distribution that brings it.

    Args:
        installed: What is installed.
    """
    pairs = []
    for stack in STACKS:
        name = next((each for each in stack.distributions if each in installed.found), None)
        if name is not None:
            pairs.append((stack, name))
    return pairs


def examine_stacks(
    interpreter: Interpreter,
    installed: Installed,
    pem: Path,
    server: Future[int | None],
    timeout_s: float = TIMEOUT_S,
) -> list[StackReport]:
    """Make every installed stack shake hands, all at the same time, and judge what each did.

    Args:
        interpreter: Whose stacks.
        installed: What is installed there.
        pem: File with the public test certificate and its key, in a private folder of our own.
        server: Will be the port of a TLS server with ML-KEM on loopback; None if there is none.
        timeout_s: When to give one stack up, in seconds.

    Returns:
        One report for each, in the order of `STACKS`.
    """

    def examine(pair: tuple[Stack, str]) -> StackReport:
        return _examine_stack(interpreter, installed, pair, (pem, server, timeout_s))

    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(examine, find_stacks(installed)))


def _examine_stack(
    interpreter: Interpreter,
    installed: Installed,
    pair: tuple[Stack, str],
    how: tuple[Path, Future[int | None], float],
) -> StackReport:
    stack, distribution = pair
    pem, server, timeout_s = how
    version, info = installed.found[distribution]
    if stack.why_not:
        library = read_carried_library(info)
        return _report(pair, version, library, [], stack.why_not)
    home = pem.parent / stack.name
    home.mkdir(mode=0o700)
    listener = StackListener(stack.opening, server)
    try:
        given = {"path": installed.path, "port": listener.port, "pem": str(pem), "site": str(info.parent)}
        environment = _environment(home)
        answer = ask(interpreter.executable, SCRIPTS[stack.name], [json.dumps(given)], environment, timeout_s)
    finally:
        seen = listener.close()
    value = answer.value or {}
    if stack.in_memory:
        seen += _from_memory(value)
    return _report(pair, version, _library(value, info, is_live=bool(seen)), seen, _why_unseen(answer))


def _environment(home: Path) -> dict[str, str]:
    """Return the user's environment without what would lead the stack elsewhere, or write down its secrets."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("PG", "GIT_")) and name != "SSLKEYLOGFILE"
    }
    return {**kept, "HOME": str(home)}


def _from_memory(value: dict[str, Any]) -> list[Handshake]:
    """Return the handshake that a stack had with itself; one that only one end finished is cut after its hello."""
    tracker = HandshakeTracker()
    try:
        both = sorted(value["finished"]) == ["client", "server"]
        for side, data in value["flights"]:
            if both or side == "client":
                tracker.receive_data(Side(side), bytes.fromhex(data))
        if value["hello"]:
            tracker.receive_message(Side.CLIENT, HANDSHAKE, bytes.fromhex(value["hello"]))
    except (KeyError, TypeError, ValueError):
        return []  # a package wrote an answer of its own
    return [tracker.handshake] if tracker.handshake is not None else []


def _why_unseen(answer: Answer) -> str:
    if answer.value is None:
        return f"it {answer.failure}"
    error = str(answer.value.get("error", ""))
    return f"it sent no ClientHello ({error})" if error else "it sent no ClientHello"


def _library(value: dict[str, Any], info: Path, *, is_live: bool) -> str:
    """Return which library it is: what it said, what it mapped of its own, what is linked into it, the system's.

    A libcrypto that it brings may stay unused where another of that name came first, as under a graft: if it shook
    hands, what it mapped tells more than that file.
    """
    if value.get("library"):
        return _clean(str(value["library"]))
    listed = value.get("mapped")
    mapped = [Path(path) for path in listed if isinstance(path, str)] if isinstance(listed, list) else []
    own = _mapped_version([path for path in mapped if path.is_relative_to(info.parent)])
    if own or not is_live:
        return own or read_carried_library(info)
    return read_carried_library(info, only_static=True) or _mapped_version(mapped) or read_carried_library(info)


def _mapped_version(paths: Sequence[Path]) -> str:
    for path in paths:
        try:
            version = read_library_text(path.read_bytes()).version if is_file(path) else ""
        except (OSError, ValueError):
            continue
        if version:
            return version
    return ""


def _report(pair: tuple[Stack, str], version: str, library: str, seen: list[Handshake], why: str) -> StackReport:
    """Judge what was seen: the best handshake counts, since clients that are turned away try again with less."""
    stack, distribution = pair
    best: tuple[int, MlKem, str, tuple[int, ...], str] = (-1, "unknown", "", (), _clean(f"unknown: {why}"))
    for handshake in seen:
        best = max(best, _judge(handshake), key=lambda each: each[0])
    _, ml_kem, group, offered, explanation = best
    return StackReport(stack.name, distribution, version, library, ml_kem, group, offered, explanation)


def _judge(handshake: Handshake) -> tuple[int, MlKem, str, tuple[int, ...], str]:
    if handshake.malformed is not None or not handshake.client_hellos:
        return 0, "unknown", "", (), _clean(f"unknown: {handshake.malformed or 'no ClientHello was seen'}")
    offered = tuple(code for code in handshake.client_hellos[0].groups if not is_grease(code))
    hello, finding = handshake.server_hello, judge(handshake)
    if finding.verdict == "post-quantum" and hello is not None and hello.group is not None:
        group = group_name(hello.group)
        return 3, "negotiates", group, offered, f"negotiates {group}"
    strong = [group_name(code) for code in offered if is_post_quantum_group(code)]
    if strong:
        return 2, "offers", "", offered, f"offers {' '.join(strong)}; no handshake with it was finished"
    return 1, "no", "", offered, f"no: offers {' '.join(group_name(code) for code in offered) or 'no groups'}"


def _clean(text: str) -> str:
    """Return one short printable line, whatever a stack says of itself."""
    line = " ".join(text.split())
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)[:_MAX_TEXT]
