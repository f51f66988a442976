"""What around an interpreter decides over its TLS: trusted CAs, openssl.cnf, FIPS, crypto-policies, proxies.

All is read from the environment and from files; nothing is tried. Of a proxy only host and port are kept: user names
and passwords in its URL are dropped here, before anything can show them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pqtls.errors import UsageError
from pqtls.openssl.conf import _DEFAULT, _MAX_DEPTH, _statements, find_settings_chain
from pqtls.openssl.constants import folders_of
from pqtls.openssl.paths import exists, find_matching, is_file, is_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pqtls.openssl.installed import Installed
    from pqtls.openssl.interpreter import Interpreter

_BUNDLE_VARIABLES = {
    "SSL_CERT_FILE": "ssl",
    "SSL_CERT_DIR": "ssl",
    "REQUESTS_CA_BUNDLE": "requests",
    "CURL_CA_BUNDLE": "requests, curl",
    "AWS_CA_BUNDLE": "boto3, AWS CLI",
}
_PROXY_NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "GRPC_PROXY", "NO_PROXY")
_SETTINGS = re.compile(
    "groups|curves|(min|max)?protocol|cipherstring|ciphersuites|options|(client)?signaturealgorithms", re.IGNORECASE
)
_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_CERTIFICATE = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----")
_MAX_BUNDLE_BYTES = 64 * 1024 * 1024
"""The bundle of every public CA has 0.2 MB."""


@dataclass(frozen=True, slots=True)
class CaBundle:
    """A file or folder with trusted CAs.

    Attributes:
        origin: The variable that names it, "built-in" or "certifi".
        path: Where it is.
        used_by: Whose it is.
        exists: There is such a file or folder.
        certificates: How many it holds; None if it cannot be read.
    """

    origin: str
    path: str
    used_by: str
    exists: bool
    certificates: int | None


@dataclass(frozen=True, slots=True)
class Configuration:
    """OpenSSL's configuration in effect.

    Attributes:
        origin: "OPENSSL_CONF" or "OPENSSLDIR".
        path: Where it is.
        exists: There is such a file; OpenSSL does not mind if not.
        settings: What it sets for every TLS context, as "Groups = X25519MLKEM768", in order.
        obstacle: Why it could not be followed; "" if it could.
    """

    origin: str
    path: str
    exists: bool
    settings: tuple[str, ...]
    obstacle: str


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy variable.

    Attributes:
        variable: Its name.
        shown: host:port of it, or what can be said without giving a secret away.
    """

    variable: str
    shown: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What around an interpreter decides over its TLS.

    Attributes:
        ca_bundles: Those in effect.
        configuration: openssl.cnf.
        fips: The kernel is in FIPS mode; None if it does not say.
        crypto_policy: Name of the system-wide policy; "" without one.
        proxies: Those set.
    """

    ca_bundles: tuple[CaBundle, ...]
    configuration: Configuration
    fips: bool | None
    crypto_policy: str
    proxies: tuple[Proxy, ...]


def look_around(
    interpreter: Interpreter,
    installed: Installed | None = None,
    environment: Mapping[str, str] | None = None,
    root: Path = Path("/"),
) -> Surroundings:
    """Read what around an interpreter decides over its TLS.

    Args:
        interpreter: As inspected.
        installed: What is installed in its environment, for certifi; None if unknown.
        environment: What it is started with; None for this process's environment.
        root: Where the file system starts, for the system-wide policies.
    """
    given = os.environ if environment is None else environment
    return Surroundings(
        ca_bundles=tuple(_find_bundles(interpreter, installed, given)),
        configuration=_find_configuration(interpreter, given),
        fips=_read_fips(root),
        crypto_policy=_read_policy(root),
        proxies=tuple(_find_proxies(given)),
    )


def _find_bundles(
    interpreter: Interpreter, installed: Installed | None, environment: Mapping[str, str]
) -> list[CaBundle]:
    bundles = []
    for variable, used_by in _BUNDLE_VARIABLES.items():
        value = environment.get(variable, "")
        paths = value.split(os.pathsep) if variable == "SSL_CERT_DIR" else [value]
        bundles += [_bundle(variable, path, used_by) for path in paths if path]
    for variable, path in (("SSL_CERT_FILE", interpreter.cafile), ("SSL_CERT_DIR", interpreter.capath)):
        if not environment.get(variable) and path:
            bundles.append(_bundle("built-in", path, "ssl"))
    certifi = installed.found.get("certifi") if installed is not None else None
    if certifi is not None:
        bundles.append(_bundle("certifi", str(certifi[1].parent / "certifi" / "cacert.pem"), "requests, httpx"))
    return bundles


def _bundle(origin: str, path: str, used_by: str) -> CaBundle:
    return CaBundle(origin, path, used_by, exists(Path(path)), count_certificates(Path(path)))


def count_certificates(path: Path) -> int | None:
    """Count the CA certificates that OpenSSL finds in a file or a hashed folder.

    Args:
        path: A PEM file, or a folder with links such as 5ed36f99.0.

    Returns:
        How many; None if it cannot be read.
    """
    if is_folder(path):
        return sum(re.fullmatch(r"[0-9a-f]{8}\.\d+", entry.name) is not None for entry in find_matching(path, "*"))
    try:
        if not is_file(path) or path.stat().st_size > _MAX_BUNDLE_BYTES:
            return None
        return len(_CERTIFICATE.findall(path.read_bytes()))
    except OSError:
        return None


def _find_configuration(interpreter: Interpreter, environment: Mapping[str, str]) -> Configuration:
    configured = environment.get("OPENSSL_CONF")
    origin = "OPENSSLDIR" if configured is None else "OPENSSL_CONF"
    path = Path(folders_of(interpreter).openssl_dir, "openssl.cnf") if configured is None else Path(configured)
    if not is_file(path):
        return Configuration(origin, str(path), exists(path), (), "")
    try:
        settings = _read_settings(path, environment.get("OPENSSL_CONF_INCLUDE", ""))
    except UsageError as error:
        return Configuration(origin, str(path), True, (), error.message)
    except OSError as error:
        return Configuration(origin, str(path), True, (), f"{error.filename} cannot be read: {error.strerror}.")
    return Configuration(origin, str(path), True, settings, "")


def _read_settings(conf: Path, include_folder: str) -> tuple[str, ...]:
    """Return the lines of the section that every TLS context takes its settings from."""
    chain = find_settings_chain(conf, include_folder)
    if len(chain) < 3:
        return ()
    found: dict[str, str] = {}
    section = _DEFAULT
    for kind, name, value in _statements(conf, include_folder, _MAX_DEPTH):
        if kind == "section":
            section = name
            continue
        target, _, key = name.rpartition("::")
        plain = key.rpartition(".")[2]  # a name may carry a prefix: "1.CipherString"
        if (target or section) == chain[-1] and _SETTINGS.fullmatch(plain):
            found[key] = f"{plain} = {value}"
    return tuple(found.values())


def _read_fips(root: Path) -> bool | None:
    text = _read_line(root / "proc/sys/crypto/fips_enabled")
    return None if not text else text == "1"


def _read_policy(root: Path) -> str:
    folder = root / "etc/crypto-policies"
    if not exists(folder):
        return ""
    return _read_line(folder / "state/current") or _read_line(folder / "config") or "of unknown name"


def _read_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in lines if line.strip() and not line.startswith("#")), "")


def _find_proxies(environment: Mapping[str, str]) -> list[Proxy]:
    found = []
    for name in sorted(environment, key=lambda each: (each.upper(), each)):
        if name.upper() in _PROXY_NAMES and environment[name]:
            is_list = name.upper() == "NO_PROXY"
            entries = len([entry for entry in environment[name].split(",") if entry.strip()])
            shown = f"{entries} {'entry' if entries == 1 else 'entries'}" if is_list else show_proxy(environment[name])
            found.append(Proxy(name, shown))
    return found


def show_proxy(value: str) -> str:
    """Return host and port of a proxy, never its user name, password, path or query.

    Args:
        value: What a proxy variable holds.

    Returns:
        Such as "proxy.example:3128"; where two ways of reading the value disagree on what is a secret in it, only
        that it is set.
    """
    rest = re.sub(r"^[A-Za-z][A-Za-z0-9+.-]*://", "", value.strip())
    cautious = re.split(r"[/?#\\]", rest.rpartition("@")[2])[0]
    try:
        parts = urlsplit("//" + rest)
        standard = parts.netloc.rpartition("@")[2]
        _ = parts.port  # raises where it is none
    except ValueError:
        standard = ""
    if cautious != standard or not _HOST_PORT.fullmatch(cautious):
        return "set, in a form that is not shown"
    return cautious
