"""`pqtls run`, `shell`, `doctor`, `--help`: as a person at a terminal meets them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pqtls.cli import run_app
from pqtls.openssl import doctor as doctor_room
from pqtls.openssl import ways
from pqtls.openssl.interpreter import Linkage, inspect_interpreter
from pqtls.openssl.probe import probe_mlkem
from pqtls.wire.client_hello import ClientHello
from tests.openssl.elf_files import make_elf
from tests.openssl.venv_tools import enable_venv, make_venv, required
from tests.schemas import validate
from tests.tls_server import HOST, run_tls_server

PQTLS = [sys.executable, "-c", "from pqtls.cli import main; main()"]
VERSION = "import ssl; print(ssl.OPENSSL_VERSION)"
BASE_PYTHON = os.path.realpath(sys.executable)


def bare_environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(Path.home())}


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PQTLS, *arguments],
        env={**bare_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


class TestRun:
    @pytest.mark.smoke
    def test_the_command_runs_on_the_chosen_openssl(self) -> None:
        assert "OpenSSL 3.5" in call("run", "--", sys.executable, "-c", VERSION).stdout

    def test_system_is_the_control(self) -> None:
        own = subprocess.run(
            [sys.executable, "-c", VERSION], env=bare_environment(), capture_output=True, text=True, check=True
        )
        assert call("run", "--openssl", "system", "--", sys.executable, "-c", VERSION).stdout == own.stdout

    def test_a_script_of_another_interpreter(self, tmp_path: Path) -> None:
        """The interpreter that the script names decides, not the one that runs pqtls."""
        if not Path("/usr/bin/python3").exists():
            pytest.skip("no /usr/bin/python3")
        script = tmp_path / "tool"
        script.write_text(f"#!/usr/bin/python3\nimport sys\n{VERSION}; print(sys.executable)\n")
        script.chmod(0o755)
        done = call("run", str(script))
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[1] == "/usr/bin/python3"
        assert "OpenSSL 3." in done.stdout

    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    def test_the_exit_code_is_the_commands(self, code: int) -> None:
        assert call("run", "--", "sh", "-c", f"exit {code}").returncode == code

    def test_a_signal_is_told_as_a_shell_tells_it(self) -> None:
        assert call("run", "--", "sh", "-c", "kill -9 $$").returncode in (137, -9)

    def test_options_after_the_command_are_the_commands(self) -> None:
        assert call("run", "echo", "--openssl", "x", "--help").stdout.strip() == "--openssl x --help"

    def test_groups_hold_the_command(self) -> None:
        script = (
            "import ssl\n"
            "outgoing = ssl.MemoryBIO()\n"
            "context = ssl.create_default_context()\n"
            "connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname='x.example')\n"
            "try: connection.do_handshake()\n"
            "except ssl.SSLWantReadError: pass\n"
            "print(outgoing.read().hex())\n"
        )
        done = call("run", "--groups", "SecP256r1MLKEM768:x25519", "--", sys.executable, "-c", script)
        hello = ClientHello.parse(bytes.fromhex(done.stdout.strip())[9:])
        assert hello.supported_groups == (0x11EB, 0x001D)

    @pytest.mark.parametrize("groups", ["X448MLKEM1024", "nonsense"])
    def test_groups_that_openssl_would_drop_are_refused(self, groups: str) -> None:
        done = call("run", "--groups", groups, "--", "true")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr

    def test_post_quantum_is_required_of_one_program(self, tmp_path: Path) -> None:
        """A classical server is refused, which is answered without the option: by Python, and by curl if it is here."""
        with run_tls_server(tmp_path) as (port, authority):
            script = (
                "import socket, ssl, sys\n"
                f"context = ssl.create_default_context(cafile={str(authority)!r})\n"
                f"with socket.create_connection(('127.0.0.1', {port})) as raw:\n"
                f"    with context.wrap_socket(raw, server_hostname={HOST!r}) as tls: print(tls.recv(9))\n"
            )
            plain = call("run", "--", sys.executable, "-c", script)
            assert plain.stdout == "b'hello'\n", plain.stderr
            held = call("run", "--require-pq", "--", sys.executable, "-c", script)
            assert (held.returncode, held.stdout) == (1, "")
            assert "SSLError" in held.stderr
            assert "ALERT" in held.stderr, "the server refused, which offers no group with ML-KEM"

    def test_what_cannot_be_required(self, tmp_path: Path) -> None:
        """By its list, by its OpenSSL, or since the program would go on with a TLS of its own: not started at all."""
        touch = ["sh", "-c", f"touch {tmp_path}/was-run"]
        for options, words in (
            (["--groups", "X25519MLKEM768:x25519"], "would still allow x25519"),
            (["--openssl", "system"], "does not follow the group list"),
        ):
            done = call("run", "--require-pq", *options, "--", *touch)
            assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr
        other = tmp_path / "other"
        other.write_bytes(make_elf(needed=("libgnutls.so.30", "libc.so.6")))
        other.chmod(0o755)
        refused = call("run", "--require-pq", "--", str(other))
        assert refused.returncode == 3
        assert refused.stderr.startswith("pqtls: Post-quantum TLS is required, but other uses GnuTLS")
        warned = call("run", "--", str(other))
        assert warned.stderr.startswith("pqtls: other uses GnuTLS"), "the control: warned, and run all the same"
        assert not (tmp_path / "was-run").exists()
        assert call("run", "--require-pq", "--", *touch).returncode == 0
        assert (tmp_path / "was-run").exists()

    def test_nothing_is_left_after_groups(self, tmp_path: Path) -> None:
        done = call("run", "--groups", "x25519", "--", "sh", "-c", "ls $(dirname $OPENSSL_CONF)", TMPDIR=str(tmp_path))
        assert done.stdout.strip() == "openssl.cnf"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("groups", [[], ["--groups", "x25519"]])
    def test_signals_reach_the_command(self, groups: list[str]) -> None:
        script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
        process = subprocess.Popen(
            [*PQTLS, "run", *groups, "--", "sh", "-c", script],
            env=bare_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[0] == "caught\n"
        assert process.returncode == 5

    def test_what_is_no_program(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("no program")
        (tmp_path / "text").chmod(0o755)
        for groups in ([], ["--groups", "x25519"]):
            done = call("run", *groups, "--", str(tmp_path / "text"))
            assert done.returncode == 2
            assert "cannot be run" in done.stderr

    def test_no_such_command(self) -> None:
        done = call("run", "--", "no-such-command-here")
        assert done.returncode == 2
        assert "there is no such command" in done.stderr

    def test_a_file_that_may_not_be_executed(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("no program")
        done = call("run", "--", str(tmp_path / "text"))
        assert done.returncode == 2
        assert "is no program that you may execute" in done.stderr

    def test_nothing_to_run(self) -> None:
        assert call("run").returncode == 2


@pytest.fixture(scope="module")
def enabled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_venv(tmp_path_factory.mktemp("enabled") / "venv")
    if probe_mlkem(root / "bin" / "python", {}).has_mlkem:
        pytest.skip("needs no graft here")
    enable_venv(root, required("hybrid-only", require_pq=False))
    return root


class TestEnabledEnvironment:
    """pqtls in an environment that it has enabled: Python there has its graft, other programs have not."""

    def call_there(self, root: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**bare_environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [str(root / "bin" / "python"), *PQTLS[1:], *arguments]
        return subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)

    # No Python by its name, so that the interpreter of pqtls itself decides.
    other = f"unset PYTHONPATH; {BASE_PYTHON} -c '{VERSION}'"

    def test_other_programs_are_reached(self, enabled: Path) -> None:
        done = self.call_there(enabled, "run", "--", "sh", "-c", self.other)
        assert (done.stdout[:11], done.stderr) == ("OpenSSL 3.5", "")
        control = self.call_there(enabled, "run", "--openssl", "native", "--", "sh", "-c", self.other)
        assert control.stdout.strip() == inspect_interpreter(BASE_PYTHON).openssl_version

    def test_and_in_a_shell(self, enabled: Path) -> None:
        done = self.call_there(enabled, "shell", text=f"{self.other}\nexit\n")
        assert "OpenSSL 3.5" in done.stdout
        assert "(graft)" in done.stderr

    def test_the_systems_own_is_not_claimed(self, enabled: Path) -> None:
        done = self.call_there(enabled, "doctor")
        assert "system   possible: Not the system's own" in done.stdout
        assert "system   possible: The interpreter's own" in call("doctor", "--python", BASE_PYTHON).stdout

    def test_groups_of_another_program_are_its_own(self, enabled: Path) -> None:
        done = self.call_there(enabled, "run", "--groups", "level5", "--", "sh", "-c", self.other)
        assert (done.returncode, done.stdout[:11]) == (0, "OpenSSL 3.5"), done.stderr
        held = self.call_there(
            enabled, "run", "--groups", "level5", "--", str(enabled / "bin" / "python"), "-c", VERSION
        )
        assert (held.returncode, "does not follow" in held.stderr) == (2, True)


def talk(arguments: list[str], environment: dict[str, str], lines: list[str]) -> tuple[str, int]:
    """Run a program on a terminal, type lines, and return all that it showed, and its exit code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(arguments[0], arguments, environment)  # noqa: S606 - no shell is wanted
    shown = b""
    pending = list(lines)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.5)
        if ready:
            try:
                data = os.read(terminal, 65_536)
            except OSError:
                break
            if not data:
                break
            shown += data
        elif pending:
            os.write(terminal, pending.pop(0).encode() + b"\n")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return shown.decode("utf-8", "replace"), os.waitstatus_to_exitcode(status)


