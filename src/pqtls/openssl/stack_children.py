"""What runs in the examined interpreter to make each of its TLS stacks shake hands.

All of it is Python 3.6 source, run with `-I -c` in a process of its own. A stack's script says which library it
carries, where the library can tell, and starts one TLS connection to the doctor's own listener on loopback. Whether
that connection fails is of no interest: what counts are the bytes that the listener saw. Stacks that can shake hands
with themselves in memory hand those bytes over instead. Certificates stay verified wherever a stack lets us say
whom to trust; the others trust anyone for this one connection, which goes to nobody but the doctor.
"""

from __future__ import annotations

from pqtls.openssl.child import MARK
from pqtls.openssl.probe_child import HOST

_PRELUDE = r"""
import json, os, signal, sys
if hasattr(signal, "alarm"):
    signal.alarm(60)  # the doctor may be killed before it can end a stack that hangs
given = json.loads(sys.argv[1])
sys.path[:] = given["path"]
HOST, PORT, PEM, SITE = "@HOST@", given["port"], given["pem"], given["site"]
URL = "https://{}:{}/".format(HOST, PORT)
answer = {"library": "", "error": "", "flights": [], "finished": [], "hello": "", "mapped": []}
""".replace("@HOST@", HOST)

_EPILOGUE = r"""
try:
    drive(answer)
except BaseException as error:
    answer["error"] = "{}: {}".format(type(error).__name__, error)[:300]
try:
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            path = "/" + line.rstrip("\n").partition("/")[2]
            if "libcrypto" in path and path not in answer["mapped"]:
                answer["mapped"].append(path)
except (OSError, UnicodeError):
    pass
sys.stdout.write("\n@MARK@" + json.dumps(answer) + "\n")
sys.stdout.flush()
os._exit(0)
""".replace("@MARK@", MARK)

# Two ends in memory: each is (side, do_handshake, read, write); "want" is what do_handshake raises for more.
_IN_MEMORY = r"""
def shake(client, server, want):
    ends = [("client",) + client, ("server",) + server]
    for _ in range(10):
        for number, (side, do_handshake, read, _write) in enumerate(ends):
            if side not in answer["finished"]:
                try:
                    do_handshake()
                    answer["finished"].append(side)
                except want:
                    pass
            data = read()
            if data:
                answer["flights"].append([side, data.hex()])
                ends[1 - number][3](data)
"""

_PYOPENSSL = r"""
def drive(answer):
    from OpenSSL import SSL
    tell = getattr(SSL, "OpenSSL_version", None) or SSL.SSLeay_version
    answer["library"] = tell(0).decode()
    method = getattr(SSL, "TLS_METHOD", SSL.SSLv23_METHOD)
    contexts = [SSL.Context(method) for _ in range(2)]
    contexts[0].load_verify_locations(PEM)
    contexts[0].set_verify(SSL.VERIFY_PEER, lambda *given: bool(given[-1]))
    contexts[1].use_certificate_chain_file(PEM)
    contexts[1].use_privatekey_file(PEM)
    client, server = [SSL.Connection(context, None) for context in contexts]
    client.set_tlsext_host_name(HOST.encode())
    client.set_connect_state()
    server.set_accept_state()
    def end(connection):
        def read():
            try:
                return connection.bio_read(65536)
            except SSL.WantReadError:
                return b""
        return connection.do_handshake, read, connection.bio_write
    shake(end(client), end(server), SSL.WantReadError)
"""

