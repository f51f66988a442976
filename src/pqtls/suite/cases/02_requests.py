# title: requests
# host: secretsmanager.us-east-1.amazonaws.com
# needs: requests
"""One GET by requests. PQTLS_HOST asks another host."""

import os

import requests

host = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-1.amazonaws.com")

with requests.get(f"https://{host}/ping", timeout=10) as answer:
    answer.raise_for_status()
    print(answer.status_code, answer.text.strip())
