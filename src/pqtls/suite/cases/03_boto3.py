# title: boto3
# host: secretsmanager.ap-southeast-1.amazonaws.com
# needs: boto3
"""Secrets Manager's ListSecrets by boto3.

AWS_REGION asks another region, PQTLS_HOST another host; credentials are found as boto3 always finds them.
"""

import os

import boto3
from botocore.config import Config

region = os.environ.get("AWS_REGION", "ap-southeast-1")
host = os.environ.get("PQTLS_HOST", f"secretsmanager.{region}.amazonaws.com")

client = boto3.client(
    "secretsmanager",
    region_name=region,
    endpoint_url=f"https://{host}",
    config=Config(connect_timeout=10, read_timeout=10),
)
answer = client.list_secrets()
client.close()
names = [secret["Name"] for secret in answer["SecretList"]]
print(answer["ResponseMetadata"]["HTTPStatusCode"], len(names), "secrets", *names[:1])
