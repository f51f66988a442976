# title: socket + ssl
# host: secretsmanager.us-west-1.amazonaws.com
"""A plain socket and the standard ssl module, over TCP."""

import os
import socket
import ssl

HOST = os.environ.get("PQTLS_HOST", "secretsmanager.us-west-1.amazonaws.com")
# Where to connect if not to the host itself; the name is verified all the same.
ADDRESS, PORT = os.environ.get("PQTLS_DIAL", f"{HOST}:443").rsplit(":", 1)

context = ssl.create_default_context()
with (
    socket.create_connection((ADDRESS, int(PORT)), timeout=20) as tcp,
    context.wrap_socket(tcp, server_hostname=HOST) as tls,
):
    tls.sendall(f"GET /ping HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while chunk := tls.recv(4096):
        answer += chunk

status = answer.split(b"\r\n", 1)[0].decode()
print(status)
if " 200 " not in f"{status} ":
    raise SystemExit(f"unexpected answer: {status}")
