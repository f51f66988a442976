"""The AWS host names that the suite reaches, as the public sample for this job does."""

from __future__ import annotations

# Regions of aws-samples/sample-post-quantum-tls-python.
REGIONS = ("us-west-1", "us-east-1", "ap-southeast-1", "us-east-2")
AWS_HOSTS = tuple(f"secretsmanager.{region}.amazonaws.com" for region in REGIONS)
