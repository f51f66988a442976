from __future__ import annotations

import json
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pqtls.errors import UsageError
from pqtls.openssl.child import MARK, ask
from pqtls.openssl.graft import Graft
from pqtls.openssl.interpreter import Interpreter, find_interpreter, inspect_interpreter
from tests.openssl.elf_files import make_elf


def executable_file(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def fake_python(folder: Path, **changes: Any) -> Path:
    """A program that answers as an interpreter of another kind would."""
    answer = {
        "executable": str(folder / "program"), "version": "3.11.0", "implementation": "cpython", "platform": "linux",
        "machine": "x86_64", "glibc": "glibc 2.36", "ssl_error": "", "site_packages": [], "mapped": [],
        "openssl_version": "OpenSSL 3.0.19 27 Jan 2026", "openssl_version_info": [3, 0, 0, 19, 15],
        "cafile": "/usr/lib/ssl/cert.pem", "capath": "/usr/lib/ssl/certs", "ssl_module": None, **changes,
    }  # fmt: skip
    (folder / "answer").write_text(f"some noise\n{MARK}{json.dumps(answer)}\n")
    return executable_file(folder / "python3", f"#!/bin/sh\nexec cat '{folder}/answer'\n")


def test_this_interpreter(interpreter: Interpreter) -> None:
    import ssl

    assert interpreter.version == ".".join(str(part) for part in sys.version_info[:3])
    assert interpreter.executable == Path(sys.executable)
    assert interpreter.openssl_version.startswith("OpenSSL 3.")
    assert interpreter.cafile == ssl.get_default_verify_paths().openssl_cafile
    assert interpreter.ssl_module is not None
    assert interpreter.libssl is not None
    assert interpreter.libssl.name.startswith("libssl.so.3")
    assert interpreter.elf is not None
    assert not interpreter.is_musl
    assert not interpreter.has_blocking_rpath


def test_a_graft_in_the_environment_is_not_the_interpreter(graft: Graft, interpreter: Interpreter) -> None:
    assert inspect_interpreter(sys.executable, graft.apply({})) == interpreter


def test_what_is_no_python(tmp_path: Path) -> None:
    crash = executable_file(tmp_path / "crash", "#!/bin/sh\nkill -SEGV $$\n")
    for path in (tmp_path / "absent", crash, Path("/bin/ls")):
        with pytest.raises(UsageError, match="is not a usable Python") as caught:
            inspect_interpreter(path, {})
        assert "\n" not in str(caught.value)
        assert "import signal" not in str(caught.value), "our own script is not quoted"
    with pytest.raises(UsageError, match="SIGSEGV"):
        inspect_interpreter(crash, {})


def test_a_program_that_hangs_ends_with_its_children(tmp_path: Path) -> None:
    hang = executable_file(tmp_path / "hang", "#!/bin/sh\n/bin/sleep 60 & wait\n")
    began = time.monotonic()
    assert "did not answer within 0.2 seconds" in ask(hang, "", environment={}, timeout_s=0.2).failure
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("needed", "changes", "linkage"),
    [
        (["libssl.so.3", "libcrypto.so.3"], {}, "dynamic"),
        (["libc.so.6"], {}, "static"),
        (["libssl.so.1.1"], {"openssl_version": "OpenSSL 1.1.1w  11 Sep 2023"}, "openssl-1.1"),
        (["libssl-28bef1ac.so.1.1.1k"], {"openssl_version": "", "ssl_error": "ImportError: x"}, "openssl-1.1"),
        (["libssl.so.56"], {"openssl_version": "LibreSSL 3.8.2"}, "libressl"),
        ([], {"openssl_version": "AWS-LC 1.40.0"}, "other"),
        ([], {"openssl_version": "", "ssl_error": "ModuleNotFoundError: No module named '_ssl'"}, "no-ssl"),
    ],
)
def test_linkage(tmp_path: Path, needed: list[str], changes: dict[str, Any], linkage: str) -> None:
    (tmp_path / "program").write_bytes(make_elf(interpreter="/lib64/ld-linux-x86-64.so.2"))
    (tmp_path / "_ssl.so").write_bytes(make_elf(needed=needed))
    found = inspect_interpreter(fake_python(tmp_path, ssl_module=str(tmp_path / "_ssl.so"), **changes), {})
    assert found.linkage == linkage
    assert found.glibc == (2, 36)


