"""The recorder: what each TLS handshake of this process really said, written down as it happens.

It is loaded by path into other people's programs (see site/sitecustomize.py), so it imports the standard
library only, changes as little as it can and never raises into the program. It waits until `ssl` is imported,
then gives every `ssl.SSLContext` a message callback: OpenSSL hands it each handshake message in the clear.
Hellos, TLS 1.2 ServerKeyExchange and alerts are copied; of all other messages only the type is noted.
Nothing else of a connection is read: no certificates, no payload, no keys.

Each line goes to a private file of this process at once (record_file.py): a crash loses nothing.

Lines are JSON objects, told apart by "e":
    start   the process: pid, ppid, python            ready   ssl is imported and the hook was seen to work
    blind   why this process cannot be seen           msg     a message: connection, direction, type, bytes
    type    a message of which only the type is told  lost    lines that could not be written before this one
    stack   another TLS stack was loaded or used      child   another program, perhaps a shell, was started
    exit    a normal end
"""

from __future__ import annotations

import atexit
import os
import sys
import time

# Not from `typing`, which would cost every program that is watched several milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from typing import Any

HANDSHAKE, ALERT, RECORD_HEADER = 22, 21, 256
# ClientHello, ServerHello (and HelloRetryRequest), EncryptedExtensions, ServerKeyExchange.
COPIED_MESSAGES = frozenset((1, 2, 8, 12))
CLIENT_HELLO, SERVER_HELLO, FINISHED = 1, 2, 20

# Modules that bring a TLS stack of their own, whose handshakes do not pass through Python's ssl.
OTHER_STACKS = {
    "confluent_kafka.cimpl": "confluent-kafka",
    "curl_cffi": "curl_cffi",
    "grpc._cython.cygrpc": "grpcio",
    "M2Crypto": "M2Crypto",
    "_mysql_connector": "mysql-connector-python",
    "MySQLdb._mysql": "mysqlclient",
    "nassl": "nassl",
    "primp": "primp",
    "psycopg_binary": "psycopg",
    "psycopg_c": "psycopg",
    "psycopg2._psycopg": "psycopg2",
    "pycurl": "pycurl",
    "pygit2": "pygit2",
    "pymssql": "pymssql",
    "PySide6.QtNetwork": "Qt",
    "PyQt6.QtNetwork": "Qt",
}

# Stacks that other libraries load without using them (botocore does): what counts is that one is used, which
# begins with an object of this class.
STACKS_IN_USE = {
    "OpenSSL.SSL": ("Connection", "pyOpenSSL"),
    "awscrt.io": ("ClientTlsContext", "awscrt"),
}

# Audit events (PEP 578) of another program being started, and where its name stands in their arguments.
STARTS = {"subprocess.Popen": 0, "os.exec": 0, "os.posix_spawn": 0, "os.system": -1}
SHELLS = frozenset(("ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh"))

# Functions of C libraries by which a program that calls them itself (ctypes) speaks TLS past Python's ssl.
TLS_FUNCTIONS = frozenset(
    (
        *("SSL_new", "SSL_connect", "SSL_do_handshake", "SSL_write", "BIO_new_ssl_connect", "BIO_do_handshake"),
        *("gnutls_handshake", "curl_easy_perform", "curl_multi_perform", "mbedtls_ssl_handshake", "wolfSSL_connect"),
    )
)


class _Connection:
    """What the recorder keeps of one live connection: a number, and records counted per direction."""

    __slots__ = ("client_random", "finished", "is_over", "number", "records", "server_hello")

    def __init__(self) -> None:
        self.number = 0
        self.client_random = b""
        self.records = {"read": 0, "write": 0}
        self.finished: set[str] = set()
        self.is_over = False
        self.server_hello = b""