class TestShell:
    @pytest.mark.parametrize("name", ["bash", "sh", "dash", "zsh", "fish"])
    def test_the_prompt_is_marked_and_the_openssl_is_there(self, name: str, tmp_path: Path) -> None:
        program = shutil.which(name)
        if program is None:
            pytest.skip(f"{name} is not installed")
        environment = {
            **bare_environment(),
            "SHELL": program,
            "TERM": "dumb",
            "TMPDIR": str(tmp_path),
            "HOME": str(Path.home()),
        }
        shown, code = talk([*PQTLS, "shell"], environment, [f"{sys.executable} -c '{VERSION}'", "exit 9"])
        assert code == 9, shown
        assert "(pqtls)" in shown
        assert shown.count("OpenSSL 3.5") >= 2, shown
        assert list(tmp_path.glob("pqtls*")) == [], "what the shell itself leaves is its own affair"

    def test_post_quantum_is_required_in_it(self, tmp_path: Path) -> None:
        """What a Python of that shell offers, and nothing is left after it."""
        script = tmp_path / "offers.py"
        script.write_text(
            "import ssl\nout = ssl.MemoryBIO()\n"
            "tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname='x.example')\n"
            "try: tls.do_handshake()\nexcept ssl.SSLWantReadError: pass\n"
            f"open({str(tmp_path / 'hello')!r}, 'wb').write(out.read())\n"
        )
        (tmp_path / "tmp").mkdir()
        environment = {**bare_environment(), "SHELL": "/bin/sh", "TERM": "dumb", "TMPDIR": str(tmp_path / "tmp")}
        for options, groups in (([], {0x11EC, 0x1D}), (["--require-pq"], {0x11EC, 0x11EB, 0x11ED})):
            _, code = talk([*PQTLS, "shell", *options], environment, [f"{sys.executable} {script}", "exit 9"])
            assert code == 9
            hello = ClientHello.parse((tmp_path / "hello").read_bytes()[9:])
            offered = set(hello.supported_groups)
            assert offered == groups if options else offered >= groups, "the control offers x25519 too"
        assert list((tmp_path / "tmp").glob("pqtls*")) == []

    def test_the_users_own_start_up_file_is_read(self, tmp_path: Path) -> None:
        if shutil.which("bash") is None:
            pytest.skip("bash is not installed")
        (tmp_path / ".bashrc").write_text("PS1='mine> '\n")
        environment = {**bare_environment(), "SHELL": "/bin/bash", "TERM": "dumb", "HOME": str(tmp_path)}
        environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
        shown, _ = talk([*PQTLS, "shell"], environment, ["exit"])
        assert "(pqtls) mine> " in shown


