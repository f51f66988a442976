# title: socket + ssl
# host: secretsmanager.us-west-1.amazonaws.com
# needs:
"""A plain TCP socket wrapped in TLS by the standard library, and an HTTP request by hand.

PQTLS_HOST asks another host; PQTLS_DIAL=ip:port is where to connect instead of resolving the name.
"""

import os
import socket
import ssl
import sys

host, _, port = os.environ.get("PQTLS_HOST", "secretsmanager.us-west-1.amazonaws.com").partition(":")
dial = os.environ.get("PQTLS_DIAL", f"{host}:{port or 443}").rpartition(":")

context = ssl.create_default_context()
with (
    socket.create_connection((dial[0], int(dial[2])), timeout=10) as plain,
    context.wrap_socket(plain, server_hostname=host) as tls,
):
    tls.sendall(f"GET /ping HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while data := tls.recv(4096):
        answer += data

head, _, body = answer.decode().partition("\r\n\r\n")
status = head.split(" ")[1]
print(status, body.strip())
sys.exit(0 if status.startswith("2") else 1)