_CRYPTOGRAPHY = r"""
def drive(answer):
    from cryptography.hazmat.backends.openssl import backend
    answer["library"] = backend.openssl_version_text()
    from cryptography.hazmat.bindings.openssl.binding import Binding
    lib, ffi = Binding.lib, Binding.ffi
    class Want(Exception):
        pass
    def end(side):
        context = lib.SSL_CTX_new(lib.TLS_method())
        if side == "client":
            lib.SSL_CTX_load_verify_locations(context, PEM.encode(), ffi.NULL)
            lib.SSL_CTX_set_verify(context, lib.SSL_VERIFY_PEER, ffi.NULL)
        else:
            lib.SSL_CTX_use_certificate_chain_file(context, PEM.encode())
            lib.SSL_CTX_use_PrivateKey_file(context, PEM.encode(), lib.SSL_FILETYPE_PEM)
        connection = lib.SSL_new(context)
        incoming, outgoing = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
        lib.SSL_set_bio(connection, incoming, outgoing)
        (lib.SSL_set_connect_state if side == "client" else lib.SSL_set_accept_state)(connection)
        def do_handshake():
            code = lib.SSL_do_handshake(connection)
            if code == 1:
                return
            if lib.SSL_get_error(connection, code) == lib.SSL_ERROR_WANT_READ:
                raise Want()
            raise RuntimeError("SSL_do_handshake failed")
        def read():
            room = ffi.new("char[]", 65536)
            count = lib.BIO_read(outgoing, room, 65536)
            return bytes(ffi.buffer(room, count)) if count > 0 else b""
        return do_handshake, read, lambda data: lib.BIO_write(incoming, data, len(data))
    shake(end("client"), end("server"), Want)
"""

_GEVENT = r"""
def drive(answer):
    from gevent import socket, ssl
    answer["library"] = ssl.OPENSSL_VERSION
    context = ssl.create_default_context(cafile=PEM)
    context.wrap_socket(socket.create_connection(("127.0.0.1", PORT), 3), server_hostname=HOST).close()
"""

_UVLOOP = r"""
def drive(answer):
    import ssl, uvloop
    answer["library"] = ssl.OPENSSL_VERSION
    context = ssl.create_default_context(cafile=PEM)
    loop = uvloop.new_event_loop()
    import asyncio
    loop.run_until_complete(loop.create_connection(
        asyncio.Protocol, "127.0.0.1", PORT, ssl=context, server_hostname=HOST))
"""

_PSYCOPG = r"""
def drive(answer):
    options = {"host": "127.0.0.1", "port": str(PORT), "user": "pqtls", "dbname": "pqtls", "connect_timeout": "3",
               "sslmode": "verify-ca", "sslrootcert": PEM, "gssencmode": "disable"}
    try:
        import psycopg
    except ImportError:
        return with_libpq(options)
    psycopg.connect(" ".join("{}={}".format(*item) for item in options.items()))

def with_libpq(options):
    # The wheel alone: its libpq is asked itself.
    import ctypes, glob
    libpq = ctypes.CDLL(sorted(glob.glob(os.path.join(SITE, "psycopg_binary.libs", "libpq*.so*")))[0])
    libpq.PQconnectdb.restype = ctypes.c_void_p
    libpq.PQconnectdb(" ".join("{}={}".format(*item) for item in options.items()).encode())
"""

_PSYCOPG2 = r"""
def drive(answer):
    import psycopg2
    psycopg2.connect(host="127.0.0.1", port=PORT, user="pqtls", dbname="pqtls", connect_timeout=3,
                     sslmode="verify-ca", sslrootcert=PEM, gssencmode="disable")
"""

_PYCURL = r"""
def drive(answer):
    import pycurl
    words = pycurl.version_info()
    answer["library"] = "{} in libcurl {}".format(words[5], words[1])
    client = pycurl.Curl()
    for name, value in (("URL", URL), ("PROXY", ""), ("NOSIGNAL", 1), ("TIMEOUT_MS", 3000), ("CAINFO", PEM),
                        ("RESOLVE", ["{}:{}:127.0.0.1".format(HOST, PORT)]), ("WRITEFUNCTION", lambda data: None)):
        client.setopt(getattr(pycurl, name), value)
    client.perform()
"""

_CURL_CFFI = r"""
def drive(answer):
    from curl_cffi import Curl, CurlOpt
    client = Curl()
    words = client.version().decode().split()
    answer["library"] = "{1} in {0}".format(*words[:2])
    for name, value in (("URL", URL.encode()), ("PROXY", b""), ("NOSIGNAL", 1), ("TIMEOUT_MS", 3000),
                        ("CAINFO", PEM.encode()), ("RESOLVE", ["{}:{}:127.0.0.1".format(HOST, PORT)])):
        client.setopt(getattr(CurlOpt, name), value)
    client.perform()
"""