class TestTerminal:
    """Colours only on a terminal, and not if the user asked for none."""

    ARGUMENTS = (*PQTLS, "doctor")

    def test_colours_on_a_terminal(self) -> None:
        shown, _ = talk(list(self.ARGUMENTS), {**bare_environment(), "TERM": "xterm-256color"}, [])
        assert "\x1b[" in shown

    @pytest.mark.parametrize("variables", [{"NO_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "dumb"}])
    def test_no_colours(self, variables: dict[str, str]) -> None:
        shown, _ = talk(list(self.ARGUMENTS), {**bare_environment(), **variables}, [])
        assert "python" in shown
        assert "\x1b[3" not in shown
        assert "\x1b[9" not in shown

    def test_progress_and_results_do_not_share_a_line(self) -> None:
        arguments = [*PQTLS, "test", "--case", "requests", "--network", "router"]
        shown, code = talk(arguments, {**bare_environment(), "TERM": "xterm-256color"}, [])
        assert code == 0
        assert "running: " in shown
        for line in shown.split("\n"):
            # What stays on the screen of a line: all after the last return to its start or clearing of it.
            stays = re.split(r"\r(?=.)|\x1b\[2K", line.rstrip("\r"))[-1]
            assert not ("running: " in stays and ("clients" in stays or "post-quantum" in stays)), line
            assert not ("starting the lab" in stays and "pqtls" in stays), line

    def test_a_closed_pipe_is_told_as_a_shell_tells_it(self) -> None:
        script = '"$0" -c "from pqtls.cli import main; main()" test --list | true; echo "${PIPESTATUS[0]}"'
        bash = shutil.which("bash")
        if bash is None:
            pytest.skip("bash is not installed")
        done = subprocess.run(
            [bash, "-c", script, sys.executable], env=bare_environment(), capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() in ("0", "141"), done.stderr
        assert "Traceback" not in done.stderr

    def test_no_colours_in_a_pipe(self) -> None:
        assert "\x1b" not in call("doctor", TERM="xterm-256color").stdout


class TestHelp:
    @pytest.mark.parametrize("verb", [[], ["lab"], ["openssl"]])
    def test_no_verb_is_cut_short_on_80_columns(self, verb: list[str]) -> None:
        done = call(*verb, "--help", COLUMNS="80")
        assert done.returncode == 0
        commands = done.stdout.partition("Commands:\n")[2].splitlines()
        assert len(commands) >= 2
        for line in commands:
            assert len(line) <= 80
            assert not line.endswith("..."), line

    def test_as_a_module(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "pqtls", "--version"],
            env=bare_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith("pqtls, version ")


class TestDoctor:
    @pytest.mark.smoke
    def test_json(self) -> None:
        done = call("doctor", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert validate(found) == "doctor-1"
        assert found["able"] is True
        assert {way["way"] for way in found["ways"]} == {"native", "graft", "system"}
        assert found["next_command"] == "pqtls test"

    def test_one_screen(self) -> None:
        done = call("doctor")
        rows = sum(-(-max(len(line), 1) // 100) for line in done.stdout.splitlines())
        assert rows <= 40, done.stdout
        assert "libssl.so.3" in done.stdout
        assert done.stdout.splitlines()[-1].split() == ["next", "pqtls", "test"]
        assert re.search(r"^answer +(yes|not by itself)[:;]", done.stdout, re.MULTILINE)

    def test_the_next_command_for_another_environment_of_the_same_python(self, tmp_path: Path) -> None:
        """`pqtls test` would examine the environment of pqtls, not the one that was asked about."""
        root = make_venv(tmp_path / "other")
        found = json.loads(call("doctor", "--python", str(root / "bin" / "python"), "--json").stdout)
        assert found["next_command"].startswith("pqtls run -- ")
        assert str(root) in found["next_command"]

    def test_every_stack_is_on_the_screen(self) -> None:
        found = json.loads(call("doctor", "--json").stdout)
        shown = call("doctor").stdout
        assert {"cryptography", "psycopg-binary"} <= {stack["distribution"] for stack in found["stacks"]}
        for stack in found["stacks"]:
            assert f"{stack['distribution']} {stack['version']}" in shown
        assert "requests" in shown

    @pytest.mark.parametrize("form", ["doctor", "doctor --json"])
    def test_a_proxys_secrets_are_never_shown(self, form: str) -> None:
        secrets = {
            "HTTPS_PROXY": "http://someone:S3cr3t@proxy.example:3128",
            "http_proxy": "http://someone:S3/cr3t@other.example:3128",
            "ALL_PROXY": "socks5h://S3cr3t@third.example:1080",
        }
        done = call(*form.split(), **secrets)
        shown = done.stdout + done.stderr
        assert "proxy.example:3128" in shown
        for secret in ("S3cr3t", "S3/cr3t", "cr3t", "someone"):
            assert secret not in shown

    def test_what_is_no_text_is_shown_all_the_same(self) -> None:
        for form in (["doctor"], ["doctor", "--json"]):
            environment = {
                **bare_environment(),
                "SSL_CERT_FILE": "/nowhere/\udcff\x1b[31m",
                "OPENSSL_CONF": "/nowhere\n",
            }
            done = subprocess.run([*PQTLS, *form], env=environment, capture_output=True, timeout=60, check=False)
            assert done.returncode == 0, done.stderr
            assert b"\x1b" not in done.stdout

    def test_not_a_python(self) -> None:
        done = call("doctor", "--python", "/bin/true")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


class TestCannot:
    """What cannot be done here is one clear sentence, the right exit code, and nothing half done."""

    def fails(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
        code = run_app(list(arguments))
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        assert len(captured.err.strip().splitlines()) <= 2, captured.err
        return code, captured.err

    def test_no_source(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(ways, "find_sources", lambda *_: [])
        code, text = self.fails(capsys, "test", "--openssl", "graft")
        assert code == 3
        assert "pip install 'pqtls[openssl]'" in text

    @pytest.mark.parametrize(
        ("linkage", "version", "word"),
        [
            ("static", "OpenSSL 3.0.19", "static"),
            ("openssl-1.1", "OpenSSL 1.1.1w", "1.1.1w"),
            ("libressl", "LibreSSL 3.8", "LibreSSL"),
            ("no-ssl", "", "no ssl"),
        ],
    )
    def test_an_interpreter_that_cannot_be_grafted(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        linkage: Linkage,
        version: str,
        word: str,
    ) -> None:
        real = inspect_interpreter(sys.executable)
        fake = replace(real, linkage=linkage, openssl_version=version, ssl_error="" if version else "no ssl module")
        monkeypatch.setattr("pqtls.openssl.interpreter.inspect_interpreter", lambda *_: fake)
        code, text = self.fails(capsys, "run", "--openssl", "graft", "--", "true")
        assert code == 3
        assert word in text

    @pytest.mark.parametrize("platform", ["darwin", "win32"])
    def test_other_platforms(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], platform: str
    ) -> None:
        real = inspect_interpreter(sys.executable)
        monkeypatch.setattr(
            "pqtls.openssl.interpreter.inspect_interpreter", lambda *_: replace(real, platform=platform)
        )
        code, text = self.fails(capsys, "run", "--openssl", "graft", "--", "true")
        assert code == 3
        assert "container" in text

    def test_a_missing_extra(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        from pqtls.suite import case

        monkeypatch.setattr(case.Case, "missing", lambda self: self.needs)
        code, text = self.fails(capsys, "test")
        assert code == 2
        assert "awscli, boto3" in text
        assert "pip install 'pqtls[" in text

    def test_a_missing_lab(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setitem(sys.modules, "trustme", None)
        code, text = self.fails(capsys, "test", "--case", "socket-ssl")
        assert code == 2
        assert "pip install 'pqtls[" in text

    def test_the_doctor_says_what_to_do(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(ways, "find_sources", lambda *_: [])
        monkeypatch.setattr(doctor_room, "find_sources", lambda *_: [])
        if inspect_interpreter(sys.executable).openssl_version_info[:2] >= (3, 5):
            pytest.skip("this Python's own OpenSSL has ML-KEM")
        code = run_app(["doctor"])
        assert code == 1
        assert capsys.readouterr().out.splitlines()[-1].endswith("pip install 'pqtls[all]'")


def test_a_bug_is_exit_code_4(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("pqtls.openssl.doctor.examine", broken)
    assert run_app(["doctor"]) == 4
    assert "bug in pqtls" in capsys.readouterr().err


def test_help_names_every_verb() -> None:
    done = call("--help")
    assert done.returncode == 0
    for verb in ("doctor", "run", "shell", "test"):
        assert verb in done.stdout
    assert call("--version").stdout.startswith("pqtls, version ")


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom pqtls.cli import run_app\nrun_app(['--help'])\n"
        "heavy = {'rich', 'trustme', 'cryptography', 'moto', 'boto3', 'asyncio', 'ssl', 'jinja2', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
