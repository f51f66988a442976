"""Put a venv's newer OpenSSL under this process before anything imports `_ssl`, or step aside.

Where the interpreter's own OpenSSL has ML-KEM there is no graft to load: then it only waits for `ssl` to hold it to
what the environment is held to.

`pqtls enable` copies this file into the venv's site-packages as a package of its own, with `FACTS` filled in, and a
`.pth` calls `start()` at every start of its Python. It must cost less than 2 ms, so it imports nothing that `site`
has not imported already. It never raises: where it cannot do its work it says so in one line and
Python goes on with its own OpenSSL, or, where post-quantum is required, `import ssl` is refused.

What is checked at every start is cheap: sizes and times of the files that were recorded. Only where a time differs
(a copied environment, a container's image) are bytes hashed. `pqtls status` hashes them always.
"""

import os
import sys

# Not from `typing`, and no annotations from the future: each would be one more file to load at every start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from importlib.machinery import ModuleSpec
    from typing import Any

FACTS: "dict[str, Any]" = {}
"""Filled in by `pqtls.openssl.enable`:

    id           names the graft's folder, lib/pqtls-graft/ID below the venv, and this package, _pqtls_graft_ID
    levels       how many folders this package's own folder lies below the venv
    base_prefix  sys.base_prefix of the interpreter that it was made for; a path, so in bytes: each process decodes
                 them by its own locale
    files        (kind, path in bytes, size, mtime_ns, sha256): "graft" in the graft's folder, "source" and "own"
                 elsewhere; a path without "/" in front is relative to the venv
    owners       user ids that may own the folders, besides root and this process's own
    groups       (user id, group id) of folders whose group has nobody else in it
    modules      folder of the system's provider modules, in bytes, where it did not fit into libcrypto; or b""
    require      refuse TLS where the graft cannot be loaded
    plugins      modules of this package whose `install(ssl, settings)` is called once `ssl` is imported
    settings     what they are called with
    is_native    there is no graft: the interpreter's own OpenSSL stays
    command      what sets it up again, as a command line
"""

TESTED = ((3, 8), (3, 13))
"""Pythons whose import was seen to leave a library mapped; others, and unusual processes, take `_ctypes`."""
LIBCRYPTO, LIBSSL = "libcrypto.so.3", "libssl.so.3"
ROOT = "lib/pqtls-graft"
NAME = "_pqtls_graft"
"""Under this name the loader is found in sys.modules, and plug-ins below it, whatever its folder is called."""
_OLDEST_TIME_S = 86_400
"""Some systems set all times to 0 or 1 (OSTree, Nix): such a time tells nothing, and the bytes are hashed."""

_state: "list[str]" = []


class StepAsideError(Exception):
    """Why this process keeps the interpreter's own OpenSSL; the text is the first half of a sentence."""


def start(is_trial: bool = False) -> str:
    """Load the graft, once in a process, and wait for `ssl`; never raises.

    Args:
        is_trial: A bare interpreter (`-S`) is made to load it before it is switched on.

    Returns:
        Why the graft was not loaded, "" if it was.
    """
    if sys.modules.setdefault(NAME, sys.modules[__name__]) is not sys.modules[__name__]:
        return ""  # another generation of us was first: `pqtls enable` was killed between its last two steps
    if _state:
        return _state[0]
    try:
        _load(is_trial)
        why = ""
    except StepAsideError as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the program goes on
        why = f"the graft could not be loaded ({type(error).__name__}: {error})"
    _state.append(why)
    try:
        if why:
            _step_aside(why)
        elif FACTS["plugins"]:
            _await_ssl()
    except Exception:  # noqa: BLE001, S110
        pass
    return why


def _await_ssl() -> None:
    """Have the plug-ins installed when `ssl` is imported; at once where another `.pth` has done so."""
    module = sys.modules.get("ssl")
    if module is None:
        sys.meta_path.insert(0, _Watch())
        return
    try:
        install_plugins(module)
    except ImportError as error:
        _say(str(error).replace("pqtls: ", "", 1))
        refuse_tls(str(error).replace("pqtls: ", "", 1))