class Recorder:
    """Writes the lines of one process.

    Args:
        file: A `record_file.RecordFile`.
    """

    def __init__(self, file: Any) -> None:
        self.file = file
        self.probe_hellos: list[bytes] | None = None
        self._stacks: set[str] = set()
        self._connections: Any = None
        self._count = 0

    def after_fork(self) -> None:
        """Give a forked child a file of its own; its parent's connections stay with the parent."""
        self.file.begin()
        stacks, self._stacks = self._stacks, set()
        self.write_start(forked=True)
        for name in stacks:
            self.note_stack(name)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        import json  # not at the top: programs without TLS should not pay for it

        self.file.append(json.dumps(line, separators=(",", ":")))

    def write_start(self, *, forked: bool = False) -> None:
        """Write that this process exists and is being watched."""
        python = ".".join(map(str, sys.version_info[:3]))
        values = (self.file.pid, os.getppid(), python, time.time_ns(), str(forked).lower())
        self.file.append('{"e":"start","pid":%d,"ppid":%d,"python":"%s","t":%d,"forked":%s}' % values)  # noqa: UP031

    def write_exit(self) -> None:
        """Write that the process ends normally, and any other TLS stack that it had loaded unnoticed."""
        for module, name in OTHER_STACKS.items():
            if module in sys.modules:
                self.note_stack(name)
        self.file.append('{"e":"exit"}')

    def note_stack(self, name: str) -> None:
        """Write, once, that another TLS stack is here.

        Args:
            name: Of its distribution.
        """
        if name not in self._stacks:
            self._stacks.add(name)
            self.write({"e": "stack", "name": name})

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an audit event of the interpreter; never raises, since that would stop what the program does."""
        try:
            if event == "import":
                name = OTHER_STACKS.get(arguments[0])
                if name is not None:
                    self.note_stack(name)
            elif event in STARTS:
                by = sys._getframe(1)  # subprocess has told of its own posix_spawn, which is its usual way since 3.13
                if (by.f_globals.get("__name__"), by.f_code.co_name) != ("subprocess", "_posix_spawn"):
                    self.note_child(*_started(event, arguments))
            elif event in ("ctypes.dlsym", "ctypes.dlsym/handle") and arguments[1] in TLS_FUNCTIONS:
                self.note_stack(f"{arguments[1]} of a C library (ctypes)")
        except Exception:  # noqa: BLE001
            self.file.lost += 1

    def note_child(self, name: str, is_shell: bool) -> None:
        """Write that another program is started, perhaps a shell, which may start any number of others."""
        self.write({"e": "child", "name": name, **({"shell": True} if is_shell else {})})

    def watch_spawn(self, util: types.ModuleType) -> None:
        """Watch what multiprocessing starts, of which no audit event tells, by its freshly imported `util`."""
        original: Any = getattr(util, "spawnv_passfds", None)

        def spawnv_passfds(path: Any, args: Any, passfds: Any) -> Any:
            self.audit("os.posix_spawn", (path,))
            return original(path, args, passfds)

        if original is not None:
            util.spawnv_passfds = spawnv_passfds  # type: ignore[attr-defined]

    def watch_use(self, module: types.ModuleType) -> None:
        """Watch a stack that may be loaded without being used.

        Args:
            module: Freshly imported, one of STACKS_IN_USE.
        """
        class_name, stack = STACKS_IN_USE[module.__name__]
        kind: Any = getattr(module, class_name, None)
        if kind is None:
            self.note_stack(stack)
            return
        original = kind.__init__

        def init(connection: Any, *args: Any, **kwargs: Any) -> None:
            self.note_stack(stack)
            original(connection, *args, **kwargs)

        kind.__init__ = init

    def install(self, ssl: types.ModuleType) -> None:
        """Watch every context of the freshly imported `ssl`, and check that a hello is really seen.

        Args:
            ssl: The imported module.
        """
        try:
            self._hook(ssl)
            self._probe(ssl)
        except Exception as error:  # noqa: BLE001 - whatever it is, the program goes on and we say we are blind
            self.write({"e": "blind", "why": f"{type(error).__name__}: {error}"})
            return
        self.write({"e": "ready", "openssl": ssl.OPENSSL_VERSION, "name": _program_name()})

    def _hook(self, ssl: Any) -> None:
        import _ssl
        import weakref

        if self._connections is None:
            self._connections = weakref.WeakKeyDictionary()
        private: Any = _ssl._SSLContext  # typeshed knows none of its private parts
        base = private._msg_callback
        own = ssl.SSLContext._msg_callback
        original_new = ssl.SSLContext.__new__

        def see(*arguments: Any) -> None:
            self.see(*arguments)

        see.user_function = None  # type: ignore[attr-defined]  # the getter reports it: "none set", as before

        def attach(context: Any) -> None:
            try:
                if base.__get__(context) is None:
                    base.__set__(context, see)
            except Exception as error:  # noqa: BLE001
                self.write({"e": "blind", "why": f"a context refused the hook: {error}"})

        def attaching(method: Any) -> Any:
            """Attach once more just before a connection: a context may be older than the recorder."""

            def call(context: Any, *args: Any, **kwargs: Any) -> Any:
                attach(context)
                return method(context, *args, **kwargs)

            call.__name__, call.__qualname__, call.__doc__ = method.__name__, method.__qualname__, method.__doc__
            return call

        def new(cls: type, *args: Any, **kwargs: Any) -> Any:
            context = original_new(cls, *args, **kwargs)
            attach(context)
            return context

        def set_callback(context: Any, callback: Callable[..., Any] | None) -> None:
            """Let a program's own callback be called after ours instead of in place of it."""
            own.fset(context, callback)
            theirs = base.__get__(context)
            if theirs is None:
                base.__set__(context, see)
                return

            def both(*arguments: Any) -> Any:
                self.see(*arguments)
                return theirs(*arguments)

            both.user_function = callback  # type: ignore[attr-defined]
            base.__set__(context, both)

        new.__doc__, new.__qualname__, new.__module__ = original_new.__doc__, "SSLContext.__new__", "ssl"
        ssl.SSLContext._msg_callback = property(own.fget, set_callback, doc=own.__doc__)
        ssl.SSLContext.__new__ = new
        for name in ("wrap_socket", "wrap_bio"):
            setattr(ssl.SSLContext, name, attaching(getattr(ssl.SSLContext, name)))

    def _probe(self, ssl: Any) -> None:
        """Start a handshake that goes nowhere and require that its ClientHello was handed to us."""
        self.probe_hellos = []
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            outgoing = ssl.MemoryBIO()
            connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="probe.invalid")
            try:
                connection.do_handshake()
            except ssl.SSLWantReadError:
                pass
            seen, sent = self.probe_hellos, outgoing.read()
        finally:
            self.probe_hellos = None
        if not any(hello in sent for hello in seen):
            raise RuntimeError("the message callback did not see the ClientHello that ssl sent")

    def see(self, conn: Any, direction: str, _version: int, content: int, message: int, data: bytes) -> None:
        """Take one message from OpenSSL; called by `_ssl` for each, and never raises."""
        try:
            self._see(conn, direction, content, message, data)
        except Exception:  # noqa: BLE001
            self.file.lost += 1

    def _see(self, conn: Any, direction: str, content: int, message: int, data: bytes) -> None:
        if content not in (HANDSHAKE, ALERT, RECORD_HEADER):
            return
        if self.probe_hellos is not None and content == HANDSHAKE:
            self.probe_hellos.append(bytes(data))
            return
        state = self._connections.get(conn)
        if state is None:
            state = self._connections[conn] = _Connection()
        if content == RECORD_HEADER:
            state.records[direction] += data[:1] == b"\x16"
            return
        extra: dict[str, Any] = {}
        if content == HANDSHAKE and message == CLIENT_HELLO:
            extra = self._begin(conn, state, direction, bytes(data))
        if state.is_over or not state.number:
            return
        self._write_message(state, direction, content, message, data, extra)

    def server_hello_of(self, conn: Any) -> bytes | None:
        """Return the ServerHello of a connection whose handshake has finished; for `pqtls.group`.

        Args:
            conn: An SSLSocket or SSLObject.

        Returns:
            The message with its header; None if it was not seen to finish.
        """
        state = self._connections.get(conn) if self._connections is not None else None
        return state.server_hello if state is not None and state.is_over and state.server_hello else None

    def _begin(self, conn: Any, state: _Connection, direction: str, hello: bytes) -> dict[str, Any]:
        """Note who talks to whom at a first ClientHello; a retry's has the same random, a renegotiation's not."""
        extra: dict[str, Any] = {"records": state.records[direction] or None}
        state.records[direction] = 0
        if hello[6:38] == state.client_random:
            return extra
        self._count += 1
        state.number = self._count
        state.client_random = hello[6:38]
        state.finished = set()
        state.is_over = False
        extra["role"] = "client" if direction == "write" else "server"
        extra["name"] = _program_name()
        for key, method in (("local", "getsockname"), ("peer", "getpeername")):
            try:
                extra[key] = _address(getattr(conn, method)())
            except (AttributeError, OSError, ValueError):
                extra[key] = None
        return extra

    def _write_message(
        self,
        state: _Connection,
        direction: str,
        content: int,
        message: int,
        data: bytes,
        extra: dict[str, Any],
    ) -> None:
        line: dict[str, Any] = {
            "c": state.number,
            "d": direction[0],
            "t": time.time_ns(),
            "m": time.monotonic_ns(),
        }
        if content == ALERT or message in COPIED_MESSAGES:
            self.write({"e": "msg", **line, "ct": content, "b": bytes(data).hex(), **extra})
            if content == HANDSHAKE and message == SERVER_HELLO:
                state.server_hello = bytes(data)
        else:
            self.write({"e": "type", **line, "mt": message})
        if content == HANDSHAKE and message == FINISHED:
            state.finished.add(direction)
            state.is_over = len(state.finished) == 2


