# title: urllib3
# host: secretsmanager.us-east-1.amazonaws.com
# needs: urllib3
"""One GET by urllib3, which leaves the proxy variable to its caller.

PQTLS_HOST asks another host, PQTLS_PATH for another path, where any status will do.
"""

import os
import sys
from urllib.request import getproxies, proxy_bypass

import urllib3

host = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-1.amazonaws.com")
path = os.environ.get("PQTLS_PATH")
proxy = None if proxy_bypass(host) else getproxies().get("https")

with urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager() as pool:
    url = f"https://{host}{path or '/ping'}"
    answer = pool.request("GET", url, timeout=10, retries=False, preload_content=path is None)
    print(answer.status, answer.data.decode().strip() if path is None else "")
sys.exit(0 if path is not None or 200 <= answer.status < 300 else 1)
