"""A virtual environment that is switched on and off: every way its Python starts, every way the graft can go bad."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import zipapp
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pqtls.errors import CannotProveError, UsageError
from pqtls.openssl import enable as enable_module
from pqtls.openssl import venv as venv_room
from pqtls.openssl import venv_files
from pqtls.openssl.enable import Request
from pqtls.openssl.graft import plan_folders
from pqtls.openssl.interpreter import Interpreter, Linkage, inspect_interpreter
from pqtls.openssl.obstacles import find_venv_obstacle
from pqtls.openssl.probe import probe_mlkem
from pqtls.openssl.sources import Source
from pqtls.openssl.status import examine_venv, parse_oldest
from pqtls.openssl.venv import choose_root, find_venv
from pqtls.openssl.venv_manifest import PTH, START, find_active_id
from pqtls.report.status import render_status
from tests.openssl.test_graft import PYTHONS
from tests.openssl.venv_tools import (
    ENVIRONMENT,
    VERSION,
    disable_venv,
    enable_venv,
    hash_tree,
    make_venv,
    required,
    run,
    says_again,
)
from tests.schemas import validate

pytestmark = pytest.mark.usefixtures("source")
IS_ROOT = os.geteuid() == 0
LIBRARIES = ("libcrypto.so.3", "libssl.so.3")
UNSHARE = [shutil.which("unshare") or ""]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_venv(tmp_path / "venv")


@pytest.fixture(scope="module")
def enabled(tmp_path_factory: pytest.TempPathFactory, source: Source) -> Path:
    """One enabled environment for tests that only look."""
    root = make_venv(tmp_path_factory.mktemp("enabled") / "venv")
    enable_venv(root)
    return root


def own_version() -> str:
    return inspect_interpreter(sys.executable, {}).openssl_version


def site_packages(root: Path) -> Path:
    return next((root / "lib").glob("python*")) / "site-packages"


def graft_folder(root: Path) -> Path:
    return root / "lib" / "pqtls-graft" / find_active_id(site_packages(root))


def has_stepped_aside(root: Path, word: str) -> bool:
    """Python runs on its own OpenSSL, and says so in one line."""
    done = run(root, "-c", VERSION)
    assert (done.returncode, done.stdout.strip()) == (0, own_version()), done.stderr
    assert done.stderr.startswith("pqtls: ")
    assert says_again(done.stderr, root)
    assert done.stderr.count("\n") == 1
    assert word in done.stderr
    return True


class TestOnAndOff:
    def test_the_tree_is_as_before(self, root: Path, source: Source) -> None:
        before = hash_tree(root)
        assert run(root, "-c", VERSION).stdout.strip() == own_version()
        venv, done = enable_venv(root)
        assert done.outcome == "enabled"
        for flags in ([], ["-O"], ["-OO"], ["-I"]):
            assert run(root, *flags, "-c", VERSION).stdout.strip() == source.version
        probe = probe_mlkem(venv.python, ENVIRONMENT)
        assert (probe.has_mlkem, probe.group) == (True, "X25519MLKEM768")
        assert hash_tree(root) != before
        assert disable_venv(root)
        assert hash_tree(root) == before
        control = probe_mlkem(venv.python, ENVIRONMENT)
        assert control.finding is not None
        assert (control.has_mlkem, control.finding.reason) == (False, "not-offered")
        assert not disable_venv(root)
        assert hash_tree(root) == before

    def test_no_start_of_python_writes_anything(self, enabled: Path) -> None:
        before = hash_tree(enabled)
        for flags in ([], ["-O"], ["-OO"], ["-B"], ["-E"]):
            run(enabled, *flags, "-c", VERSION)
        assert hash_tree(enabled) == before

    @pytest.mark.smoke
    @pytest.mark.parametrize("python", [sys.executable, *PYTHONS])
    def test_every_python_here(self, python: str, source: Source, tmp_path: Path) -> None:
        if not Path(python).exists() or inspect_interpreter(python, {}).linkage != "dynamic":
            pytest.skip(f"{python} is not here, or not linked dynamically")
        root = make_venv(tmp_path / "venv", python)
        before = hash_tree(root)
        venv, _ = enable_venv(root)
        probe = probe_mlkem(venv.python, ENVIRONMENT)
        assert (probe.openssl_version, probe.group) == (source.version, "X25519MLKEM768")
        assert not probe_mlkem(python, ENVIRONMENT).has_mlkem
        disable_venv(root)
        assert hash_tree(root) == before

    def test_twice_changes_nothing_and_what_changed_is_made_anew(self, root: Path) -> None:
        enable_venv(root)
        once = hash_tree(root)
        assert enable_venv(root)[1].outcome == "unchanged"
        assert hash_tree(root) == once
        first = graft_folder(root)
        (first / "libssl.so.3").unlink()
        assert enable_venv(root)[1].outcome == "enabled"
        second = graft_folder(root)
        assert second != first
        assert first.exists(), "a Python that is just starting may still look for it"
        (second / "libssl.so.3").unlink()
        enable_venv(root)
        assert not first.exists()
        assert not list((root / "lib" / "pqtls-graft").glob(".*"))

    def test_a_running_python_keeps_what_it_loaded(self, root: Path, source: Source) -> None:
        enable_venv(root)
        script = (
            f"import sys; {VERSION}; sys.stdout.flush(); sys.stdin.read(); ssl.create_default_context(); print('ok')"
        )
        command = [str(root / "bin" / "python"), "-c", script]
        process = subprocess.Popen(command, env={}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == source.version
        disable_venv(root)
        assert process.communicate("", timeout=30)[0].strip() == "ok"
        assert process.returncode == 0

    def test_three_at_once(self, root: Path) -> None:
        before = hash_tree(root)
        pqtls = [sys.executable, "-c", "from pqtls.cli import main; main()"]
        verbs = ["enable", "enable", "disable", "enable"]
        processes = [
            subprocess.Popen([*pqtls, verb, "--venv", str(root)], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
            for verb in verbs
        ]
        assert [process.wait(timeout=60) for process in processes] == [0, 0, 0, 0]
        assert run(root, "-c", VERSION).returncode == 0
        enable_venv(root)
        assert examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT).exit_code == 0
        disable_venv(root)
        assert hash_tree(root) == before

    def test_disable_needs_no_python(self, root: Path) -> None:
        before = hash_tree(root)
        enable_venv(root)
        (root / "bin" / "python").rename(root / "bin" / "moved")
        assert disable_venv(root)
        (root / "bin" / "moved").rename(root / "bin" / "python")
        assert hash_tree(root) == before


class TestStarts:
    """However its Python is started."""

    @pytest.mark.parametrize("flags", [["-I"], ["-E"], ["-s"], ["-B"], ["-O"], ["-Es"], ["-u"], ["-X", "utf8"]])
    def test_flags(self, enabled: Path, source: Source, flags: list[str]) -> None:
        assert run(enabled, *flags, "-c", VERSION).stdout.strip() == source.version

    def test_without_site_there_is_no_graft(self, enabled: Path) -> None:
        assert run(enabled, "-S", "-c", VERSION).stdout.strip() == own_version()

    def test_module_and_standard_input(self, enabled: Path, source: Source, tmp_path: Path) -> None:
        (tmp_path / "program.py").write_text(VERSION)
        assert run(enabled, "-m", "program", PYTHONPATH=str(tmp_path)).stdout.strip() == source.version
        done = subprocess.run(
            [str(enabled / "bin" / "python"), "-"], input=VERSION, env={}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == source.version

    @pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
    def test_multiprocessing(self, enabled: Path, source: Source, tmp_path: Path, method: str) -> None:
        (tmp_path / "many.py").write_text(
            "import multiprocessing, sys\n"
            "def version(_):\n    import ssl\n    return ssl.OPENSSL_VERSION\n"
            "if __name__ == '__main__':\n"
            "    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:\n"
            "        print(pool.map(version, [0])[0])\n"
        )
        assert run(enabled, str(tmp_path / "many.py"), method).stdout.strip() == source.version

    def test_zipapp_with_its_shebang(self, enabled: Path, source: Source, tmp_path: Path) -> None:
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "__main__.py").write_text(VERSION)
        for flags, name in (("", "plain"), (" -E", "pipx")):
            interpreter = f"{enabled / 'bin' / 'python'}{flags}"
            zipapp.create_archive(tmp_path / "app", tmp_path / name, interpreter=interpreter)
            done = subprocess.run([str(tmp_path / name)], env={}, capture_output=True, text=True, check=True)
            assert done.stdout.strip() == source.version

    def test_children_have_the_same_environment(self, enabled: Path) -> None:
        script = "import os, ssl, subprocess; print(subprocess.run(['/usr/bin/env'], capture_output=True).stdout)"
        command = [sys.executable, "-I", "-S", "-c", script]
        plain = subprocess.run(command, env={"A": "1"}, capture_output=True, text=True, check=True)
        assert run(enabled, "-c", script, A="1").stdout == plain.stdout

    def test_hashlib_and_the_default_certificates(self, enabled: Path, interpreter: Interpreter) -> None:
        script = (
            "import hashlib, json, ssl; context = ssl.create_default_context(); paths = ssl.get_default_verify_paths();"
            "print(json.dumps([len(context.get_ca_certs()), paths.openssl_cafile, paths.openssl_capath,"
            "sorted(hashlib.algorithms_guaranteed), hashlib.sha256(b'').hexdigest()]))"
        )
        base = [sys.executable, "-I", "-S", "-c", script]
        plain = json.loads(subprocess.run(base, env={}, capture_output=True, text=True, check=True).stdout)
        assert json.loads(run(enabled, "-c", script).stdout) == plain
        assert plain[0] > 0, "this machine has no CA certificates: the comparison shows nothing"

    def test_the_systems_legacy_provider_loads(self, enabled: Path, tmp_path: Path) -> None:
        conf = tmp_path / "legacy.cnf"
        conf.write_text("openssl_conf=i\n[i]\nproviders=p\n[p]\nlegacy=l\ndefault=l\n[l]\nactivate=1\n")
        script = "import hashlib; print(hashlib.new('md4', b'').hexdigest())"
        base = [sys.executable, "-I", "-S", "-c", script]
        plain = subprocess.run(base, env={"OPENSSL_CONF": str(conf)}, capture_output=True, text=True, check=False)
        if plain.returncode != 0:
            pytest.skip("the system has no legacy provider")
        assert run(enabled, "-c", script, OPENSSL_CONF=str(conf)).stdout == plain.stdout
        assert "unsupported hash type" in run(enabled, "-c", script).stderr

    def test_provider_modules_that_do_not_fit_are_set_at_load(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Where the folder's name is too long for the file, no variable is set, and they are found all the same."""
        modules = find_modules()
        plan = plan_folders

        def without(source: Source, interpreter: Interpreter) -> object:
            folders, _ = plan(source, interpreter)
            return replace(folders, modules_dir="/nowhere"), modules

        monkeypatch.setattr(enable_module, "plan_folders", without)
        enable_venv(root)
        conf = tmp_path / "legacy.cnf"
        conf.write_text("openssl_conf=i\n[i]\nproviders=p\n[p]\nlegacy=l\ndefault=l\n[l]\nactivate=1\n")
        script = "import hashlib; print(hashlib.new('md4', b'').hexdigest())"
        done = run(root, "-c", script, OPENSSL_CONF=str(conf))
        assert done.stdout.strip() == "31d6cfe0d16ae931b73c59d7e0c089c0", done.stderr
        assert run(root, "-c", script, OPENSSL_CONF=str(conf), OPENSSL_MODULES="/nowhere").returncode == 1


