# title: boto3
# host: secretsmanager.ap-southeast-1.amazonaws.com
# needs: boto3
"""boto3: list the secrets of an account."""

import os

import boto3

REGION = os.environ.get("PQTLS_REGION", "ap-southeast-1")

client = boto3.client("secretsmanager", region_name=REGION)
secrets = client.list_secrets()["SecretList"]
print(f"{len(secrets)} secrets in {REGION}")
