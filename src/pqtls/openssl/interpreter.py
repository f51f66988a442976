"""What one Python interpreter is, and which OpenSSL stands under its `ssl` module.

The interpreter is started once, isolated and without any graft of pqtls in its environment, and asked; the rest
is read from its ELF files. What was mapped into that process (/proc/self/maps) outranks what the files suggest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pqtls.errors import UsageError
from pqtls.openssl.child import MARK, ask
from pqtls.openssl.command_line import find_interpreter
from pqtls.openssl.elf import ElfError, ElfFile, read_elf
from pqtls.openssl.environment import strip_graft
from pqtls.openssl.paths import exists

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Interpreter", "Linkage", "find_interpreter", "inspect_interpreter"]

Linkage = Literal["dynamic", "static", "openssl-1.1", "libressl", "other", "no-ssl"]

# Runs in the inspected interpreter: Python 3.6 syntax.
_SCRIPT = r"""
import json, os, sys
answer = {
    "executable": sys.executable,
    "version": ".".join(str(part) for part in sys.version_info[:3]),
    "implementation": sys.implementation.name,
    "platform": sys.platform,
    "machine": os.uname().machine if hasattr(os, "uname") else "",
    "glibc": "",
    "ssl_error": "",
    "site_packages": [],
    "mapped": [],
}
try:
    answer["glibc"] = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (AttributeError, ValueError, OSError):
    pass
try:
    import ssl, _ssl
    paths = ssl.get_default_verify_paths()
    answer["openssl_version"] = ssl.OPENSSL_VERSION
    answer["openssl_version_info"] = list(ssl.OPENSSL_VERSION_INFO)
    answer["cafile"] = paths.openssl_cafile
    answer["capath"] = paths.openssl_capath
    answer["ssl_module"] = getattr(_ssl, "__file__", None)
except Exception as error:
    answer["ssl_error"] = "{}: {}".format(type(error).__name__, error)
try:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            path = line.rstrip("\n").partition("/")[2]
            if "libssl" in path or "libcrypto" in path or "libpython" in path:
                if "/" + path not in answer["mapped"]:
                    answer["mapped"].append("/" + path)
except (OSError, UnicodeError):
    pass
try:
    import site
    answer["site_packages"] = site.getsitepackages() + [site.getusersitepackages()]
except Exception:
    answer["site_packages"] = [path for path in sys.path if path.endswith("-packages")]
print("@MARK@" + json.dumps(answer))
""".replace("@MARK@", MARK)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One Python interpreter as found.

    Attributes:
        executable: As the interpreter itself names it (a wrapper such as pyenv's is seen through).
        version: Of Python, such as "3.11.7".
        implementation: "cpython", "pypy".
        platform: sys.platform.
        machine: Of the kernel, such as "x86_64"; `elf` tells what the program itself is built for.
        elf: Its program file; None where that is no ELF file (macOS, Windows).
        glibc: Version of the running glibc, such as (2, 36); empty on anything else.
        linkage: How `ssl` is linked to OpenSSL; "dynamic" means to libssl.so.3.
        openssl_version: ssl.OPENSSL_VERSION, of the library at run time; "" without `ssl`.
        openssl_version_info: ssl.OPENSSL_VERSION_INFO.
        cafile: Built-in path of the default CA file, whatever SSL_CERT_FILE says.
        capath: Built-in path of the default CA folder, whatever SSL_CERT_DIR says.
        ssl_module: File of `_ssl`; None if it is built into the interpreter or there is none.
        ssl_error: Why `import ssl` failed; "" if it did not.
        libssl: File of the libssl that it mapped, None if unknown.
        libcrypto: File of the libcrypto that it mapped, None if unknown.
        has_blocking_rpath: DT_RPATH leads it to its libssl or libcrypto, so that LD_LIBRARY_PATH has no effect.
        site_packages: Folders where its wheels are installed, the user's own included.
    """

    executable: Path
    version: str
    implementation: str
    platform: str
    machine: str
    elf: ElfFile | None
    glibc: tuple[int, ...]
    linkage: Linkage
    openssl_version: str
    openssl_version_info: tuple[int, ...]
    cafile: str
    capath: str
    ssl_module: Path | None
    ssl_error: str
    libssl: Path | None
    libcrypto: Path | None
    has_blocking_rpath: bool
    site_packages: tuple[Path, ...]

    @property
    def is_musl(self) -> bool:
        """Its C library is musl."""
        return self.elf is not None and self.elf.libc == "musl"