def test_ssl_built_into_the_program(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(make_elf(interpreter="/lib/ld-musl-x86_64.so.1", needed=["libssl.so.3"]))
    found = inspect_interpreter(fake_python(tmp_path), {})
    assert found.linkage == "dynamic"
    assert found.is_musl


@pytest.mark.parametrize(
    ("paths", "is_blocking"),
    [
        ({"rpath": "$ORIGIN/lib"}, True),
        ({"rpath": "$ORIGIN/other"}, False),
        ({"runpath": "$ORIGIN/lib"}, False),
        ({"rpath": "$ORIGIN/lib", "runpath": "/x"}, False),
    ],
)
def test_dt_rpath_blocks_only_if_it_leads_to_libssl(tmp_path: Path, paths: dict[str, Any], is_blocking: bool) -> None:
    (tmp_path / "program").write_bytes(make_elf(interpreter="/lib64/ld-linux-x86-64.so.2"))
    (tmp_path / "_ssl.so").write_bytes(make_elf(needed=["libssl.so.3"], **paths))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libssl.so.3").touch()
    mapped = [str(tmp_path / "lib" / "libssl.so.3")]
    found = inspect_interpreter(fake_python(tmp_path, ssl_module=str(tmp_path / "_ssl.so"), mapped=mapped), {})
    assert found.has_blocking_rpath is is_blocking


SHEBANGS = {
    "plain": "#!{python}\n",
    "with-option": "#!{python} -E\n",
    "env": "#!/usr/bin/env python3.99\n",
    "env-S": "#!/usr/bin/env -S python3.99 -u\n",
    "env-vS": "#!/usr/bin/env -vS FOO=1 python3.99 -u\n",
    "long": "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\nimport sys\n",
    "uv": "#!/bin/sh\n'''exec' '{python}' \"$0\" \"$@\"\n' '''\nimport sys\n",
    "relocatable": "#!/bin/sh\n"
    "'''exec' \"$(dirname -- \"$(realpath -- \"$0\")\")\"/'python3.99' \"$0\" \"$@\"\n' '''\n",
}


@pytest.mark.parametrize("kind", SHEBANGS)
def test_scripts(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / ("a folder" if kind in ("long", "uv") else "folder")
    folder.mkdir()
    python = executable_file(folder / "python3.99", "")
    script = executable_file(folder / "tool", SHEBANGS[kind].replace("{python}", str(python)))
    assert find_interpreter([str(script), "--help"], str(folder)) == python
    assert find_interpreter(["tool"], f"{folder}:/usr/bin:/bin") == python


def test_programs(tmp_path: Path) -> None:
    python = executable_file(tmp_path / "python3.99", "")
    tool = executable_file(tmp_path / "tool", "#!/bin/sh\nexec true\n")
    nested = executable_file(tmp_path / "nested", f"#!{executable_file(tmp_path / 'inner', f'#!{python}')}\n")
    loop = tmp_path / "loop"
    executable_file(loop, f"#!{loop}\n")
    broken = executable_file(tmp_path / "broken", "#!/usr/bin/env python3.99 -u\n")  # needs -S
    path = f"{tmp_path}:/usr/bin:/bin"
    assert find_interpreter(["python3.99", "-c", "1"], path) == python
    assert find_interpreter(["env", "-i", "-u", "X", "A=b", "python3.99"], path) == python
    assert find_interpreter([str(nested)], path) == python
    for other in ([], ["absent"], [str(tool)], [str(loop)], ["/bin/ls"], [str(broken)], ["env"]):
        assert find_interpreter(other, path) is None, other


def test_a_virtual_environment_keeps_its_link(tmp_path: Path) -> None:
    (tmp_path / "python3").symlink_to(sys.executable)
    assert find_interpreter(["python3"], str(tmp_path)) == tmp_path / "python3"
