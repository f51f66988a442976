# title: requests
# host: secretsmanager.us-east-1.amazonaws.com
# needs: requests
"""One GET by requests. PQTLS_HOST asks another host, PQTLS_PATH for another path, where any status will do."""

import os

import requests

host = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-1.amazonaws.com")
path = os.environ.get("PQTLS_PATH")

with requests.get(f"https://{host}{path or '/ping'}", timeout=10, stream=True, allow_redirects=False) as answer:
    if path is None:
        answer.raise_for_status()
        print(answer.status_code, answer.text.strip())
    else:
        print(answer.status_code)
