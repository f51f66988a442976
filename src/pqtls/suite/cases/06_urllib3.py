# title: urllib3
# host: secretsmanager.us-east-1.amazonaws.com
# needs: urllib3
"""urllib3; it takes no proxy from the environment, so the script hands it over."""

import os

import urllib3

HOST = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-1.amazonaws.com")
PROXY = os.environ.get("HTTPS_PROXY")

pool = urllib3.ProxyManager(PROXY) if PROXY else urllib3.PoolManager()
response = pool.request("GET", f"https://{HOST}/ping", timeout=20, retries=False)
print(response.status, response.data.decode())
if response.status != 200:
    raise SystemExit(f"unexpected answer: {response.status}")