def as_user(user: int, act: Callable[[], object]) -> str:
    """Do something as another user in a process of its own; "done", or the error's class and text."""
    for name in ("encodings.ascii", "_strptime"):  # Python itself may lie where the other user cannot look
        importlib.import_module(name)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = "done"
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            act()
        except BaseException as error:  # noqa: BLE001 - told by the parent
            outcome = f"{type(error).__name__} {error}"
        os.write(writing, outcome.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read().decode()
    os.waitpid(child, 0)
    return said


def find_modules() -> Path:
    for path in Path("/usr/lib").glob("*/ossl-modules"):
        if (path / "legacy.so").exists():
            return path
    pytest.skip("the system has no legacy provider")


class TestStepsAside:
    @pytest.mark.parametrize(
        ("damage", "word"),
        [
            ("cut", "damaged"),
            ("byte", "damaged"),
            ("gone", "gone"),
            ("folder-gone", "gone"),
            ("link", "not a plain file"),
            ("file-open", "writable by other users"),
            ("folder-open", "writable by other users"),
            ("above-open", "writable by other users"),
            ("loader-gone", "gone, damaged"),
            ("loader-broken", "gone, damaged"),
        ],
    )
    def test_a_damaged_graft(self, root: Path, damage: str, word: str) -> None:
        before = hash_tree(root)
        enable_venv(root)
        folder = graft_folder(root)
        library = folder / "libcrypto.so.3"
        package = site_packages(root) / f"_pqtls_graft_{folder.name}"
        good = library.read_bytes()
        if damage in ("cut", "byte"):
            library.unlink()  # not in place: other tests' processes may have it mapped
            library.write_bytes(good[:-1] if damage == "cut" else good[:-1] + bytes([good[-1] ^ 1]))
            os.utime(library, (1_000_000_000, 1_000_000_000))
        elif damage == "gone":
            library.unlink()
        elif damage == "folder-gone":
            shutil.rmtree(root / "lib" / "pqtls-graft")
        elif damage == "link":
            library.rename(root / "libcrypto")
            library.symlink_to(root / "libcrypto")
        elif damage == "file-open":
            library.chmod(0o666)
        elif damage == "folder-open":
            folder.chmod(0o777)
        elif damage == "above-open":
            root.chmod(0o777)
        elif damage == "loader-gone":
            shutil.rmtree(package)
        else:
            shutil.rmtree(package / "__pycache__")
            (package / "__init__.py").write_text("this is no Python")
        assert has_stepped_aside(root, word)
        if damage == "above-open" and IS_ROOT:
            with pytest.raises(UsageError, match="writable by other users, so root does not run"):
                find_venv(root, ENVIRONMENT)
        else:
            status = examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT)
            assert (status.state, status.exit_code, status.is_proven) == ("stepped-aside", 1, False)
            assert status.findings
        root.chmod(0o755)
        enable_venv(root)
        assert run(root, "-c", VERSION).stdout.startswith("OpenSSL 3.5")
        disable_venv(root)
        (root / "libcrypto").unlink(missing_ok=True)
        assert hash_tree(root) == before

    @pytest.mark.skipif(not IS_ROOT, reason="changes a file's owner")
    def test_another_owner(self, root: Path) -> None:
        enable_venv(root)
        os.chown(graft_folder(root) / "libssl.so.3", 12345, 12345)
        assert has_stepped_aside(root, "belongs to user id 12345")
        os.chown(graft_folder(root) / "libssl.so.3", 0, 0)
        os.chown(root / "lib", 12345, 12345)
        assert has_stepped_aside(root, "belongs to user id 12345")
        with pytest.raises(UsageError, match="belongs to user id 12345"):
            enable_venv(root)

    def test_bytecode_that_somebody_cleaned_away(self, root: Path, source: Source) -> None:
        """As images are made smaller: then the loader is compiled at each start, and works."""
        before = hash_tree(root)
        enable_venv(root)
        shutil.rmtree(site_packages(root) / f"_pqtls_graft_{graft_folder(root).name}" / "__pycache__")
        assert run(root, "-B", "-c", VERSION).stdout.strip() == source.version
        assert examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT).exit_code == 0
        disable_venv(root)
        assert hash_tree(root) == before

    @pytest.mark.parametrize("change", ["other", "gone", "touched"])
    def test_the_source_changed(self, root: Path, source: Source, tmp_path: Path, change: str) -> None:
        folder = tmp_path / "source"
        folder.mkdir()
        for path, name in ((source.libssl, "libssl.so.3"), (source.libcrypto, "libcrypto.so.3")):
            shutil.copyfile(path, folder / name)
        enable_venv(root, Request(sources=(folder,)))
        if change == "other":
            with (folder / "libssl.so.3").open("ab") as file:
                file.write(b"\0")
        elif change == "gone":
            shutil.rmtree(folder)
        else:
            os.utime(folder / "libssl.so.3", (1_000_000_000, 1_000_000_000))
            assert run(root, "-c", VERSION).stdout.strip() == source.version, "the same bytes are the same file"
            return
        assert has_stepped_aside(root, "its source changed")

    @pytest.mark.parametrize("require_pq", [False, True])
    @pytest.mark.parametrize("change", ["folder-gone", "closed"])
    def test_a_source_that_is_out_of_sight(
        self, short_folder: Path, source: Source, change: str, require_pq: bool
    ) -> None:
        """pqtls in an administrator's home, the program as a service, under ProtectHome, or in an image without it."""
        short_folder.chmod(0o755)
        if not Path("/usr/bin/python3").exists() or not IS_ROOT:
            pytest.skip("becomes another user, with a Python that it can start")
        root = make_venv(short_folder / "venv", "/usr/bin/python3")
        home = short_folder / "home"
        libraries = home / "site-packages" / "wheel.libs"
        libraries.mkdir(parents=True)
        for path, name in ((source.libssl, "libssl.so.3"), (source.libcrypto, "libcrypto.so.3")):
            shutil.copyfile(path, libraries / name)
        _, done = enable_venv(root, replace(required(require_pq=require_pq), sources=(libraries,)))
        assert done.manifest is not None
        assert done.manifest.source_folder == str(libraries)
        if change == "closed":
            home.chmod(0o700)
        else:
            shutil.rmtree(home)
        command = [str(root / "bin" / "python"), "-c", VERSION]
        user: dict[str, Any] = {"user": 12345, "group": 12345, "extra_groups": []}
        started = subprocess.run(command, env={}, capture_output=True, text=True, check=False, **user)
        assert (started.stdout.strip(), started.stderr) == (source.version, "")
        status = examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT)
        assert (status.state, status.exit_code) == ("active", 0 if change == "closed" else 1), "root sees it"
        if change == "folder-gone":
            assert any("cannot be looked at from here" in finding for finding in status.findings)
            validate(status.to_json())
            return
        home.chmod(0o755)
        shutil.rmtree(libraries)  # as pip does: now it is seen to be gone
        assert subprocess.run(command, env={}, capture_output=True, text=True, check=False, **user).stderr.startswith(
            "pqtls: its source changed"
        )

    def test_the_same_files_at_another_place(self, root: Path, source: Source, tmp_path: Path) -> None:
        """Such as a wheel in the environment itself, which pip upgrades with the rest."""
        places = [tmp_path / "outside", root / "inside"]
        for folder in places:
            folder.mkdir()
            for path, name in ((source.libssl, "libssl.so.3"), (source.libcrypto, "libcrypto.so.3")):
                shutil.copyfile(path, folder / name)
            _, done = enable_venv(root, Request(sources=(folder,)))
            assert done.outcome == "enabled"
            assert done.manifest is not None
            assert done.manifest.source_folder == ("" if folder == places[1] else str(folder))
        assert enable_venv(root, Request(sources=(places[1],)))[1].outcome == "unchanged"

    @pytest.mark.skipif(not IS_ROOT or not UNSHARE[0], reason="mounts in a namespace of its own")
    def test_the_distribution_updated_its_openssl(self, root: Path, interpreter: Interpreter, tmp_path: Path) -> None:
        enable_venv(root)
        assert interpreter.libssl is not None
        shutil.copyfile(interpreter.libssl, tmp_path / "libssl.so.3")
        with (tmp_path / "libssl.so.3").open("ab") as file:
            file.write(b"\0")
        script = 'mount --bind "$1" "$2" && exec "$3" -c "$4"'
        new, old, python = str(tmp_path / "libssl.so.3"), os.path.realpath(interpreter.libssl), root / "bin" / "python"
        done = subprocess.run(
            [*UNSHARE, "-m", "sh", "-c", script, "sh", new, old, str(python), VERSION],
            env=ENVIRONMENT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.strip() == own_version(), done.stderr
        assert "Python's own OpenSSL changed" in done.stderr
        assert done.stderr.count("\n") == 1
        assert run(root, "-c", VERSION).stdout != done.stdout, "the control, without the mount"

    @pytest.mark.skipif(not IS_ROOT or not UNSHARE[0], reason="mounts in a namespace of its own")
    def test_a_noexec_mount_is_found_by_the_trial(self, tmp_path: Path) -> None:
        script = """
mount -t tmpfs -o "$1" tmpfs "$2" && "$3" -m venv --without-pip "$2/venv" && find "$2" | sort > "$4" || exit 99
"$3" -c 'from pqtls.cli import main; main()' enable --venv "$2/venv"; code=$?
find "$2" | sort | cmp - "$4" && echo unchanged; exit $code
"""
        (tmp_path / "mount").mkdir()
        codes = []
        for options in ("size=64m,noexec", "size=64m"):
            command = [*UNSHARE, "-m", "sh", "-c", script, "sh", options, str(tmp_path / "mount"), sys.executable]
            done = subprocess.run(
                [*command, str(tmp_path / "list")], env=ENVIRONMENT, capture_output=True, text=True, check=False
            )
            codes.append(done.returncode)
            if "noexec" in options:
                assert "unchanged" in done.stdout
                assert "failed to map segment" in done.stderr
                assert "noexec" in done.stderr
        assert codes == [3, 0]

    @pytest.mark.skipif(not UNSHARE[0], reason="needs a user namespace")
    def test_in_a_user_namespace(self, enabled: Path, source: Source) -> None:
        """Root's files belong to the overflow id there, and so do we."""
        command = [*UNSHARE, "-U", str(enabled / "bin" / "python"), "-c", VERSION]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        if "unshare failed" in done.stderr:
            pytest.skip(done.stderr)
        assert (done.stdout.strip(), done.stderr) == (source.version, "")

    @pytest.mark.skipif(not IS_ROOT, reason="becomes another user")
    def test_a_service_user(self, short_folder: Path, source: Source) -> None:
        short_folder.chmod(0o755)
        base = "/usr/bin/python3"
        if not Path(base).exists():
            pytest.skip("no Python that another user can start")
        root = make_venv(short_folder / "venv", base)
        enable_venv(root)
        done = subprocess.run(
            [str(root / "bin" / "python"), "-c", VERSION],
            env={}, capture_output=True, text=True, check=False, user=12345, group=12345, extra_groups=[],
        )  # fmt: skip
        assert (done.stdout.strip(), done.stderr) == (source.version, "")

    @pytest.mark.skipif(not IS_ROOT, reason="becomes another user")
    @pytest.mark.parametrize("is_gone", [False, True])
    def test_a_service_user_who_may_not_see_the_source(
        self, short_folder: Path, source: Source, *, is_gone: bool
    ) -> None:
        """Enabled from a folder of the administrator's; the control is a source that is really gone."""
        short_folder.chmod(0o755)
        base = "/usr/bin/python3"
        if not Path(base).exists():
            pytest.skip("no Python that another user can start")
        private = short_folder / "private"
        private.mkdir(mode=0o700)
        folder = private / "source"
        folder.mkdir()
        for path, name in ((source.libssl, "libssl.so.3"), (source.libcrypto, "libcrypto.so.3")):
            shutil.copyfile(path, folder / name)
        root = make_venv(short_folder / "venv", base)
        _, done = enable_venv(root, Request(sources=(folder,)))
        assert done.manifest is not None
        assert done.manifest.source_folder == str(folder)
        if is_gone:
            shutil.rmtree(folder)
            private.chmod(0o755)
        started = subprocess.run(
            [str(root / "bin" / "python"), "-c", VERSION],
            env={}, capture_output=True, text=True, check=False, user=12345, group=12345, extra_groups=[],
        )  # fmt: skip
        assert (started.stdout.strip() == source.version) is not is_gone
        assert ("its source changed" in started.stderr) is is_gone

    def test_moved_and_copied(self, root: Path, source: Source, tmp_path: Path) -> None:
        enable_venv(root)
        shutil.copytree(root, tmp_path / "copy", symlinks=True, copy_function=shutil.copy)  # with new times
        root.rename(tmp_path / "moved")
        for place in ("copy", "moved"):
            done = run(tmp_path / place, "-c", VERSION)
            assert (done.stdout.strip(), done.stderr) == (source.version, ""), place
            assert examine_venv(find_venv(tmp_path / place, ENVIRONMENT), ENVIRONMENT).exit_code == 0

    def test_a_copy_hashes_at_each_start_until_it_is_enabled_again(self, root: Path, tmp_path: Path) -> None:
        enable_venv(root)
        assert examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT).hashed_at_start_bytes == 0
        copy = tmp_path / "copy"
        shutil.copytree(root, copy, symlinks=True, copy_function=shutil.copy)
        for name in LIBRARIES:  # not in the same second
            os.utime(graft_folder(copy) / name, (2_000_000_000, 2_000_000_000))
        status = examine_venv(find_venv(copy, ENVIRONMENT), ENVIRONMENT)
        graft_bytes = sum((graft_folder(copy) / name).stat().st_size for name in LIBRARIES)
        assert (status.exit_code, status.to_json()["graft"]["hashed_at_start_bytes"]) == (0, graft_bytes)
        assert any("hashes" in line for line in render_status(status))
        assert enable_venv(copy)[1].outcome == "enabled"
        assert examine_venv(find_venv(copy, ENVIRONMENT), ENVIRONMENT).hashed_at_start_bytes == 0
        for name in LIBRARIES:  # as OSTree has them: to enable it again would not help
            os.utime(graft_folder(copy) / name, (0, 0))
        assert examine_venv(find_venv(copy, ENVIRONMENT), ENVIRONMENT).hashed_at_start_bytes == graft_bytes
        assert enable_venv(copy)[1].outcome == "unchanged"

    @pytest.mark.parametrize("name", ["sp ace", "grün \"'$x", "new\nline"])
    def test_odd_names_and_a_lib_that_is_a_link(self, tmp_path: Path, source: Source, name: str) -> None:
        root = make_venv(tmp_path / name)
        (root / "lib").rename(tmp_path / "lib-elsewhere")
        (root / "lib").symlink_to(tmp_path / "lib-elsewhere")
        before = hash_tree(root)
        enable_venv(root)
        assert run(root, "-c", VERSION, LC_ALL="C").stdout.strip() == source.version
        assert examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT).exit_code == 0
        disable_venv(root)
        assert hash_tree(root) == before

    def test_another_python_that_adds_its_folder(self, enabled: Path) -> None:
        script = f"import site; site.addsitedir({str(site_packages(enabled))!r}); {VERSION}"
        done = subprocess.run([sys.executable, "-I", "-c", script], env={}, capture_output=True, text=True, check=False)
        assert done.stdout.strip() == own_version()
        assert "another Python's" in done.stderr
        assert done.stderr.count("\n") == 1