def _load(is_trial: bool) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    own = here
    for _ in range(FACTS["levels"]):
        own = os.path.dirname(own)
    if not is_trial and sys.prefix != own and not os.path.samefile(sys.prefix, own):
        raise StepAsideError(f"this Python is not the one of {own}")
    if FACTS["is_native"]:
        return  # nothing to compare: each plug-in finds out for itself whether this OpenSSL follows
    base_prefix = os.fsdecode(FACTS["base_prefix"])
    if sys.base_prefix != base_prefix:
        raise StepAsideError(f"{own} was enabled for the Python in {base_prefix}")
    loaded = [name for name in ("_ssl", "_hashlib") if name in sys.modules]
    if loaded:
        raise StepAsideError(f"{loaded[0]} was imported before the graft could be loaded")
    root = os.path.realpath(own)
    # Links followed here, also one in the place of lib: what is checked is then what is loaded, all the way up.
    folder = os.path.realpath(f"{root}/{ROOT}/{FACTS['id']}")
    _check_trust(folder)
    for kind, name, size, mtime_ns, sha256 in FACTS["files"]:
        path = os.fsdecode(name)
        _check_file(kind, path if path[:1] == "/" else f"{root}/{path}", size, mtime_ns, sha256)
    _open(folder, is_trial)


def _check_trust(folder: str) -> None:
    """Refuse a folder that others can write to, rename or replace, and files in it that are not plain files."""
    owners = {0, os.geteuid(), *FACTS["owners"]}
    for name in (LIBCRYPTO, LIBSSL):
        _check_entry(f"{folder}/{name}", owners, is_file=True)
    path = folder
    while True:
        _check_entry(path, owners, is_file=False)
        parent = os.path.dirname(path)
        if parent == path:
            return
        path = parent


def _check_entry(path: str, owners: "set[int]", *, is_file: bool) -> None:
    try:
        status = os.lstat(path)
    except OSError as error:
        raise StepAsideError(f"the graft is gone or out of reach ({path}: {error.strerror})") from error
    mode = status.st_mode
    if mode & 0o170000 != (0o100000 if is_file else 0o040000):
        raise StepAsideError(f"{path} is not a plain {'file' if is_file else 'folder'}")
    if status.st_uid not in owners and status.st_uid not in _overflow_owner():
        raise StepAsideError(f"{path} belongs to user id {status.st_uid}")
    # Sticky, as /tmp: others can add names, but not replace ours.
    if not mode & 0o022 or (mode & 0o1000 and not is_file):
        return
    if mode & 0o002 or (status.st_uid, status.st_gid) not in FACTS["groups"]:
        raise StepAsideError(f"{path} is writable by other users")


def _overflow_owner() -> "tuple[int, ...]":
    """Return who stands for the host's root in a user namespace, where it is not mapped; else nobody."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            if [line.split() for line in file] == [["0", "0", "4294967295"]]:
                return ()
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:
            return (int(file.read()),)
    except (OSError, ValueError):
        return ()


def _check_file(kind: str, path: str, size: int, mtime_ns: int, sha256: str) -> None:
    """Make sure that a file is the one of `pqtls enable`: by size and time, else by its bytes."""
    what = {"graft": "the graft is damaged", "source": "its source changed"}.get(kind, "Python's own OpenSSL changed")
    try:
        status = os.stat(path)
    except OSError as error:
        if kind == "source" and isinstance(error, PermissionError):
            # A service user need not see into the folder of who enabled it. This check only tells of an upgrade;
            # what is loaded was checked above, and `pqtls status` compares the source, as somebody who may.
            return
        raise StepAsideError(f"{what} ({path}: {error.strerror})") from error
    if status.st_size == size:
        # Images keep whole seconds only.
        seconds = status.st_mtime_ns // 1_000_000_000
        if seconds > _OLDEST_TIME_S and seconds == mtime_ns // 1_000_000_000:
            return
        if _sha256(path) == sha256:
            return
    raise StepAsideError(f"{what} ({path})")


def _sha256(path: str) -> str:
    """Hash a file without `hashlib`, which would load the interpreter's own libcrypto."""
    try:
        digest: Any = __import__("_sha2").sha256()  # since 3.12
    except ImportError:
        digest = __import__("_sha256").sha256()
    with open(path, "rb") as file:
        while True:
            data = file.read(1 << 20)
            if not data:
                return str(digest.hexdigest())
            digest.update(data)


