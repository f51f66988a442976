# title: httpx
# host: secretsmanager.ap-southeast-1.amazonaws.com
# needs: httpx
"""httpx; it takes the proxy and SSL_CERT_FILE from the environment."""

import os

import httpx

HOST = os.environ.get("PQTLS_HOST", "secretsmanager.ap-southeast-1.amazonaws.com")

response = httpx.get(f"https://{HOST}/ping", timeout=20)
response.raise_for_status()
print(response.status_code, response.text)
