"""Build the container image and run it for real: with Docker where an engine runs, else with buildah on debootstrap.

Fails unless `pqtls test --local` in the image, as the image's user, is proven natively for eight clients, and its
negative control is found out. Everything is made in one temporary folder, which is removed at the end.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
BASE = "debian:trixie-slim"
SUITE = "trixie"
CLIENTS = 8
DEFAULT = ["test", "--local"]
CONTROL = ["test", "--local", "--server-groups", "x25519"]
# A case of the user's own, in a folder that is mounted: two connections, by two libraries.
OWN_CASE = ["test", "--local", "--case", "/cases/mine.py"]
MINE = """\
import boto3, requests
print(requests.get("https://secretsmanager.us-east-1.amazonaws.com/ping", timeout=10).status_code)
print(len(boto3.client("secretsmanager", region_name="us-east-2").list_secrets()["SecretList"]))
"""
COMPOSED = ["test", "--local", "--json", "/proof/pqtls.jsonl", "--junit", "/proof/pqtls.xml"]
CAPTURED = ["test", "--local", "--network", "namespaces", "--json", "/proof/pqtls.jsonl", "--junit", "/proof/pqtls.xml"]
CAPTURED += ["--pcap", "/proof/pqtls.pcap"]
UNCONFINED = ["seccomp", "apparmor", "systempaths"]
LOOK_ROUND = "id; aws --version; python -c 'import boto3, requests, ssl; print(ssl.OPENSSL_VERSION)'; exit\n"
# Mounts and processes of what runs behind this end with it, however it ends, so that the folder can be removed.
CONTAINED = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
# As compose.yaml: no network but loopback, a read-only root, two temporary folders, no capability, none to be had.
SEALED = """set -e
"$PYTHON" -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH14x", b"lo", 1))'
mount --bind "$ROOTFS" "$ROOTFS"
mount -t proc proc "$ROOTFS/proc"
mount --rbind /dev "$ROOTFS/dev"
mount --bind "$PROOF" "$ROOTFS/proof"
for each in tmp home/pqtls/.cache; do mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs "$ROOTFS/$each"; done
mount -o remount,bind,ro "$ROOTFS"
cd "$ROOTFS"
# In a chroot the kernel makes no user namespace, as if Docker's default profile refused it; after pivot_root it does.
enter=; if [ "$CAPTURE" = yes ]; then pivot_root . .; umount --lazy .; cd /; else enter="chroot ."; fi
exec $enter setpriv --reuid "${ID%:*}" --regid "${ID#*:}" --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all --pdeathsig KILL env --ignore-environment --chdir=/tmp "$@"
"""


class ImageError(Exception):
    """The image cannot be built here, or is not what it has to be."""


def call(*arguments: str | Path, **rest: Any) -> str:
    """Run a program and return what it printed; an ImageError with its last lines if it failed."""
    command = [str(each) for each in arguments]
    done = subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1800, **rest
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise ImageError(f"{shlex.join(command)}\nended with exit code {done.returncode}:\n{tail}")
    return str(done.stdout)


class Steps:
    """Tells each step and the time it took."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self._step = self.began

    def done(self, text: str) -> None:
        """Tell what was done since the last one."""
        now = time.monotonic()
        print(f"{now - self._step:6.1f} s  {text}", flush=True)
        self._step = now


def write_pip_settings(folder: Path) -> list[str]:
    """Write this machine's package index and authority as the build's secrets.

    Returns:
        The hosts in them, none of which may be in the image.
    """
    settings: dict[str, str] = {}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True
    ).stdout
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = str(ast.literal_eval(value))  # the environment's own come last
    authority = settings.get("cert") or os.environ.get("SSL_CERT_FILE")
    lines, hosts = ["[global]"], []
    for key in ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout"):
        # Folders of this machine are not in the build.
        values = [value for value in settings.get(key, "").split() if not value.startswith(("file:", "/"))]
        if values:
            lines.append(f"{key} = {' '.join(values)}")
        if "timeout" not in key:
            hosts += [urlsplit(value).hostname or value for value in values]
    if authority:
        lines.append("cert = /run/secrets/ca.pem")
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
    (folder / "ca.pem").write_bytes(Path(authority).read_bytes() if authority else b"")
    return hosts


