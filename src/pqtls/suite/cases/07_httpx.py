# title: httpx
# host: secretsmanager.ap-southeast-1.amazonaws.com
# needs: httpx
"""One GET by httpx. PQTLS_HOST asks another host."""

import os

import httpx

host = os.environ.get("PQTLS_HOST", "secretsmanager.ap-southeast-1.amazonaws.com")

with httpx.Client(timeout=10) as client:
    answer = client.get(f"https://{host}/ping")
    answer.raise_for_status()
    print(answer.status_code, answer.text.strip())
