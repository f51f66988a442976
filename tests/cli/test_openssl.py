"""`pqtls openssl`: as a person and a program meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.openssl.tarballs import VERSION_DAT, write_tarball
from tests.schemas import validate

PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PQTLS, "openssl", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


class TestList:
    @pytest.mark.smoke
    def test_json(self, tmp_path: Path) -> None:
        done = call("list", "--json", XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert validate(found) == "openssl-list-1"
        assert [entry["taken"] for entry in found["openssl"]].count(True) == 1
        assert found["openssl"][0]["kind"] == "own"

    def test_table(self, tmp_path: Path) -> None:
        done = call("list", XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        head = done.stdout.splitlines()[0]
        assert [word in head for word in ("version", "upstream support", "glibc", "OPENSSLDIR")] == [True] * 4
        assert any(line.startswith("* ") for line in done.stdout.splitlines())
        assert any(line.startswith("taken ") for line in done.stdout.splitlines())

    def test_none_that_does(self, tmp_path: Path) -> None:
        """The control: an empty folder is named, and nothing else counts."""
        own = call("list", "--json", XDG_CACHE_HOME=str(tmp_path))
        if json.loads(own.stdout)["way"] == "native":
            pytest.skip("the interpreter's own OpenSSL has ML-KEM")
        done = call("list", "--json", "--openssl-source", str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 1
        found = json.loads(done.stdout)
        assert validate(found) == "openssl-list-1"
        assert found["way"] is None
        assert found["next_step"]

    def test_no_such_python(self) -> None:
        done = call("list", "--python", "/nowhere/python3")
        assert (done.returncode, done.stderr.count("\n")) == (2, 2)
        assert "Traceback" not in done.stderr


class TestBuild:
    def test_no_tarball_named_goes_to_no_network(self, tmp_path: Path) -> None:
        done = call("build", XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 2
        assert "--source https://github.com/openssl/openssl/releases/" in done.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--source", "{tarball}"), "whose checksum pqtls knows"),
            (("--source", "{tarball}", "--sha256", "0" * 64), "is not what it should be"),
            (("--source", "{tarball}", "--sha256", "{sha256}"), "OpenSSL 3.0.17 has no ML-KEM"),
            (("--source", "/nowhere/openssl.tar.gz"), "No such file"),
            (("--source", "http://localhost/openssl.tar.gz"), "is not an https address"),
            (("--source", "{tarball}", "--openssldir", "a b"), "no plain absolute path"),
        ],
    )
    def test_refusals_are_a_sentence(self, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
        tarball = tmp_path / "openssl-3.5.9.tar.gz"
        ran = tmp_path / "ran"
        files = {"Configure": f"open(my $f, '>', '{ran}');", "VERSION.dat": VERSION_DAT.format(3, 0, 17, "")}
        sha256 = write_tarball(tarball, files)
        given = [each.replace("{tarball}", str(tarball)).replace("{sha256}", sha256) for each in arguments]
        done = call("build", *given, XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.startswith("pqtls: ")
        assert "Traceback" not in done.stderr
        assert not ran.exists()

    def test_without_tools(self, tmp_path: Path) -> None:
        done = call("build", "--source", "x", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
        assert done.returncode == 2
        assert "there is no C compiler (gcc or cc), no make, no perl" in done.stderr
        assert "apt-get install gcc make perl" in done.stderr


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from pqtls.cli import run_app; code = run_app(['openssl', '--help']);"
        "print(sorted({'ssl', 'rich', 'tarfile', 'urllib.request', 'pqtls.openssl.sources'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "build" in done.stdout
    assert "list" in done.stdout