class Docker:
    """An image made and run by a Docker engine."""

    def __init__(self, tag: str, folder: Path, _mirror: str) -> None:
        self.tag = tag
        self.folder = folder
        self.name = "Docker"

    def build(self, steps: Steps) -> None:
        """Build the image."""
        write_pip_settings(self.folder)
        secrets = [f"--secret=id={name},src={self.folder / name}" for name in ("pip.conf", "ca.pem")]
        call("docker", "build", *secrets, "--tag", self.tag, ROOT, env={**os.environ, "DOCKER_BUILDKIT": "1"})
        steps.done("docker build")

    def command(self, arguments: list[str], volume: str = "") -> list[str]:
        """Return the command that runs the image, with a folder mounted; without arguments, what it runs by itself."""
        options = [f"--volume={volume}"] if volume else []
        return ["docker", "run", "--rm", "--interactive", *options, self.tag, *arguments]

    def sealed_command(self, arguments: list[str], proof: Path, *, capture: bool = False) -> list[str]:
        """Return the command that runs the image as compose.yaml does, with or without namespaces allowed in it."""
        options = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none"]
        options += ["--tmpfs=/tmp", "--tmpfs=/home/pqtls/.cache", f"--volume={proof}:/proof"]
        options += [f"--security-opt={each}=unconfined" for each in UNCONFINED if capture]
        proof.chmod(0o777)  # for the image's user; only we can enter the folder above
        return ["docker", "run", "--rm", *options, self.tag, *arguments]

    def find_leaks(self) -> list[str]:
        """Return nothing: Docker's secrets are in no layer, and its base is not of our making."""
        return []

    def describe_size(self) -> str:
        """Return the image's size in words."""
        size = int(call("docker", "image", "inspect", "--format", "{{.Size}}", self.tag))
        return f"{size / 1e6:,.0f} MB"

    def close(self) -> None:
        """Leave the image, which the user asked for."""


