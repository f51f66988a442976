# title: socket + ssl
# host: secretsmanager.us-west-1.amazonaws.com
# needs:
"""A plain TCP socket wrapped in TLS by the standard library, and an HTTP request by hand.

PQTLS_HOST asks another host, PQTLS_PATH for another path: then any first line of an answer will do, since the server
may speak another protocol. PQTLS_DIAL=ip:port is where to connect instead of resolving the name.
"""

import os
import socket
import ssl
import sys
from urllib.parse import urlsplit

server = urlsplit("//" + os.environ.get("PQTLS_HOST", "secretsmanager.us-west-1.amazonaws.com"))
path = os.environ.get("PQTLS_PATH")
dial = urlsplit("//" + os.environ.get("PQTLS_DIAL", server.netloc))
request = f"GET {path or '/ping'} HTTP/1.1\r\nHost: {server.netloc}\r\nConnection: close\r\n\r\n"

context = ssl.create_default_context()
with (
    socket.create_connection((dial.hostname, dial.port or 443), timeout=10) as plain,
    context.wrap_socket(plain, server_hostname=server.hostname) as tls,
):
    tls.sendall(request.encode())
    line = tls.makefile("rb").readline(200).decode("utf-8", "replace").strip()

if not line:
    sys.exit("the server closed the connection without an answer")
print(line)
sys.exit(0 if path or " 200 " in line else 1)
