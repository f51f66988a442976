# title: aiohttp
# host: secretsmanager.us-east-2.amazonaws.com
# needs: aiohttp
"""One GET by aiohttp. PQTLS_HOST asks another host."""

import asyncio
import os

import aiohttp

host = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-2.amazonaws.com")


async def main() -> None:
    """Ask, and print the answer."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(trust_env=True, timeout=timeout, raise_for_status=True) as session,
        session.get(f"https://{host}/ping") as answer,
    ):
        print(answer.status, (await answer.text()).strip())


asyncio.run(main())
