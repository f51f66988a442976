#!/bin/sh
# title: AWS CLI v1 (pip)
# host: secretsmanager.us-east-2.amazonaws.com
# needs: awscli
# for: aws
#
# Secrets Manager's ListSecrets by the AWS CLI; prints how many came.
# AWS_REGION asks another region, PQTLS_HOST another host.

exec aws secretsmanager list-secrets --region "${AWS_REGION:-us-east-2}" --output json \
    --max-results 1 --no-paginate --query 'length(SecretList)' \
    --cli-connect-timeout 10 --cli-read-timeout 10 \
    ${PQTLS_HOST:+--endpoint-url "https://$PQTLS_HOST"}
