# title: urllib3
# host: secretsmanager.us-east-1.amazonaws.com
# needs: urllib3
"""One GET by urllib3, which leaves the proxy variable to its caller. PQTLS_HOST asks another host."""

import os
import sys

import urllib3

host = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-1.amazonaws.com")
proxy = os.environ.get("HTTPS_PROXY")

with urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager() as pool:
    answer = pool.request("GET", f"https://{host}/ping", timeout=10, retries=False)
    print(answer.status, answer.data.decode().strip())
sys.exit(0 if 200 <= answer.status < 300 else 1)