LATE = {
    "ssl": ("import ssl\n", "_ssl was imported before"),
    "hashlib": ("import _hashlib\n", "_hashlib was imported before"),
    "ctypes": ("import ctypes; ctypes.CDLL('libcrypto.so.3')\n", "something loaded another libcrypto.so.3"),
}


class TestLate:
    def test_something_was_first_without_ctypes(self, root: Path, interpreter: Interpreter) -> None:
        """As in a server that embeds Python and has loaded the system's OpenSSL for itself; and by LD_PRELOAD."""
        enable_venv(root)
        library = os.path.realpath(interpreter.libcrypto or "")
        done = run(root, "-c", VERSION, LD_PRELOAD=library)
        assert (done.returncode, done.stdout.strip()) == (0, own_version())
        assert "something loaded another libcrypto.so.3" in done.stderr
        line = f'import _imp, sys; exec(\'try: _imp.create_dynamic(type(sys.__spec__)("x", None, origin="{library}"))'
        (site_packages(root) / "00-earlier.pth").write_text(f"{line}\\nexcept ImportError: pass')\n")
        assert has_stepped_aside(root, f"something loaded {library}")

    def test_mapped_and_bound_as_by_ctypes(self, enabled: Path, source: Source) -> None:
        """Both ways to map them, with the same result, and nothing else of OpenSSL in the process."""
        script = "import ssl, _hashlib; print(ssl.OPENSSL_VERSION)\nfor line in open('/proc/self/maps'):\n"
        script += " if 'libssl' in line or 'libcrypto' in line: print(line.split()[-1])"
        plain = run(enabled, "-c", script).stdout.splitlines()
        by_ctypes = run(enabled, "-c", script, LD_PRELOAD="libz.so.1").stdout.splitlines()
        assert plain[0] == by_ctypes[0] == source.version
        files = {str(graft_folder(enabled) / name) for name in ("libssl.so.3", "libcrypto.so.3")}
        assert set(plain[1:]) == set(by_ctypes[1:]) == files

    @pytest.mark.parametrize("what", sorted(LATE))
    def test_something_was_first(self, root: Path, what: str) -> None:
        line, words = LATE[what]
        earlier = site_packages(root) / "00-earlier.pth"
        earlier.write_text(line)
        before = hash_tree(root)
        with pytest.raises(CannotProveError, match="was not enabled: It stepped aside") as caught:
            enable_venv(root)
        assert ".pth" in caught.value.next_step
        assert hash_tree(root) == before
        earlier.unlink()
        enable_venv(root)
        earlier.write_text(line)
        assert has_stepped_aside(root, words)

    def test_a_later_pth_may_import_ssl(self, root: Path, source: Source) -> None:
        (site_packages(root) / "_virtualenv.pth").write_text("import ssl\n")
        enable_venv(root)
        assert run(root, "-c", VERSION).stdout.strip() == source.version


