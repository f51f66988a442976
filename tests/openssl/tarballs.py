"""Small tarballs in the shape of an OpenSSL release, whose Configure and Makefile are stubs."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

VERSION_DAT = 'MAJOR={0}\nMINOR={1}\nPATCH={2}\nPRE_RELEASE_TAG={3}\nBUILD_METADATA=\nRELEASE_DATE="9 Jun 2026"\n'

# Writes the Makefile, and what it was called with.
CONFIGURE = r"""#!/usr/bin/perl
open(my $told, ">>", "@TOLD@"); print $told join("\n", "Configure", @ARGV, map { "$_=$ENV{$_}" } sort keys %ENV), "\n";
open(my $make, ">", "Makefile");
print $make <<'END';
@MAKEFILE@
END
exit @CODE@;
"""


def makefile(libssl: Path, libcrypto: Path, before: str = "true") -> str:
    """Return a Makefile whose libraries are copies, after a command."""
    return (
        "build_generated:\n\t@echo generated\n"
        f"libcrypto.so.3:\n\t{before}\n\t@echo cc -c -o crypto/one.o crypto/one.c\n\tcp {libcrypto} libcrypto.so.3\n"
        f"libssl.so.3:\n\t@echo cc -c -o ssl/two.o ssl/two.c\n\tcp {libssl} libssl.so.3\n"
    )


def release_files(
    version: tuple[int, int, int], makefile_text: str, told: Path, *, code: int = 0, tag: str = ""
) -> dict[str, str]:
    """Return the files of a stub release."""
    configure = CONFIGURE.replace("@MAKEFILE@", makefile_text).replace("@TOLD@", str(told)).replace("@CODE@", str(code))
    return {"Configure": configure, "VERSION.dat": VERSION_DAT.format(*version, tag), "LICENSE.txt": "Apache 2.0\n"}


def write_tarball(path: Path, files: Mapping[str, str], top: str = "openssl-3.5.9") -> str:
    """Write a tarball with everything in one folder; returns its sha256."""
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            data = text.encode()
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mtime, member.mode = len(data), 1_781_000_000, 0o755 if name == "Configure" else 0o644
            archive.addfile(member, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()
