# title: asyncio streams
# host: secretsmanager.us-west-1.amazonaws.com
# needs:
"""An asyncio stream over TLS, and an HTTP request by hand.

PQTLS_HOST asks another host; PQTLS_DIAL=ip:port is where to connect instead of resolving the name.
"""

import asyncio
import os
import ssl
import sys

host, _, port = os.environ.get("PQTLS_HOST", "secretsmanager.us-west-1.amazonaws.com").partition(":")
dial = os.environ.get("PQTLS_DIAL", f"{host}:{port or 443}").rpartition(":")


async def ask() -> str:
    """Return the server's answer."""
    context = ssl.create_default_context()
    reader, writer = await asyncio.open_connection(dial[0], int(dial[2]), ssl=context, server_hostname=host)
    writer.write(f"GET /ping HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


head, _, body = asyncio.run(asyncio.wait_for(ask(), 10)).partition("\r\n\r\n")
status = head.split(" ")[1]
print(status, body.strip())
sys.exit(0 if status.startswith("2") else 1)