def _program_name() -> str:
    """Name this program without its arguments, which can hold secrets."""
    argv = getattr(sys, "argv", None) or [""]
    path = argv[0] or "python"
    name = os.path.basename(path)
    if name == "__main__.py":
        name = os.path.basename(os.path.dirname(path))
    return "python" if name in ("", "-c", "-m", "-") else name


def _started(event: str, arguments: tuple[Any, ...]) -> tuple[str, bool]:
    """Name a program that is started, without its arguments, and tell whether it is a shell or a shell's script."""
    if STARTS[event] < 0:
        return "a shell", True
    path = arguments[STARTS[event]]
    if path is None:  # subprocess.Popen without `executable`
        words = arguments[1]
        path = words.split()[0] if isinstance(words, (str, bytes)) else words[0]
    path = os.fsdecode(path)
    name = os.path.basename(path)
    for folder in [""] if "/" in path else os.get_exec_path():
        try:  # a FIFO under that name is not waited for
            descriptor = os.open(os.path.join(folder, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb", buffering=0) as file:
                start = file.read(1024) or b""
        except OSError:
            continue
        line = start.partition(b"\n")[0]
        words = line[2:].split()[:3] if line[:2] == b"#!" else []
        interpreter = [os.path.basename(os.fsdecode(word)) for word in words]
        # pip puts two lines of shell before a Python with a long path.
        return name, name in SHELLS or (b"'''exec'" not in start and not SHELLS.isdisjoint(interpreter))
    return name, name in SHELLS


def _address(address: Any) -> str | None:
    """Write a socket address as `ip:port` or `[ip6]:port`; None for anything without a port."""
    if not isinstance(address, tuple) or len(address) < 2:
        return None
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


class _Watch:
    """A meta path finder that waits for a few modules: programs without TLS pay for one look-up an import."""

    def __init__(self, owner: Recorder) -> None:
        self.after: dict[str, Callable[[types.ModuleType], None]] = {"ssl": owner.install}
        self.after["multiprocessing.util"] = owner.watch_spawn
        self.after.update(dict.fromkeys(STACKS_IN_USE, owner.watch_use))

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module as the other finders would, and have its loader call the recorder afterwards."""
        after = self.after.get(name)
        if after is None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if finder is self or find is None else find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, after)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Loads a module by its own loader, leaves that one in the module, and calls the recorder."""

    def __init__(self, loader: Any, after: Callable[[types.ModuleType], None]) -> None:
        self.loader = loader
        self.after = after

    def create_module(self, spec: ModuleSpec) -> types.ModuleType | None:
        """Create the module as its own loader does."""
        module: types.ModuleType | None = self.loader.create_module(spec)
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module, then watch it."""
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.after(module)


recorder: Recorder | None = None
"""This process's, once it was started."""


def _load_record_file() -> Any:
    """Load record_file.py, which lies beside this file, by its path: this process may not have pqtls installed."""
    from _frozen_importlib_external import SourceFileLoader  # loaded at every start: it costs nothing

    name = "_pqtls_record_file"
    module: Any = type(sys)(name)
    loader = SourceFileLoader(name, os.path.join(os.path.dirname(__file__), "record_file.py"))
    module.__file__, sys.modules[name] = loader.path, module
    loader.exec_module(module)
    return module


def start(folder: str) -> None:
    """Begin to record in this process.

    Args:
        folder: Private folder for the lines.
    """
    global recorder  # noqa: PLW0603 - `pqtls.group` asks it
    recorder = Recorder(_load_record_file().RecordFile(folder))
    recorder.write_start()
    atexit.register(recorder.write_exit)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=recorder.after_fork)
    sys.addaudithook(recorder.audit)
    if "ssl" in sys.modules:
        recorder.install(sys.modules["ssl"])
    sys.meta_path.insert(0, _Watch(recorder))