class TestRequired:
    """What the graft cannot give is refused, not replaced."""

    SCRIPT = """
try:
    import ssl
except ImportError as error:
    print(type(error).__name__, error)
else:
    try:
        ssl.create_default_context()
        print("TLS with", ssl.OPENSSL_VERSION)
    except ImportError as error:
        print(type(error).__name__, error)
import hashlib
try:
    import _ssl
    print("_ssl", _ssl.OPENSSL_VERSION)
except ImportError as error:
    print("none")
"""

    @pytest.mark.parametrize("damage", ["none", "gone", "late", "loader-gone"])
    def test_import_ssl_is_refused(self, root: Path, source: Source, damage: str) -> None:
        enable_venv(root, Request(require_pq=True))
        if damage == "none":
            assert run(root, "-c", self.SCRIPT).stdout.startswith(f"TLS with {source.version}")
            return
        if damage == "gone":
            shutil.rmtree(root / "lib" / "pqtls-graft")
        elif damage == "late":
            line = "import sys; exec('try:\\n import ssl\\nexcept ImportError:\\n pass')\n"
            (site_packages(root) / "00-earlier.pth").write_text(line)
        else:
            shutil.rmtree(site_packages(root) / f"_pqtls_graft_{graft_folder(root).name}")
        done = run(root, "-c", self.SCRIPT)
        assert done.returncode == 0, done.stderr
        assert "TLS with" not in done.stdout
        first, second = done.stdout.splitlines()
        assert second == "none"
        assert "Error" in first
        if damage != "loader-gone":
            assert "post-quantum TLS is required here, but" in first
        assert says_again(done.stderr, root)
        assert done.stderr.count("\n") == 1
        status = examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT)
        lines = "\n".join(render_status(status))
        assert (status.state, "runs on its own OpenSSL" in lines) == ("stepped-aside", status.manifest is None)
        assert damage != "late" or f"pqtls enable --venv {root}` again" in status.detail, "the whole line"


