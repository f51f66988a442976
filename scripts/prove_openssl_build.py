"""Prove `pqtls openssl build` with a real release: build it, run the whole suite on it, compare the default CAs.

The tarball is TARBALL (with SHA256, if pqtls does not know it) or comes out of Debian's source packages by apt-get,
which verifies it against Debian's signed index. TWICE=1 builds it a second time elsewhere and compares the bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RELEASE = "trixie"
PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]
COUNT_CAS = "import ssl; print(len(ssl.create_default_context().get_ca_certs()), ssl.OPENSSL_VERSION)"


def main() -> int:
    """Run every step; return 0 if all is as it should be."""
    with tempfile.TemporaryDirectory(prefix="pqtls-build-") as name:
        folder = Path(name)
        tarball, sha256 = find_tarball(folder)
        print(f"tarball   {tarball.name}, sha256 {sha256}", flush=True)
        expect(pqtls(folder, "openssl", "build", "--source", str(tarball), "--sha256", "0" * 64), 2, "wrong checksum")
        began = time.monotonic()
        expect(pqtls(folder, "openssl", "build", "--source", str(tarball), "--sha256", sha256), 0, "build")
        print(f"took      {time.monotonic() - began:.0f} s on {os.cpu_count()} processors, load included", flush=True)
        (build,) = sorted((folder / "pqtls" / "openssl").glob("openssl-*"))
        manifest = json.loads((build / "build.json").read_text())
        sizes = sum(file["bytes"] for file in manifest["files"].values())
        print(f"made      {manifest['version']}, {sizes / 1e6:.1f} MB, glibc >= {manifest['glibc_floor']}", flush=True)
        for library, file in manifest["files"].items():
            print(f"          {library} sha256 {file['sha256']}", flush=True)
        listed = pqtls(folder, "openssl", "list", "--json")
        expect(listed, 0, "list")
        entry = next(each for each in json.loads(listed.stdout)["openssl"] if each["kind"] == "build")
        if not (entry["usable"] and entry["as_recorded"]):
            sys.exit(f"the build is no source: {entry['reason']}")
        check_certificates(folder, build)
        source = ("--openssl", "graft", "--openssl-source", str(build))
        expect(pqtls(folder, "test", "--local", *source), 0, "pqtls test on the build")
        expect(pqtls(folder, "test", "--local", "--openssl", "system"), 1, "pqtls test on the system's own (control)")
        if os.environ.get("TWICE"):
            check_reproducible(folder, tarball, sha256, manifest)
    print("all as it should be")
    return 0


def find_tarball(folder: Path) -> tuple[Path, str]:
    """Return a release tarball and what it must hash to."""
    if os.environ.get("TARBALL"):
        path = Path(os.environ["TARBALL"]).resolve()
        return path, os.environ.get("SHA256") or hashlib.sha256(path.read_bytes()).hexdigest()
    if shutil.which("apt-get") is None:
        sys.exit("Name a release tarball: make test-openssl-build TARBALL=/path/to/openssl-3.5.x.tar.gz")
    return download(folder / "apt")


def download(folder: Path) -> tuple[Path, str]:
    """Get the newest 3.5 that Debian's mirror still has, without touching the machine's own apt."""
    (folder / "lists" / "partial").mkdir(parents=True)
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    own = run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"])
    mirrors = [uri for uri in dict.fromkeys(own.stdout.split()) if "security" not in uri]
    if not mirrors:
        sys.exit("This machine's apt has no Debian mirror; name a release tarball with TARBALL=.")
    (folder / "debian.sources").write_text(
        f"Types: deb-src\nURIs: {mirrors[0]}\nSuites: {RELEASE} {RELEASE}-updates\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )

    options = [
        f"Dir::Etc::sourcelist={folder}/debian.sources", "Dir::Etc::sourceparts=/dev/null",
        f"Dir::State::lists={folder}/lists", f"Dir::Cache={folder}/cache", "APT::Sandbox::User=root",
    ]  # fmt: skip
    given = [part for option in options for part in ("-o", option)]
    run(["apt-get", *given, "update"])
    index = run(["apt-cache", *given, "showsrc", "openssl"]).stdout
    hashes = dict(re.findall(r"^ ([0-9a-f]{64}) \d+ (openssl_3\.5\.\d+\.orig\.tar\.gz)$", index, re.MULTILINE))
    by_name = {name: sha256 for sha256, name in hashes.items()}
    for version in sorted(set(re.findall(r"^Version: (3\.5\.\S+)$", index, re.MULTILINE)), reverse=True):
        command = ["apt-get", *given, "source", "--download-only", f"openssl={version}"]
        if run(command, folder, check=False).returncode == 0:
            (tarball,) = folder.glob("openssl_3.5.*.orig.tar.gz")
            return tarball, by_name[tarball.name]
    sys.exit("Debian's mirror has no source of OpenSSL 3.5 left; name a release tarball with TARBALL=.")


def check_certificates(folder: Path, build: Path) -> None:
    """The default CA certificates are those of the plain interpreter, and the library is the build."""
    plain = run([sys.executable, "-c", COUNT_CAS], env=environment(folder)).stdout.split(maxsplit=1)
    command = ["run", "--openssl", "graft", "--openssl-source", str(build), "--", sys.executable, "-c", COUNT_CAS]
    grafted = pqtls(folder, *command).stdout.split(maxsplit=1)
    print(f"CAs       {plain[0]} with {plain[1].strip()}, {grafted[0]} with {grafted[1].strip()}", flush=True)
    if plain[0] != grafted[0] or plain[0] == "0" or plain[1] == grafted[1]:
        sys.exit("the default CA certificates are not those of the plain interpreter")


def check_reproducible(folder: Path, tarball: Path, sha256: str, manifest: dict[str, object]) -> None:
    """The same tarball and compiler, in another folder: the same bytes."""
    second = folder / "second"
    second.mkdir(mode=0o700)
    expect(pqtls(second, "openssl", "build", "--source", str(tarball), "--sha256", sha256), 0, "second build")
    (again,) = (second / "pqtls" / "openssl").glob("openssl-*/build.json")
    is_same = json.loads(again.read_text())["files"] == manifest["files"]
    print(f"again     {'the same bytes' if is_same else 'other bytes'}", flush=True)
    if not is_same:
        sys.exit("the second build is not the first")


def environment(cache: Path) -> dict[str, str]:
    """Return a bare environment with a cache of its own."""
    return {"PATH": os.environ["PATH"], "HOME": str(Path.home()), "XDG_CACHE_HOME": str(cache)}


def pqtls(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pqtls."""
    return run([*PQTLS, *arguments], env=environment(cache), check=False)


def run(
    command: list[str], folder: Path | None = None, env: dict[str, str] | None = None, *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a command, its output taken."""
    return subprocess.run(command, cwd=folder, env=env, check=check, capture_output=True, text=True, timeout=3600)


def expect(done: subprocess.CompletedProcess[str], code: int, what: str) -> None:
    """End if a command did not end as it should."""
    print(f"exit {done.returncode}    {what}", flush=True)
    if done.returncode != code:
        sys.exit(f"{what}: exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
