# title: boto3
# host: secretsmanager.ap-southeast-1.amazonaws.com
# needs: boto3
# for: aws
"""Secrets Manager's ListSecrets by boto3; prints how many came.

AWS_REGION asks another region, PQTLS_HOST another host; credentials are found as boto3 always finds them.
"""

import os

import boto3
from botocore.config import Config

host = os.environ.get("PQTLS_HOST")

client = boto3.client(
    "secretsmanager",
    region_name=os.environ.get("AWS_REGION", "ap-southeast-1"),
    endpoint_url=f"https://{host}" if host else None,
    config=Config(connect_timeout=10, read_timeout=10),
)
answer = client.list_secrets(MaxResults=1)
client.close()
print(answer["ResponseMetadata"]["HTTPStatusCode"], len(answer["SecretList"]), "secrets")