PLUGIN = """
def install(ssl, settings):
    if settings.get("fail"):
        raise RuntimeError("no")
    ssl.pqtls_was_here = getattr(ssl, "pqtls_was_here", 0) + 1
    ssl.pqtls_settings = settings
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "inject"
    shutil.copytree(venv_files._INJECT, folder)
    (folder / "some_plugin.py").write_text(PLUGIN)
    monkeypatch.setattr(venv_files, "_INJECT", folder)
    return "some_plugin"


class TestPlugins:
    def test_installed_once_ssl_is_imported(self, root: Path, plugin: str) -> None:
        enable_venv(root, Request(plugins=(plugin,), settings={"groups": "X25519MLKEM768"}))
        script = "import sys; print(any('some_plugin' in name for name in sys.modules));"
        script += "import ssl; print(ssl.pqtls_was_here, ssl.pqtls_settings, type(ssl.__loader__).__name__)"
        assert run(root, "-c", script).stdout.splitlines() == [
            "False",
            "1 {'groups': 'X25519MLKEM768'} SourceFileLoader",
        ]

    def test_beside_the_recorder(self, root: Path, plugin: str, tmp_path: Path) -> None:
        from pqtls.observe.recorder import RecorderFolder

        enable_venv(root, Request(plugins=(plugin,)))
        with RecorderFolder() as recorder:
            environment = recorder.environment(dict(ENVIRONMENT))
            done = run(root, "-c", "import ssl; print(ssl.pqtls_was_here)", **environment)
            lines = "".join(path.read_text() for path in Path(environment["PQTLS_RECORD"]).glob("*.jsonl"))
        assert (done.stdout, done.stderr) == ("1\n", "")
        assert '"e":"ready"' in lines

    @pytest.mark.parametrize("require", [False, True])
    def test_one_that_fails(self, root: Path, plugin: str, require: bool) -> None:
        request = Request(plugins=(plugin,), settings={"fail": True}, require_pq=require)
        if require:
            with pytest.raises(CannotProveError, match="some_plugin could not be installed"):
                enable_venv(root, request)
            return
        enable_venv(root, request)
        done = run(root, "-c", VERSION)
        assert done.stdout.startswith("OpenSSL 3.5")
        assert done.stderr == "pqtls: some_plugin could not be installed (RuntimeError: no)\n"


class TestEntryPoint:
    """PEP 829: a `.start` file for Python 3.15 and newer. Where there is none, the callable is called here."""

    def test_the_callable(self, root: Path, source: Source) -> None:
        venv = find_venv(root, ENVIRONMENT)
        before = hash_tree(root)
        done = enable_module.enable(replace(venv, version=(3, 15, 0)), Request(), ENVIRONMENT)
        if done.outcome == "native":
            pytest.skip("this Python has ML-KEM by its own OpenSSL: nothing is enabled")
        package, _, name = (site_packages(root) / START).read_text().strip().partition(":")
        call = f"import {package}; print(repr({package}.{name}()));"
        assert run(root, "-c", f"{call} {VERSION}").stdout.splitlines() == ["''", source.version]
        (site_packages(root) / PTH).unlink()  # as from 3.18 on, where its line is ignored
        assert run(root, "-c", VERSION).stdout.strip() == own_version()
        assert run(root, "-c", f"{call} {VERSION}").stdout.splitlines() == ["''", source.version]
        disable_venv(root)
        assert hash_tree(root) == before

    @pytest.mark.smoke
    def test_python_calls_it(self, source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        python = sys.executable if sys.version_info >= (3, 15) else shutil.which("python3.15")
        if python is None:
            pytest.skip("no Python 3.15 here")
        root = make_venv(tmp_path / "venv", python)
        before, own = hash_tree(root), run(root, "-c", VERSION).stdout

        def probe(*arguments: Any, **options: Any) -> Any:
            """It has ML-KEM by itself, if it is Debian's: as if it had none."""
            found = probe_mlkem(*arguments, **options)
            return found if "prelude" in options else SimpleNamespace(has_mlkem=False)

        monkeypatch.setattr(enable_module, "probe_mlkem", probe)
        assert enable_venv(root)[1].outcome == "enabled"
        place = site_packages(root)
        pth = (place / PTH).read_bytes()
        done = run(root, "-W", "error", "-c", VERSION)
        assert (done.stdout.strip(), done.stderr) == (source.version, "")
        (place / PTH).unlink()  # as from 3.18 on, where its line is ignored
        for flags in ([], ["-I"], ["-E"], ["-s"], ["-O"]):
            done = run(root, *flags, "-c", VERSION)
            assert (done.stdout.strip(), done.stderr) == (source.version, ""), flags
        (place / START).rename(tmp_path / START)
        assert run(root, "-c", VERSION).stdout == own, "the control: neither"
        (place / PTH).write_bytes(pth)
        assert run(root, "-c", VERSION).stdout.strip() == source.version
        (tmp_path / START).rename(place / START)
        (graft_folder(root) / "libssl.so.3").unlink()
        done = run(root, "-c", VERSION)
        assert (done.stdout, done.stderr.count("\n")) == (own, 1), "said once, though both are there"
        disable_venv(root)
        assert hash_tree(root) == before