class Buildah:
    """An image made without an engine: buildah with chroot isolation, on a base by debootstrap."""

    def __init__(self, tag: str, folder: Path, mirror: str) -> None:
        self.tag = tag
        self.folder = folder
        self.name = "buildah, chroot isolation"
        self._mirror = mirror
        self._hosts: list[str] = []
        self._container = ""
        missing = [name for name in ("buildah", "debootstrap") if shutil.which(name) is None]
        if missing:
            raise ImageError(f"No Docker engine runs here. To do without: apt-get install {' '.join(missing)}")
        if os.geteuid() != 0:
            raise ImageError("No Docker engine runs here, and debootstrap and chroot need root.")

    def _buildah(self, *arguments: str | Path) -> list[str]:
        storage = ["--storage-driver", "vfs", "--root", self.folder / "storage", "--runroot", self.folder / "run"]
        return ["env", f"TMPDIR={self.folder}", "buildah", *map(str, storage), *map(str, arguments)]

    def _read_sources(self) -> list[tuple[str, str]]:
        """Return mirror and suite of each Debian archive that this machine uses, its own release's name replaced."""
        if self._mirror:
            return [(self._mirror, SUITE)]
        listed = call(
            *("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME) $(ORIGIN)", "Created-By: Packages")
        )
        found = {}
        for line in listed.splitlines():
            address, codename, origin = [*line.split(), "", ""][:3]
            if origin == "Debian":
                _, dash, pocket = codename.partition("-")
                found[SUITE + dash + pocket] = address
        if SUITE not in found:
            raise ImageError("apt knows no Debian mirror here (apt-get update?). Name one: --mirror URL")
        return [(address, suite) for suite, address in sorted(found.items())]

    def build(self, steps: Steps) -> None:
        """Make the base, then build the Dockerfile on it."""
        sources = self._read_sources()
        self._hosts = [urlsplit(address).hostname or address for address, _ in sources]
        self._hosts += write_pip_settings(self.folder)
        mirror = next(address for address, suite in sources if suite == SUITE)
        self._make_base(mirror)
        steps.done(f"debootstrap: Debian {SUITE}, minbase")

        scratch = call(*self._buildah("from", "scratch")).strip()
        call(*self._buildah("add", scratch, self.folder / "base", "/"))
        call(*self._buildah("config", "--cmd", "bash", scratch))
        call(*self._buildah("commit", "--quiet", "--rm", "--disable-compression", scratch, BASE))
        shutil.rmtree(self.folder / "base")
        steps.done(f"imported as {BASE}")

        relaxed = (
            "[check-valid-until=no] " if '"false"' in call("apt-config", "dump", "Acquire::Check-Valid-Until") else ""
        )
        (self.folder / "sources.list").write_text(
            "".join(f"deb {relaxed}{address} {suite} main\n" for address, suite in sources)
        )
        options = [f"--secret=id={name},src={self.folder / name}" for name in ("pip.conf", "ca.pem")]
        options.append(f"--volume={self.folder / 'sources.list'}:/etc/apt/sources.list:ro")
        call(*CONTAINED, *self._buildah("bud", "--isolation=chroot", "--pull-never", *options, "--tag", self.tag, ROOT))
        self._container = call(*self._buildah("from", "--pull-never", self.tag)).strip()
        steps.done("buildah bud --isolation=chroot, the Dockerfile")

    def _make_base(self, mirror: str) -> None:
        base = self.folder / "base"
        extra = ["--include=ca-certificates"] if mirror.startswith("https:") else []
        call(*CONTAINED, "debootstrap", "--variant=minbase", *extra, SUITE, base, mirror)
        # What Debian's own slim image has not, either; and nothing of this machine, not even its mirror's name.
        slim = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*"]
        (base / "etc/dpkg/dpkg.cfg.d/slim").write_text("".join(f"path-exclude {each}\n" for each in slim))
        for each in (*slim, "/var/cache/apt/*", "/var/lib/apt/lists/*", "/var/log/*.log", "/var/log/apt"):
            for path in base.glob(each[1:]):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name in ("etc/apt/sources.list", "etc/resolv.conf", "etc/hostname"):
            (base / name).write_text("")

    def _inspect(self) -> dict[str, Any]:
        inspected: dict[str, Any] = json.loads(call(*self._buildah("inspect", "--type", "image", self.tag)))
        return inspected

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = self._inspect()["OCIv1"]["config"]
        return config

    def command(self, arguments: list[str], volume: str = "") -> list[str]:
        """Return the command that runs the image, with a folder mounted; without arguments, what it runs by itself."""
        config = self._config()  # buildah run takes the image's user and environment, but not its entry point
        line = [*config["Entrypoint"], *(arguments or config["Cmd"])]
        options = ["--isolation=chroot", *([f"--volume={volume}"] if volume else [])]
        return [*CONTAINED, *self._buildah("run", *options, self._container, "--", *line)]

    def sealed_command(self, arguments: list[str], proof: Path, *, capture: bool = False) -> list[str]:
        """Return the command that runs the image as compose.yaml does, with or without namespaces allowed in it."""
        config = self._config()
        rootfs = call(*self._buildah("mount", self._container)).strip()
        os.chown(proof, *map(int, config["User"].split(":")))
        settings = [f"PYTHON={sys.executable}", f"ROOTFS={rootfs}", f"PROOF={proof}", f"ID={config['User']}"]
        settings.append(f"CAPTURE={'yes' if capture else 'no'}")
        return [
            *("env", *settings, *CONTAINED, "--net", "--ipc"),
            *("sh", "-c", SEALED, "sh", *config["Env"], *config["Entrypoint"], *arguments),
        ]

    def find_leaks(self) -> list[str]:
        """Return what of this machine's registries and authority is left in the image."""
        inspected = self._inspect()
        leaks = [f"{host} in the image's configuration" for host in self._hosts if host in json.dumps(inspected)]
        leaks += [each for each in inspected["OCIv1"]["config"]["Env"] if re.match(r"PIP_|\w*proxy|SSL_", each, re.I)]
        rootfs = Path(call(*self._buildah("mount", self._container)).strip())
        leaks += [
            f"/{name}" for name in ("run/secrets", "etc/pip.conf", "opt/pqtls/pip.conf") if (rootfs / name).exists()
        ]
        for folder in ("etc", "run", "root", "home", "tmp", "proof", "build", "opt/pqtls", "var"):
            for path in (rootfs / folder).rglob("*"):
                # The packages' own documents may name public hosts; what an installer noted down is direct_url.json.
                if not path.is_file() or path.is_symlink():
                    continue
                if "site-packages" in path.parts and path.name != "direct_url.json":
                    continue
                leaks += [
                    f"{host} in {path.relative_to(rootfs)}"
                    for host in self._hosts
                    if host.encode() in path.read_bytes()
                ]
        shipped = {path.read_text().strip() for path in (rootfs / "usr/share/ca-certificates").rglob("*.crt")}
        bundle = (rootfs / "etc/ssl/certs/ca-certificates.crt").read_text()
        trusted = re.findall(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", bundle, re.S)
        leaks += ["a certificate authority that Debian does not ship" for each in trusted if each not in shipped]
        return leaks

    def describe_size(self) -> str:
        """Return the image's size in words."""
        archive = self.folder / "image.tar"
        call(*self._buildah("push", "--quiet", self.tag, f"oci-archive:{archive}"))
        rootfs = call(*self._buildah("mount", self._container)).strip()
        unpacked = int(call("du", "--summarize", "--bytes", "--one-file-system", rootfs).split()[0])
        return f"{unpacked / 1e6:,.0f} MB unpacked, {archive.stat().st_size / 1e6:,.0f} MB to download"

    def close(self) -> None:
        """Give the storage back."""
        subprocess.run(self._buildah("rm", "--all"), check=False, capture_output=True)
        subprocess.run(self._buildah("rmi", "--all", "--force"), check=False, capture_output=True)


def show(title: str, command: list[str], expected: int, *, feed: str = "", brief: bool = False) -> str:
    """Run the image, show what it printed, and return that; an ImageError if the exit code is another."""
    print(f"\n$ {title}", flush=True)
    done = subprocess.run(
        command,
        check=False,
        text=True,
        input=feed,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=900,
        cwd="/",
    )
    lines = done.stdout.splitlines()
    if brief and done.returncode == expected:  # without each client's connections
        lines = [line for line in lines if line and not line.startswith("   ")]
    print("\n".join(lines) + "\n", flush=True)
    if done.returncode != expected:
        raise ImageError(f"{title}: exit code {done.returncode}, not {expected}")
    return done.stdout


def check_proof(proof: Path, witness: str) -> None:
    """Check the JSON Lines and JUnit that a run left: native, eight clients, all post-quantum, seen by this witness."""
    lines = [json.loads(line) for line in (proof / "pqtls.jsonl").read_text().splitlines()]
    way, cases = lines[0]["openssl"]["way"], lines[-1]["cases"]
    sources = [set(line["sources"]) for line in lines if line["schema"] == "pqtls/observation/1"]
    if len(sources) < CLIENTS or any(each != {"recorder", witness} for each in sources):
        raise ImageError(f"not every connection was seen by recorder and {witness}")
    good = way == "native" and len(cases) == CLIENTS and set(cases.values()) == {"post-quantum"}
    if not good or lines[-1]["exit_code"] != 0 or "<testsuite" not in (proof / "pqtls.xml").read_text():
        raise ImageError(f"the run's own record says {way}, {cases}")


def prove(engine: Docker | Buildah, steps: Steps) -> None:
    """Run the image in every documented way and check each."""
    print(f"\nThe commands below are what a user types; here they are carried out by {engine.name}.")
    output = show(f"docker run --rm {engine.tag}", engine.command([]), expected=0)
    if "(native)" not in output or f"PASS: {CLIENTS} of {CLIENTS} clients" not in output:
        raise ImageError("the suite passed, but not natively with eight clients")
    steps.done(f"exit code 0, way native, {CLIENTS} of {CLIENTS} clients")

    output = show(
        f"docker run --rm {engine.tag} {shlex.join(CONTROL)}", engine.command(CONTROL), expected=1, brief=True
    )
    if "FAIL:" not in output:
        raise ImageError("the negative control ended with exit code 1, but not by the suite's word")
    steps.done("negative control: exit code 1")

    cases = engine.folder / "cases"
    cases.mkdir(mode=0o755)
    (cases / "mine.py").write_text(MINE)
    output = show(
        f'docker run --rm -v "$PWD/cases:/cases:ro" {engine.tag} {shlex.join(OWN_CASE)}',
        engine.command(OWN_CASE, volume=f"{cases}:/cases:ro"),
        expected=0,
    )
    if "PASS: 1 of 1 client, every connection post-quantum (2)" not in output:
        raise ImageError("the mounted case passed, but not with its two connections")
    steps.done("a case of the user's own, mounted: exit code 0, both of its connections")

    proof = engine.folder / "proof"
    proof.mkdir(mode=0o755)
    show("docker compose run --rm test", engine.sealed_command(COMPOSED, proof), expected=0, brief=True)
    check_proof(proof, "relay")
    steps.done("sealed as in compose.yaml: exit code 0, results in /proof")

    command = engine.sealed_command(CAPTURED, proof, capture=True)
    show("docker compose run --rm capture", command, expected=0, brief=True)
    check_proof(proof, "capture")
    size_bytes = (proof / "pqtls.pcap").stat().st_size
    steps.done(
        f"sealed, namespaces allowed: exit code 0, seen by the capture, {size_bytes:,} bytes of packets in /proof"
    )

    command = engine.sealed_command(["test", "--region", "us-east-1"], proof)
    output = show(f"docker run --rm --network none {engine.tag} test --region us-east-1", command, 3, brief=True)
    if "no-credentials" not in output or "name-not-resolved" not in output or "Traceback" in output:
        raise ImageError("without a network, --region did not say why")
    steps.done("a region without network and credentials: exit code 3, told in plain words")

    output = show(f"docker run --rm -i {engine.tag} shell", engine.command(["shell"]), expected=0, feed=LOOK_ROUND)
    if "uid=0(" in output or "aws-cli/" not in output or "OpenSSL 3." not in output:
        raise ImageError("the shell is not as documented")
    steps.done("shell: not root, with boto3, requests and AWS CLI")


def is_docker_running() -> bool:
    """Tell whether a Docker engine answers."""
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "info"], check=False, capture_output=True).returncode == 0


