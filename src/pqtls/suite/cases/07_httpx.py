# title: httpx
# host: secretsmanager.ap-southeast-1.amazonaws.com
# needs: httpx
"""One GET by httpx. PQTLS_HOST asks another host, PQTLS_PATH for another path, where any status will do."""

import os

import httpx

host = os.environ.get("PQTLS_HOST", "secretsmanager.ap-southeast-1.amazonaws.com")
path = os.environ.get("PQTLS_PATH")

with httpx.Client(timeout=10) as client, client.stream("GET", f"https://{host}{path or '/ping'}") as answer:
    if path is None:
        answer.raise_for_status()
        print(answer.status_code, answer.read().decode().strip())
    else:
        print(answer.status_code)