class TestStatus:
    def test_json(self, enabled: Path, source: Source) -> None:
        status = examine_venv(find_venv(enabled, ENVIRONMENT), ENVIRONMENT).to_json()
        assert validate(status) == "status-1"
        assert (status["state"], status["group"], status["exit_code"]) == ("active", "X25519MLKEM768", 0)
        graft = status["graft"]
        assert graft["openssl"] == source.version
        assert graft["origin"] == source.origin
        assert graft["age_days"] >= 0
        assert {each["kind"] for each in graft["files"]} == {"graft", "source", "own"}

    def test_off_is_a_finding(self, root: Path) -> None:
        status = examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT)
        assert (status.state, status.exit_code, status.to_json()["graft"]) == ("off", 1, None)
        validate(status.to_json())

    def test_what_only_the_hash_shows(self, root: Path) -> None:
        """The same size and time: the start does not see it, status does."""
        enable_venv(root)
        library = graft_folder(root) / "libcrypto.so.3"
        good, times = library.read_bytes(), library.stat()
        library.unlink()
        library.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        os.utime(library, ns=(times.st_atime_ns, times.st_mtime_ns))
        status = examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT)
        assert (status.state, status.exit_code) == ("active", 1)
        assert any("has other contents" in finding for finding in status.findings)

    @pytest.mark.parametrize(("oldest", "code"), [("3.5", 0), ("3", 0), ("3.99", 1), ("4.0.0", 1)])
    def test_older_than(self, enabled: Path, oldest: str, code: int) -> None:
        venv = find_venv(enabled, ENVIRONMENT)
        assert examine_venv(venv, ENVIRONMENT, oldest=parse_oldest(oldest)).exit_code == code

    @pytest.mark.parametrize("text", ["", "x", "3.5.9.1", "3..5", "-1"])
    def test_no_version(self, text: str) -> None:
        with pytest.raises(UsageError):
            parse_oldest(text)

    def test_a_python_that_does_not_answer(self, enabled: Path, tmp_path: Path) -> None:
        venv = find_venv(enabled, ENVIRONMENT)
        status = examine_venv(replace(venv, python=Path("/bin/false")), ENVIRONMENT)
        assert (status.state, status.exit_code) == ("unknown", 3)

    def test_a_python_without_ssl(self, root: Path) -> None:
        """It was not seen to lack ML-KEM: nothing was seen."""
        (site_packages(root) / "without.pth").write_text("import sys; sys.modules['_ssl'] = None\n")
        status = examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT)
        assert (status.state, status.exit_code, "_ssl" in status.detail) == ("unknown", 3, True)
        assert not any("pqtls enable" in line for line in render_status(status))

    def test_a_graft_of_run_does_not_make_it_look_enabled(
        self, root: Path, source: Source, interpreter: Interpreter, tmp_path: Path
    ) -> None:
        from pqtls.openssl.graft import make_graft

        environment = make_graft(source, interpreter, tmp_path / "cache", {}).apply(ENVIRONMENT)
        assert examine_venv(find_venv(root, environment), environment).state == "off"


