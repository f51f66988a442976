#!/bin/sh
# title: AWS CLI v1 (pip)
# host: secretsmanager.us-east-2.amazonaws.com
# needs: awscli
#
# Secrets Manager's ListSecrets by the AWS CLI; prints the name of the first secret.
# AWS_REGION asks another region, PQTLS_HOST another host.

exec aws secretsmanager list-secrets --region "${AWS_REGION:-us-east-2}" --output json \
    --query 'SecretList[0].Name' --cli-connect-timeout 10 --cli-read-timeout 10 \
    ${PQTLS_HOST:+--endpoint-url "https://$PQTLS_HOST"}
