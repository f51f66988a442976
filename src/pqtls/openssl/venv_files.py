"""The files of an enabled environment: made under temporary names, switched on by one rename, taken away again.

    site-packages/00-pqtls-graft.pth     the switch: names one id
    site-packages/_pqtls_graft_ID/       the loader with its facts, plug-ins, and their bytecode
    lib/pqtls-graft/ID/                  libssl.so.3, libcrypto.so.3, manifest.json; where there is no graft, the last

Whatever is killed half-way leaves at most folders that no `.pth` names, and Python runs as before. Bytecode is made
here, marked as not to be compared with its source, so that no start of Python writes any. The loader lies in
site-packages, not with the libraries: who can change it there can change any program of the environment anyway.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pqtls.inject
from pqtls.errors import BugError, CannotProveError, UsageError
from pqtls.openssl.child import MARK, ask
from pqtls.openssl.paths import exists, find_matching, read_plain
from pqtls.openssl.private_folder import find_parent_obstacle
from pqtls.openssl.venv import graft_root
from pqtls.openssl.venv_manifest import MAX_SWITCH_BYTES, PACKAGE_PREFIX, PTH, START, find_packages
from pqtls.openssl.whole_folder import sync_folder, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pqtls.openssl.venv import Venv

_INJECT = Path(pqtls.inject.__file__).parent
_PLACE = 'FACTS: "dict[str, Any]" = {}\n'

# One line, as a .pth must have it. Every start of Python runs it, a virtual environment's even twice (`site` goes
# through the same folder again): so it is short, compiles nothing the second time, and ends in no traceback. The loader
# is read by its path, since `import` would list the folders of sys.path first; its `__path__` is for the plug-ins.
_PTH_LINE = 'import sys; "_pqtls_graft" in sys.modules or exec({code!r})\n'
_PTH_CODE = """\
try:
 from _frozen_importlib_external import SourceFileLoader as L
 m = sys.modules["_pqtls_graft"] = type(sys)("_pqtls_graft")
 p = sys.prefix + "/{package}"
 m.__path__ = [p]
 m.__file__ = p + "/__init__.py"
 exec(L(p, m.__file__).get_code(p), m.__dict__)
 m.start()
except Exception as e:
 sys.modules["_pqtls_graft"] = None
 e = "its loader is gone, damaged or another Python's (%s)" % e
 sys.stderr.write("pqtls: " + e + "; run `" + {command} + "` again\\n")
"""
_PTH_REFUSE = ' sys.modules["ssl"] = sys.modules["_ssl"] = None\n'

# Runs in the environment's Python: bytecode for its own version, found by -O and -OO too; without docstrings at all
# levels, since reading them costs time.
_COMPILE = """
import importlib.util, json, os, py_compile, sys
folder, final = sys.argv[1:3]
for name in sorted(os.listdir(folder)):
    if name.endswith(".py"):
        for level in (0, 1, 2):
            source = os.path.join(folder, name)
            cached = importlib.util.cache_from_source(source, optimization=level or "")
            if not cached.startswith(folder):
                cached = os.path.join(folder, "__pycache__", os.path.basename(cached))
            py_compile.compile(source, cached, os.path.join(final, name), doraise=True, optimize=2,
                               invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
print("@MARK@" + json.dumps({}))
""".replace("@MARK@", MARK)


def package_folder(venv: Venv, graft_id: str) -> Path:
    """Return where the loader of a graft lies.

    Args:
        venv: The environment.
        graft_id: The graft's id.
    """
    return venv.site_packages / f"{PACKAGE_PREFIX}{graft_id}"


def check_places(venv: Venv) -> None:
    """Make sure that what is to be written can be, and stays what was written; before anything is.

    Args:
        venv: The environment.

    Raises:
        UsageError: Something else has the place of one of our files, or others could replace what is put there.
    """
    for path in (*(venv.site_packages / name for name in (START, PTH)), venv.graft_root):
        wanted = "folder" if path == venv.graft_root else "file"
        found = describe_entry(path)
        if found not in ("", wanted):
            raise UsageError(
                f"{path} is a {found}, where `enable` puts a {wanted} of its own.", "Move it away, if it is yours."
            )
    # As it is named, and where links lead: whoever can change one of the folders on either way can replace it.
    for place in dict.fromkeys((venv.graft_root, venv.graft_root.resolve())):
        unsafe = find_parent_obstacle(place / "id" if exists(place) else place)
        if unsafe:
            raise UsageError(
                f"{unsafe}, so what is put there would not be safe.",
                "Run it as the owner of the environment; take write permission from others (chmod go-w).",
            )


def describe_entry(path: Path) -> str:
    """Say what a name stands for, links not followed: "file", "folder", "symbolic link", ...; "" if there is nothing.

    Args:
        path: Any path.

    Raises:
        OSError: It cannot be told.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return ""
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "FIFO"}
    return kinds.get(stat.S_IFMT(mode), "device or socket")


def read_switch(path: Path) -> bytes | None:
    """Read a `.pth` or `.start` file of ours; None if there is none.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read, or is not one of ours by its size.
    """
    try:
        return read_plain(path, MAX_SWITCH_BYTES)
    except FileNotFoundError:
        return None