class TestRefusals:
    def test_no_virtual_environment(self, tmp_path: Path) -> None:
        for folder, word in ((tmp_path, "no pyvenv.cfg"), (tmp_path / "no", "cannot be examined")):
            with pytest.raises(UsageError, match=word):
                find_venv(folder, {})
        with pytest.raises(UsageError, match="has no pyvenv"):
            find_venv(None, {"VIRTUAL_ENV": str(tmp_path)})

    def test_which_one_is_meant(self, root: Path) -> None:
        assert find_venv(None, {"VIRTUAL_ENV": str(root)}).chosen_by == "VIRTUAL_ENV"
        if sys.prefix != sys.base_prefix:
            assert find_venv(None, {}).root == Path(sys.prefix).resolve()
        assert find_venv(root, {"VIRTUAL_ENV": "/x"}).chosen_by == "--venv"

    def test_a_native_python_needs_nothing(self, root: Path, monkeypatch: pytest.MonkeyPatch, enabled: Path) -> None:
        native = probe_mlkem(enabled / "bin" / "python", ENVIRONMENT)
        assert native.has_mlkem
        monkeypatch.setattr(enable_module, "probe_mlkem", lambda *_, **__: native)
        before = hash_tree(root)
        assert enable_venv(root)[1].outcome == "native"
        assert hash_tree(root) == before

    def test_what_cannot_be_grafted(self, interpreter: Interpreter, tmp_path: Path) -> None:
        assert find_venv_obstacle(interpreter, tmp_path) is None
        assert find_venv_obstacle(replace(interpreter, has_blocking_rpath=True), tmp_path) is None
        linkages: dict[Linkage, str] = {
            "static": "statically",
            "openssl-1.1": "whose ABI ended",
            "no-ssl": "no `ssl` module",
        }
        for linkage, word in linkages.items():
            obstacle = find_venv_obstacle(replace(interpreter, linkage=linkage), tmp_path)
            assert obstacle is not None
            assert word in obstacle.reason
            assert obstacle.next_step
        assert interpreter.elf is not None
        pypy = find_venv_obstacle(replace(interpreter, implementation="pypy"), tmp_path)
        assert "is pypy, whose `ssl` is not CPython's" in getattr(pypy, "reason", "")
        musl = replace(interpreter, elf=replace(interpreter.elf, interpreter="/lib/ld-musl-x86_64.so.1"))
        assert "musl" in getattr(find_venv_obstacle(musl, tmp_path), "reason", "")
        (tmp_path / "python").touch(mode=0o755)
        (tmp_path / "python").chmod(0o4755)
        setuid = find_venv_obstacle(replace(interpreter, executable=tmp_path / "python"), tmp_path)
        assert "setuid" in getattr(setuid, "reason", "")

    def test_policies(self, interpreter: Interpreter, tmp_path: Path) -> None:
        (tmp_path / "etc/crypto-policies").mkdir(parents=True)
        obstacle = find_venv_obstacle(interpreter, tmp_path)
        assert obstacle is not None
        assert "--ignore-crypto-policies" in obstacle.next_step
        assert find_venv_obstacle(interpreter, tmp_path, has_to_follow_policies=False) is None
        (tmp_path / "proc/sys/crypto").mkdir(parents=True)
        (tmp_path / "proc/sys/crypto/fips_enabled").write_text("1\n")
        fips = find_venv_obstacle(interpreter, tmp_path, has_to_follow_policies=False)
        assert "FIPS" in getattr(fips, "reason", "")

    @pytest.mark.skipif(not IS_ROOT, reason="mounts")
    def test_a_full_disk_and_a_read_only_one(self, tmp_path: Path) -> None:
        folder = tmp_path / "small"
        folder.mkdir()
        mount, umount = (shutil.which(name) or name for name in ("mount", "umount"))
        if subprocess.run([mount, "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)], check=False).returncode:
            pytest.skip("no mounts here")
        try:
            root = make_venv(folder / "venv")
            before = hash_tree(root)
            with pytest.raises(UsageError, match=r"cannot be enabled: No space left on device\.") as error:
                enable_venv(root)
            assert "room on the disk" in error.value.next_step
            assert hash_tree(root) == before
            subprocess.run([mount, "-o", "remount,ro", str(folder)], check=True)
            assert not disable_venv(root), "there is nothing to remove"
            with pytest.raises(UsageError, match="Read-only file system"):
                enable_venv(root)
        finally:
            subprocess.run([umount, "--lazy", str(folder)], check=True)

    @pytest.mark.parametrize("kind", ["folder", "FIFO", "symbolic link"])
    @pytest.mark.parametrize("place", [PTH, START, "pqtls-graft"])
    def test_something_else_in_the_place_of_ours(self, root: Path, kind: str, place: str) -> None:
        path = (root / "lib" if place == "pqtls-graft" else site_packages(root)) / place
        if kind == "folder" and place == "pqtls-graft":
            path.touch()  # a folder is what belongs there
            kind = "file"
        elif kind == "folder":
            path.mkdir()
            (path / "somebody's").touch()
        elif kind == "FIFO":
            os.mkfifo(path)
        else:
            path.symlink_to("/dev/null")
        before = hash_tree(root)
        with pytest.raises(UsageError, match=f"{place} is a {kind}, where `enable` puts a "):
            enable_venv(root)
        assert hash_tree(root) == before
        if kind != "FIFO":  # for one in the place of a .pth Python itself waits
            assert examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT).state == "off"
        if kind == "folder":
            with pytest.raises(UsageError, match=f"{place} is a folder, which `enable` did not make"):
                disable_venv(root)
            assert hash_tree(root) == before
        else:
            assert disable_venv(root)
            assert not os.path.lexists(path)

    @pytest.mark.parametrize("kind", ["FIFO", "nested"])
    def test_something_else_in_the_place_of_the_manifest(self, root: Path, kind: str) -> None:
        """`status` says so and does not wait for it; `enable` makes it anew; `disable` takes all of it."""
        before = hash_tree(root)
        enable_venv(root)
        path = graft_folder(root) / "manifest.json"
        path.unlink()
        if kind == "FIFO":
            os.mkfifo(path)
        else:
            path.write_text("[" * 100_000)
        status = examine_venv(find_venv(root, ENVIRONMENT), ENVIRONMENT)
        assert (status.exit_code, "is damaged" in status.findings[0]) == (1, True)
        assert enable_venv(root)[1].outcome == "enabled"
        disable_venv(root)
        assert hash_tree(root) == before

    @pytest.mark.skipif(not IS_ROOT, reason="becomes another user")
    def test_files_that_may_not_be_read_or_written(self, short_folder: Path) -> None:
        """By the owner of an environment into which root has put files: one sentence, and nothing half done."""
        short_folder.chmod(0o755)
        root = make_venv(short_folder / "venv", "/usr/bin/python3")
        for path in (root, *root.rglob("*")):
            os.chown(path, 12345, 12345, follow_symlinks=False)
        switch = site_packages(root) / PTH
        for path in (switch, switch.parent):
            if path == switch:
                path.touch(mode=0o000)
            else:
                switch.unlink()
                os.chown(path, 0, 0)
            before = hash_tree(root)
            outcome = as_user(12345, lambda: enable_venv(root))
            assert outcome.startswith(f"UsageError {root} cannot be enabled: Permission denied ({path}"), outcome
            assert hash_tree(root) == before
        os.chown(switch.parent, 12345, 12345)
        assert as_user(12345, lambda: enable_venv(root)) == "done", "the control"

    @pytest.mark.skipif(not IS_ROOT, reason="changes owners")
    @pytest.mark.parametrize("place", ["", "bin", "lib", "link"])
    def test_root_runs_no_python_that_another_user_can_replace(self, root: Path, tmp_path: Path, place: str) -> None:
        (root / "bin" / "python").unlink()
        (root / "bin" / "python").write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
        (root / "bin" / "python").chmod(0o755)
        with pytest.raises(UsageError, match="ended with code 0"):
            find_venv(root, ENVIRONMENT)
        assert (tmp_path / "was-run").exists(), "the control: it is run where it is root's"
        (tmp_path / "was-run").unlink()
        if place == "link":
            (tmp_path / "theirs").mkdir()
            (root / "bin").rename(tmp_path / "theirs" / "bin")
            (root / "bin").symlink_to(tmp_path / "theirs" / "bin")
        os.chown(tmp_path / "theirs" if place == "link" else root / place, 12345, 12345)
        for act in (lambda: find_venv(root, ENVIRONMENT), lambda: choose_root(root)):
            with pytest.raises(UsageError, match="belongs to user id 12345, so root does not run"):
                act()
        assert not (tmp_path / "was-run").exists()

    def test_a_link_for_lib_through_a_place_that_others_can_write_to(self, root: Path, tmp_path: Path) -> None:
        """They could put another folder where the link leads: all that it goes through is looked at, not its name."""
        (tmp_path / "open").mkdir()
        (root / "lib").rename(tmp_path / "open" / "lib")
        (root / "lib").symlink_to(tmp_path / "open" / "lib")
        venv = find_venv(root, ENVIRONMENT)
        enable_module.enable(venv, Request(), ENVIRONMENT)
        (tmp_path / "open").chmod(0o777)
        assert has_stepped_aside(root, "open is writable by other users")
        with pytest.raises(UsageError, match="open, above it, is writable by other users"):
            enable_module.enable(venv, Request(require_pq=True), ENVIRONMENT)

    def test_a_lock_that_somebody_keeps(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever can read a folder can lock it: a bound, and a sentence."""
        monkeypatch.setattr(venv_room, "PATIENCE_S", 0.2)
        script = "import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(f, fcntl.LOCK_EX);"
        script += "print('locked', flush=True); sys.stdin.read()"
        command = [sys.executable, "-c", script, str(root)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "locked\n"
            for act in (lambda: enable_venv(root), lambda: disable_venv(root)):
                with pytest.raises(UsageError, match=r"has been locked by another process for 0\.2 seconds"):
                    act()
            process.communicate("")
        assert not disable_venv(root)

    def test_a_place_that_others_can_write_to(self, root: Path) -> None:
        before = hash_tree(root)
        (root / "lib").chmod(0o777)
        with pytest.raises(UsageError, match="writable by other users"):
            enable_venv(root)
        (root / "lib").chmod(0o755)
        assert hash_tree(root) == before

    def test_a_wheel_that_was_changed(self, root: Path, source: Source, tmp_path: Path) -> None:
        """The files of a wheel must be those of its RECORD before anything is made of them."""
        libs = site_packages(root) / source.libssl.parent.name
        info = next(source.libssl.parent.parent.glob("psycopg_binary-*.dist-info"), None)
        if info is None:
            pytest.skip("the source is no psycopg-binary")
        shutil.copytree(source.libssl.parent, libs)
        shutil.copytree(info, site_packages(root) / info.name)
        from pqtls.openssl.sources import find_sources

        own = replace(inspect_interpreter(root / "bin" / "python", {}), site_packages=(site_packages(root),))
        assert find_sources(own)[0].libssl.is_relative_to(root)
        data = (libs / source.libssl.name).read_bytes()
        (libs / source.libssl.name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        found = [each for each in find_sources(own) if each.libssl.is_relative_to(root)]
        assert [("does not match the RECORD" in each.rejected) for each in found] == [True]
        _, done = enable_venv(root)
        assert done.manifest is not None
        assert not any(each.path.startswith("lib/") for each in done.manifest.files if each.kind == "source")
