# title: asyncio streams
# host: secretsmanager.us-west-1.amazonaws.com
"""asyncio streams: TLS over memory buffers instead of a socket."""

import asyncio
import os
import ssl

HOST = os.environ.get("PQTLS_HOST", "secretsmanager.us-west-1.amazonaws.com")
# Where to connect if not to the host itself; the name is verified all the same.
ADDRESS, PORT = os.environ.get("PQTLS_DIAL", f"{HOST}:443").rsplit(":", 1)


async def ping() -> str:
    context = ssl.create_default_context()
    reader, writer = await asyncio.open_connection(ADDRESS, int(PORT), ssl=context, server_hostname=HOST)
    writer.write(f"GET /ping HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.split(b"\r\n", 1)[0].decode()


status = asyncio.run(asyncio.wait_for(ping(), timeout=20))
print(status)
if " 200 " not in f"{status} ":
    raise SystemExit(f"unexpected answer: {status}")