_GRPC = r"""
def drive(answer):
    import threading
    import grpc
    over = threading.Event()
    with open(PEM, "rb") as file:
        trust = file.read().partition(b"-----BEGIN PRIVATE")[0]
    options = [("grpc.ssl_target_name_override", HOST), ("grpc.enable_http_proxy", 0)]
    channel = grpc.secure_channel("127.0.0.1:{}".format(PORT), grpc.ssl_channel_credentials(trust), options)
    def changed(state):
        if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.READY):
            over.set()
    channel.subscribe(changed, try_to_connect=True)
    over.wait(3)
"""

_AWSCRT = r"""
def drive(answer):
    from awscrt import http, io
    options = io.TlsContextOptions()
    with open(PEM, "rb") as file:
        options.override_default_trust_store(file.read().partition(b"-----BEGIN PRIVATE")[0])
    connection = io.ClientTlsContext(options).new_connection_options()
    connection.set_server_name(HOST)
    group = io.EventLoopGroup(1)
    bootstrap = io.ClientBootstrap(group, io.DefaultHostResolver(group))
    http.HttpClientConnection.new("127.0.0.1", PORT, bootstrap, tls_connection_options=connection).result(3)
"""

_PYGIT2 = r"""
def drive(answer):
    import pygit2
    class Trusting(pygit2.RemoteCallbacks):
        def certificate_check(self, certificate, valid, host):
            return True
    remote = pygit2.init_repository(os.environ["HOME"], True).remotes.create_anonymous(
        "https://127.0.0.1:{}/x".format(PORT))
    remote.connect(callbacks=Trusting())
"""

_KAFKA = r"""
def drive(answer):
    import threading
    from confluent_kafka.admin import AdminClient
    over = threading.Event()
    client = AdminClient({
        "bootstrap.servers": "127.0.0.1:{}".format(PORT), "security.protocol": "ssl", "ssl.ca.location": PEM,
        "ssl.endpoint.identification.algorithm": "none", "log_level": 0, "error_cb": lambda error: over.set()})
    for _ in range(30):
        client.poll(0.1)
        if over.is_set():
            break
"""

_MYSQL = r"""
def drive(answer):
    import mysql.connector
    if not mysql.connector.HAVE_CEXT:
        import ssl
        answer["library"] = ssl.OPENSSL_VERSION + " (of ssl: its C extension fails to load)"
    mysql.connector.connect(host="127.0.0.1", port=PORT, user="pqtls", password="", connection_timeout=3, ssl_ca=PEM,
                            ssl_verify_cert=True)
"""

_AIOQUIC = r"""
def drive(answer):
    from aioquic.buffer import Buffer
    from aioquic.tls import Context, Epoch
    answer["library"] = "its own, in Python"
    client = Context(is_client=True)
    client.server_name = HOST
    buffers = {epoch: Buffer(capacity=16384) for epoch in Epoch}
    client.handle_message(b"", buffers)
    answer["hello"] = buffers[Epoch.INITIAL].data.hex()
"""

_PRIMP = r"""
def drive(answer):
    import primp
    primp.Client(verify=False, timeout=3).get("https://127.0.0.1:{}/".format(PORT))
"""


def _script(drive: str) -> str:
    return _PRELUDE + drive + _EPILOGUE


SCRIPTS = {
    "aioquic": _script(_AIOQUIC),
    "awscrt": _script(_AWSCRT),
    "confluent-kafka": _script(_KAFKA),
    "cryptography": _script(_IN_MEMORY + _CRYPTOGRAPHY),
    "curl_cffi": _script(_CURL_CFFI),
    "gevent": _script(_GEVENT),
    "grpcio": _script(_GRPC),
    "mysql-connector": _script(_MYSQL),
    "primp": _script(_PRIMP),
    "psycopg": _script(_PSYCOPG),
    "psycopg2": _script(_PSYCOPG2),
    "pycurl": _script(_PYCURL),
    "pygit2": _script(_PYGIT2),
    "pyOpenSSL": _script(_IN_MEMORY + _PYOPENSSL),
    "uvloop": _script(_UVLOOP),
}
"""The source to run for each stack that can be driven, by the name that the doctor shows."""
