# title: aiohttp
# host: secretsmanager.us-east-2.amazonaws.com
# needs: aiohttp
"""One GET by aiohttp. PQTLS_HOST asks another host, PQTLS_PATH for another path, where any status will do."""

import asyncio
import os

import aiohttp

host = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-2.amazonaws.com")
path = os.environ.get("PQTLS_PATH")


async def main() -> None:
    """Ask, and print the answer."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(trust_env=True, timeout=timeout, raise_for_status=path is None) as session,
        session.get(f"https://{host}{path or '/ping'}", allow_redirects=False) as answer,
    ):
        print(answer.status, (await answer.text()).strip() if path is None else "")


asyncio.run(main())