def main() -> int:
    """Build, run, tell; return 0 if the image is what the docs say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", default="pqtls", help="name of the image (default: pqtls)")
    parser.add_argument("--mirror", default="", help="Debian mirror, if not apt's own (without Docker)")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the image as an OCI archive (without Docker)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    kind = Docker if is_docker_running() else Buildah
    steps = Steps()
    # Not /tmp: where that is a tmpfs, it is small and takes no device files. The folder is random and 0700.
    place = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="pqtls-image-", dir=place) as name:
        try:
            engine = kind(options.tag, Path(name), options.mirror)
            try:
                engine.build(steps)
                prove(engine, steps)
                leaks = engine.find_leaks()
                if leaks:
                    raise ImageError("left in the image: " + "; ".join(sorted(set(leaks))))
                steps.done("nothing of this machine's registries or certificate authority is in the image")
                size = engine.describe_size()
                if options.save and isinstance(engine, Buildah):
                    shutil.copyfile(engine.folder / "image.tar", options.save)
                steps.done(f"image size: {size}")
            finally:
                engine.close()
        except (ImageError, subprocess.TimeoutExpired) as error:
            print(f"make image: {error}", file=sys.stderr)
            return 1
    print(f"\nPASS: {engine.name}, image {size}, {time.monotonic() - steps.began:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
