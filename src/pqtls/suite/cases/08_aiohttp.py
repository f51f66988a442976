# title: aiohttp
# host: secretsmanager.us-east-2.amazonaws.com
# needs: aiohttp
"""aiohttp; with trust_env it takes the proxy from the environment."""

import asyncio
import os

import aiohttp

HOST = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-2.amazonaws.com")


async def ping() -> str:
    timeout = aiohttp.ClientTimeout(total=20)
    async with (
        aiohttp.ClientSession(trust_env=True, timeout=timeout) as session,
        session.get(f"https://{HOST}/ping") as response,
    ):
        response.raise_for_status()
        return f"{response.status} {await response.text()}"


print(asyncio.run(ping()))