def write_package(
    folder: Path, venv: Venv, facts: Mapping[str, object], plugins: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Write the loader with its facts, the plug-ins and their bytecode.

    Args:
        folder: Not there yet; it is to be renamed to `package_folder`.
        venv: The environment.
        facts: For the loader, all literals.
        plugins: Names of modules of `pqtls.inject`.
        environment: What its Python is started with.

    Raises:
        CannotProveError: The environment's Python could not compile them.
    """
    folder.mkdir(mode=0o755)
    source = (_INJECT / "graft_loader.py").read_text(encoding="utf-8")
    if source.count(_PLACE) != 1:
        raise BugError("The loader has no place for its facts.", "Please report it.")
    source = source.replace(_PLACE, f"FACTS = {dict(facts)!r}\n")
    write_file(folder / "__init__.py", source.encode(), 0o644)
    for name in plugins:
        write_file(folder / f"{name}.py", (_INJECT / f"{name}.py").read_bytes(), 0o644)
    final = package_folder(venv, str(facts["id"]))
    answer = ask(venv.python, _COMPILE, [str(folder), str(final)], environment, is_bare=True)
    if answer.value is None:
        raise CannotProveError(f"{venv.python} {answer.failure} as it compiled the loader.", "Look into its output.")
    for path in (folder, folder / "__pycache__"):
        path.chmod(0o755)
    for path in (folder / "__pycache__").iterdir():
        path.chmod(0o644)
    sync_folder(folder)


def switch_on(venv: Venv, graft_id: str, making: Path, command: str, *, has_to_refuse: bool) -> None:
    """Make an environment's Python run a loader from its next start; each step is one rename.

    Args:
        venv: The environment.
        graft_id: Whose loader and folder are in place.
        making: A folder for temporary files, on the same file system.
        command: What sets it up again, for where the loader is gone.
        has_to_refuse: TLS is refused even where the loader itself is gone.
    """
    package = f"{PACKAGE_PREFIX}{graft_id}"
    if venv.version[:2] >= (3, 15):
        write_file(making / START, f"{package}:start\n".encode(), 0o644)
        (making / START).rename(venv.site_packages / START)
    place = package_folder(venv, graft_id).relative_to(venv.root)
    # ASCII alone: Pythons before 3.13 read the file in the encoding of whoever starts them.
    code = _PTH_CODE.format(package=place, command=ascii(command)) + (_PTH_REFUSE if has_to_refuse else "")
    write_file(making / PTH, _PTH_LINE.format(code=code).encode(), 0o644)
    (making / PTH).rename(venv.site_packages / PTH)
    sync_folder(venv.site_packages)


def remove_all(root: Path) -> bool:
    """Take everything of ours out of an environment, also what a killed command left.

    Args:
        root: The environment's folder. Its Python need not start.

    Returns:
        There was something.

    Raises:
        OSError: Something cannot be removed.
        UsageError: A folder has the name of the switch; then nothing was removed.
    """
    found = False
    base = graft_root(root)
    all_site_packages = find_all_site_packages(root)
    for path in (each / name for each in all_site_packages for name in (START, PTH)):
        if describe_entry(path) == "folder":  # none of ours, and who knows what is in it
            raise UsageError(f"{path} is a folder, which `enable` did not make.", "Move it away, if it is yours.")
    for site_packages in all_site_packages:  # first, so that no start of Python looks for the rest
        for name in (START, PTH):
            if os.path.lexists(site_packages / name):  # a read-only file system refuses what is not there too
                with contextlib.suppress(FileNotFoundError):
                    (site_packages / name).unlink()
                found = True
    for site_packages in all_site_packages:
        for package in find_packages(site_packages):
            found = True
            remove_folder(package, base)
    kind = describe_entry(base)
    if kind == "folder":
        shutil.rmtree(base)
    elif kind:
        base.unlink()
    return found or bool(kind)


def remove_folder(folder: Path, base: Path) -> None:
    """Remove a folder, out of the way first, so that nobody meets half of it.

    Args:
        folder: The folder, or whatever has its name.
        base: Where it is moved to, if that is there.
    """
    if describe_entry(folder) != "folder":
        folder.unlink()
        return
    with contextlib.suppress(OSError):
        aside = Path(tempfile.mkdtemp(prefix=".gone-", dir=base))
        folder = folder.rename(aside / folder.name)
    shutil.rmtree(folder)


def remove_leftovers(venv: Venv, keep: set[str]) -> None:
    """Remove what killed commands left, and grafts of earlier generations.

    Args:
        venv: The environment.
        keep: Ids that stay: the active one, and the one before it, which a Python that is just starting may load.
    """
    base = venv.graft_root
    for package in find_packages(venv.site_packages):
        if package.name.removeprefix(PACKAGE_PREFIX) not in keep:
            remove_folder(package, base)
    for folder in find_matching(base, "*"):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)


def find_all_site_packages(root: Path) -> list[Path]:
    """Return every site-packages folder of an environment, of whatever Python version.

    Args:
        root: The environment's folder.
    """
    return [path for each in find_matching(root / "lib", "*") if exists(path := each / "site-packages")]


def is_touched(root: Path) -> bool:
    """Tell whether there is anything of ours in an environment.

    Args:
        root: Its folder.
    """
    ours = [each / name for each in find_all_site_packages(root) for name in (PTH, START)]
    packages = [package for each in find_all_site_packages(root) for package in find_packages(each)]
    return bool(packages) or any(os.path.lexists(path) for path in (*ours, graft_root(root)))