def inspect_interpreter(
    executable: Path | str, environment: Mapping[str, str] | None = None, *, is_bare: bool = False
) -> Interpreter:
    """Find out which Python this is and which OpenSSL stands under its `ssl` module.

    Args:
        executable: A Python 3.6 or newer, or a wrapper that starts one.
        environment: What it would be started with; None for this process's environment. A graft of pqtls in it
            is left out.
        is_bare: Without `site`, so that a graft of `pqtls enable` is left out too; its own folders of wheels are not
            known then.

    Returns:
        The interpreter as found.

    Raises:
        UsageError: There is no such program, it cannot be executed, or it is no such Python.
    """
    answer = ask(
        executable, _SCRIPT, (), strip_graft(os.environ if environment is None else environment), is_bare=is_bare
    )
    found = answer.value
    if found is None:
        what = "" if answer.starts else "there is no such program, or it "
        raise UsageError(
            f"{executable} is not a usable Python: {what or 'it '}{answer.failure}.",
            "Name a Python 3.6 or newer that starts, for example with --python or PATH.",
        )
    return _interpreter(found, Path(executable))


def _interpreter(found: dict[str, Any], asked: Path) -> Interpreter:
    executable = Path(str(found["executable"] or asked))
    elf = _elf(executable)
    module = Path(found["ssl_module"]) if found.get("ssl_module") else None
    mapped = [Path(path) for path in found["mapped"]]
    linking = [(module or executable, _elf(module) if module else elf)]
    linking += [(executable, elf)]
    linking += [(path, _elf(path)) for path in mapped if path.name.startswith("libpython")]
    needed = {entry.value for _, file in linking if file is not None for entry in file.needed}
    libssl, libcrypto = (_mapped(mapped, name) for name in ("libssl", "libcrypto"))
    glibc = str(found["glibc"]).removeprefix("glibc ").split(".")
    return Interpreter(
        executable=executable,
        version=str(found["version"]),
        implementation=str(found["implementation"]),
        platform=str(found["platform"]),
        machine=str(found["machine"]),
        elf=elf,
        glibc=tuple(int(part) for part in glibc if part.isdecimal()),
        linkage=_linkage(str(found.get("openssl_version", "")), str(found["ssl_error"]), needed),
        openssl_version=str(found.get("openssl_version", "")),
        openssl_version_info=tuple(int(part) for part in found.get("openssl_version_info", ())),
        cafile=str(found.get("cafile", "")),
        capath=str(found.get("capath", "")),
        ssl_module=module,
        ssl_error=str(found["ssl_error"]),
        libssl=libssl,
        libcrypto=libcrypto,
        has_blocking_rpath=_is_blocked(linking, [path for path in (libssl, libcrypto) if path]),
        site_packages=tuple(Path(path) for path in found["site_packages"]),
    )


def _elf(path: Path) -> ElfFile | None:
    try:
        return read_elf(path)
    except ElfError:
        return None


def _mapped(mapped: list[Path], name: str) -> Path | None:
    """Return the mapped file that stands for a library, the one with OpenSSL's own soname first."""
    found = [path for path in mapped if path.name.startswith(name)]
    return next((path for path in found if path.name == f"{name}.so.3"), found[0] if found else None)


def _linkage(version: str, error: str, needed: set[str]) -> Linkage:
    """Tell how `ssl` is linked, from the version that ran and the names that the linking files need."""
    if any(name.startswith("libssl") and ".so.1" in name for name in needed):
        return "openssl-1.1"
    if error and not version:
        return "no-ssl"
    if version.startswith("LibreSSL"):
        return "libressl"
    if version.startswith("OpenSSL 1."):
        return "openssl-1.1"
    if not version.startswith("OpenSSL "):
        return "other"
    return "dynamic" if "libssl.so.3" in needed else "static"


def _is_blocked(linking: list[tuple[Path, ElfFile | None]], libraries: list[Path]) -> bool:
    """Tell whether a DT_RPATH (one that no DT_RUNPATH switches off) leads to the libraries.

    Where it is unknown which libraries were mapped, any such DT_RPATH counts.
    """
    for path, file in linking:
        if file is None or file.rpath is None or file.runpath is not None:
            continue
        origin = str(path.resolve().parent)
        elements = [
            element.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
            for element in file.rpath.value.split(":")
            if element
        ]
        folders = [Path(element).resolve() for element in elements]
        if not libraries or any(exists(folder / library.name) for folder in folders for library in libraries):
            return True
    return False