def _open(folder: str, is_trial: bool) -> None:
    """Map both libraries, for this process's modules to find by their names (SONAME); or neither.

    At each start they are bound lazily, which saves 0.4 ms; that no symbol is missing was seen in the trial.
    """
    is_plain = "_ctypes" not in sys.modules and "LD_PRELOAD" not in os.environ and not FACTS["modules"]
    if is_plain and not is_trial and TESTED[0] <= sys.version_info[:2] <= TESTED[1]:
        _open_as_modules(folder)
    else:
        _open_by_ctypes(folder, os.RTLD_NOW if is_trial else os.RTLD_LAZY)


def _open_as_modules(folder: str) -> None:
    """Let Python's import map them, since `_ctypes` alone would cost 0.45 ms: a quarter of all that we may."""
    flags = sys.getdlopenflags()
    try:
        for kind, name, *_ in FACTS["files"]:
            path = os.fsdecode(name)
            if kind == "own" and "libcrypto" in path and not _map(path, os.RTLD_LAZY | os.RTLD_NOLOAD):
                raise StepAsideError(f"something loaded {path} before the graft could be loaded")
        for name in (LIBCRYPTO, LIBSSL):
            why = _map(f"{folder}/{name}", os.RTLD_LAZY | os.RTLD_LOCAL)
            if why:
                raise StepAsideError("the graft could not be loaded ({})".format(why.replace(f"{folder}/", "")))
    finally:
        sys.setdlopenflags(flags)


def _map(path: str, mode: int) -> str:
    """Map a library as if it were an extension module; return why not, "" if it is mapped.

    CPython calls dlopen, finds no function to initialise a module with, says so, and leaves the library mapped: there
    is no dlclose in it. `pqtls enable` and `pqtls status` see from outside that it is so.
    """
    import _imp
    from _frozen_importlib import ModuleSpec

    sys.setdlopenflags(mode)
    try:
        _imp.create_dynamic(ModuleSpec("pqtls_library", None, origin=path))
    except ImportError as error:
        return "" if "PyInit_pqtls_library" in str(error) else str(error)
    return f"{path} is an extension module"


def _open_by_ctypes(folder: str, mode: int) -> None:
    """Map them by calls that also tell what else is there."""
    import _ctypes

    open_library: Any = _ctypes.dlopen
    close: Any = _ctypes.dlclose
    find: Any = _ctypes.dlsym
    try:
        # Before anything is mapped: what comes second under the same name would be bound to the first.
        close(open_library(LIBCRYPTO, os.RTLD_LAZY | os.RTLD_NOLOAD))
    except OSError:
        pass
    else:
        raise StepAsideError(f"something loaded another {LIBCRYPTO} before the graft could be loaded")
    handles = []
    try:
        for name in (LIBCRYPTO, LIBSSL):
            handles.append(open_library(f"{folder}/{name}", mode | os.RTLD_LOCAL))
        crypto, ssl = handles
        # What libssl was bound to, seen through itself and directly.
        if find(ssl, "OpenSSL_version_num") != find(crypto, "OpenSSL_version_num"):
            raise OSError("it was bound to another libcrypto.so.3")  # noqa: TRY301
        if FACTS["modules"] and "OPENSSL_MODULES" not in os.environ:
            call: Any = _ctypes.call_function
            call(find(crypto, "OSSL_PROVIDER_set_default_search_path"), (None, FACTS["modules"]))
    except OSError as error:
        for handle in reversed(handles):
            close(handle)
        reason = str(error).replace(f"{folder}/", "")
        raise StepAsideError(f"the graft could not be loaded ({reason})") from error


