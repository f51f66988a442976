# title: asyncio streams
# host: secretsmanager.us-west-1.amazonaws.com
# needs:
"""An asyncio stream over TLS, and an HTTP request by hand.

PQTLS_HOST asks another host, PQTLS_PATH for another path: then any first line of an answer will do, since the server
may speak another protocol. PQTLS_DIAL=ip:port is where to connect instead of resolving the name.
"""

import asyncio
import os
import ssl
import sys
from urllib.parse import urlsplit

server = urlsplit("//" + os.environ.get("PQTLS_HOST", "secretsmanager.us-west-1.amazonaws.com"))
path = os.environ.get("PQTLS_PATH")
dial = urlsplit("//" + os.environ.get("PQTLS_DIAL", server.netloc))
request = f"GET {path or '/ping'} HTTP/1.1\r\nHost: {server.netloc}\r\nConnection: close\r\n\r\n"


async def ask() -> str:
    """Return the first line of the server's answer."""
    host, port, context = dial.hostname, dial.port or 443, ssl.create_default_context()
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=server.hostname)
    writer.write(request.encode())
    line = await reader.readline()
    writer.close()
    return line.decode("utf-8", "replace").strip()


line = asyncio.run(asyncio.wait_for(ask(), 10))
print(line or sys.exit("the server closed the connection without an answer"))
sys.exit(0 if path or " 200 " in line else 1)
