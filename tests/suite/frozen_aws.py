"""A stand-in for AWS's own AWS CLI v2: a real ELF program, laid out as its installer does, with an OpenSSL of its own.

PyInstaller's launcher puts its own folder before LD_LIBRARY_PATH (tried with 6.x: a graft changes nothing, and no
sitecustomize is loaded). Here a few bytes of machine code do the same through the dynamic loader.
"""

from __future__ import annotations

import shutil
import struct
import sys
import sysconfig
from pathlib import Path

BASE = 0x400000
HEADERS = 64 + 56
CLIENT = """
import json, os, ssl, sys, urllib.request
libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
if any(os.path.exists(os.path.join(each, "manifest.json")) for each in libraries):
    sys.exit("a graft was given to it")
context = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
url = "https://secretsmanager.us-east-2.amazonaws.com/ping"
print(ssl.OPENSSL_VERSION, urllib.request.urlopen(url, context=context, timeout=10).read())
"""


def write_launcher(path: Path, arguments: list[str]) -> None:
    """Write a static x86-64 program that becomes another one, with the environment as it is."""
    strings = b""
    offsets = []
    for each in arguments:
        offsets.append(len(strings))
        strings += each.encode() + b"\0"
    code_size = 0x32
    table = BASE + HEADERS + code_size
    first = table + 8 * (len(arguments) + 1)
    code = (
        b"\x48\x8b\x04\x24"  # mov rax, [rsp]: argc
        b"\x48\x8d\x54\xc4\x10"  # lea rdx, [rsp + 8 * rax + 16]: the environment
        b"\x48\xbf"
        + struct.pack("<Q", first)
        + b"\x48\xbe"
        + struct.pack("<Q", table)  # mov rdi, rsi
        + b"\xb8\x3b\0\0\0\x0f\x05"  # execve
        b"\xbf\x7f\0\0\0\xb8\x3c\0\0\0\x0f\x05"  # exit(127)
    )
    assert len(code) <= code_size
    data = code.ljust(code_size, b"\x90")
    data += b"".join(struct.pack("<Q", first + offset) for offset in offsets) + bytes(8) + strings
    size = HEADERS + len(data)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE + HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x1000)
    path.write_bytes(header + segment + data)
    path.chmod(0o755)


def install(folder: Path, libssl: Path, libcrypto: Path, loader: str) -> Path:
    """Lay it out below a folder, and return the folder for PATH."""
    dist = folder / "aws-cli" / "v2" / "2.36.50" / "dist"
    dist.mkdir(parents=True)
    shutil.copy(libssl, dist / "libssl.so.3")
    shutil.copy(libcrypto, dist / "libcrypto.so.3")
    (dist / "client.py").write_text(CLIENT)
    libraries = f"{dist}:{sysconfig.get_config_var('LIBDIR')}"
    python = str(Path(sys.executable).resolve())
    write_launcher(dist / "aws", [loader, "--library-path", libraries, python, "-I", str(dist / "client.py")])
    (folder / "bin").mkdir()
    (folder / "bin" / "aws").symlink_to(dist / "aws")
    return folder / "bin"