def _step_aside(why: str) -> None:
    why = f"{why}; run `{FACTS['command']}` again"
    _say(why)
    if FACTS["require"]:
        refuse_tls(f"post-quantum TLS is required here, but {why}")


def _say(text: str) -> None:
    try:
        sys.stderr.write(f"pqtls: {' '.join(text.split())}\n")
        sys.stderr.flush()
    except Exception:  # noqa: BLE001, S110 - there may be no standard error
        pass


def refuse_tls(why: str) -> None:
    """Make every `import ssl` of this process fail, and contexts of one that was imported before.

    Args:
        why: The error's text.
    """
    for name in ("ssl", "_ssl"):
        module = sys.modules.pop(name, None)
        context: Any = getattr(module, "SSLContext", None)
        if context is not None:

            def refuse(*_: "Any", **__: "Any") -> None:
                raise ImportError(f"pqtls: {why}", name="ssl")

            context.__new__ = refuse
    sys.meta_path.insert(0, _Refusal(f"pqtls: {why}"))


class _Refusal:
    """A meta path finder that finds no `ssl`, and says why."""

    def __init__(self, why: str) -> None:
        self.why = why

    def find_spec(self, name: str, _path: "Any" = None, _target: "Any" = None) -> None:
        """Refuse `ssl`; leave everything else to others."""
        if name in ("ssl", "_ssl"):
            raise ImportError(self.why, name=name)


class _Watch:
    """A meta path finder that waits for `ssl`, whatever other finders (the recorder's, a tracer's) do the same."""

    def __init__(self) -> None:
        self.is_searching = False

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "ModuleSpec | None":
        """Find `ssl` as the other finders would, and have its loader call the plug-ins afterwards."""
        if name != "ssl" or self.is_searching:
            return None
        self.is_searching = True  # the recorder's finder asks all others, us too
        try:
            for finder in sys.meta_path:
                find = getattr(finder, "find_spec", None)
                spec: Any = None if finder is self or find is None else find(name, path, target)
                if spec is not None:
                    if spec.loader is not None:
                        spec.loader = _Loader(spec.loader)
                    found: ModuleSpec = spec
                    return found
        finally:
            self.is_searching = False
        return None


class _Loader:
    """Loads `ssl` by its own loader, leaves that one in the module, and installs the plug-ins."""

    def __init__(self, loader: "Any") -> None:
        self.loader = loader

    def create_module(self, spec: "ModuleSpec") -> "types.ModuleType | None":
        """Create the module as its own loader does."""
        module: types.ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: "types.ModuleType") -> None:
        """Run the module, then the plug-ins."""
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        install_plugins(module)


def install_plugins(ssl: "types.ModuleType") -> None:
    """Call `install(ssl, settings)` of each plug-in; one that fails is told in one line.

    Args:
        ssl: The imported module.

    Raises:
        ImportError: Post-quantum is required, and a plug-in failed.
    """
    for name in FACTS["plugins"]:
        try:
            module = __import__(f"{NAME}.{name}", fromlist=["install"])
            module.install(ssl, dict(FACTS["settings"]))
        except Exception as error:
            why = f"{name} could not be installed ({type(error).__name__}: {error})"
            if FACTS["is_native"]:  # no graft has stepped aside with these words
                why += f"; run `{FACTS['command']}` again"
            if FACTS["require"]:
                raise ImportError(f"pqtls: post-quantum TLS is required here, but {why}", name="ssl") from error
            _say(why)
