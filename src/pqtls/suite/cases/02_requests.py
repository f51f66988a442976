# title: requests
# host: secretsmanager.us-east-1.amazonaws.com
# needs: requests
"""requests; it takes the proxy and the CA bundle from the environment."""

import os

import requests

HOST = os.environ.get("PQTLS_HOST", "secretsmanager.us-east-1.amazonaws.com")

response = requests.get(f"https://{HOST}/ping", timeout=20)
response.raise_for_status()
print(response.status_code, response.text)
