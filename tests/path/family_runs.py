"""Prove, as root and on real packets, that a name with IPv6 and IPv4 is examined over both, also after STARTTLS.

Two namespaces joined by a cable; `pqtls serve` and a mail server (aiosmtpd) in one, `pqtls path` in the other. First
all is well; then nft drops packets over 1,300 bytes, over IPv6 alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pqtls.openssl.interpreter import inspect_interpreter
from pqtls.openssl.ways import choose_way
from tests.path.real_servers import write_certificate
from tests.path.test_reach_programs import SMTP_SERVER

NAME = "both.example"
CLIENT, SERVER = (f"pq{os.getpid()}{end}" for end in "cs")
PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]
HOLE = "table ip6 t {\n chain c {\n type filter hook input priority 0;\n meta length > 1300 drop\n }\n}\n"
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
ENVIRONMENT["PQTLS_TOKEN"] = secrets.token_hex()


def run(*command: str, stdin: bytes = b"") -> None:
    """Run a program that has to succeed."""
    subprocess.run(command, check=True, input=stdin)


def start(*command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a server that says nothing."""
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def join() -> None:
    """Make the namespaces and the cable between them."""
    hosts = Path("/etc/netns") / CLIENT
    hosts.mkdir(parents=True)
    (hosts / "hosts").write_text(f"192.0.2.2 {NAME}\n2001:db8::2 {NAME}\n")
    for namespace in (CLIENT, SERVER):
        run("ip", "netns", "add", namespace)
    run("ip", "link", "add", "cable", "netns", CLIENT, "type", "veth", "peer", "name", "cable", "netns", SERVER)
    for number, namespace in enumerate((CLIENT, SERVER), 1):
        for link in ("lo", "cable"):
            run("ip", "-n", namespace, "link", "set", link, "up")
        run("ip", "-n", namespace, "addr", "add", f"192.0.2.{number}/24", "dev", "cable")
        run("ip", "-n", namespace, "addr", "add", f"2001:db8::{number}/64", "dev", "cable", "nodad")


def look(folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    """Examine the name from the client's side; return what came out by address."""
    file, began = folder / "found.json", time.monotonic()
    command = ["ip", "netns", "exec", CLIENT, *PQTLS, "path", *options, "--json", str(file)]
    code = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=False).returncode
    found = {value["address"]: value for value in map(json.loads, file.read_text().splitlines())}
    print(f"pqtls path {' '.join(options)}: exit code {code}, {time.monotonic() - began:.1f} s")
    for address, value in found.items():
        big = next(each["sent"]["segments"] for each in value["experiments"] if each["id"] == "E23")
        faults = ", ".join(f"{each['id']}: {each['detail']}" for each in value["faults"])
        count = len(value["experiments"])
        print(
            f"  {address:<12} {value['verdict']}, {count} connections, the hybrid in {big} bytes  {faults}", flush=True
        )
    return found


def main() -> int:
    """Run the proof; return 0 if all came out as it should."""
    if os.geteuid() or not all(shutil.which(name) for name in ("ip", "nft")):
        print("This needs root, ip (iproute2) and nft (nftables).")
        return 2
    way = choose_way("auto", inspect_interpreter(sys.executable, {}), environment=ENVIRONMENT)
    into = ["ip", "netns", "exec", SERVER]
    servers: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="pqtls-families-") as name:
        folder = Path(name)
        try:
            join()
            servers.append(start(*into, *PQTLS, "serve", "--listen", ":8443", environment=ENVIRONMENT))
            mail = [*into, sys.executable, "-c", SMTP_SERVER, str(write_certificate(folder)), "2525"]
            servers.append(start(*mail, environment=way.apply(ENVIRONMENT)))
            time.sleep(3)
            ways = [f"{NAME}:8443", "--peer", "pqtls://both.example"], [f"{NAME}:2525", "--starttls", "smtp"]
            well = [look(folder, *options) for options in ways]
            run(*into, "nft", "-f", "-", stdin=HOLE.encode())
            broken = [look(folder, *options) for options in ways]
        finally:
            for server in servers:
                server.kill()
                server.wait()
            for namespace in (CLIENT, SERVER):
                with contextlib.suppress(subprocess.CalledProcessError):
                    run("ip", "netns", "del", namespace)
            shutil.rmtree(Path("/etc/netns") / CLIENT, ignore_errors=True)
    both = {"192.0.2.2", "2001:db8::2"}
    is_well = all(set(each) == both and {v["verdict"] for v in each.values()} == {"healthy"} for each in well)
    is_told = all(
        [fault["id"] for fault in each["2001:db8::2"]["faults"]] == ["F13"]
        and each["192.0.2.2"]["verdict"] == "healthy"
        for each in broken
    )
    print("as it should be" if is_well and is_told else "NOT as it should be")
    return 0 if is_well and is_told else 1


if __name__ == "__main__":
    sys.exit(main())
