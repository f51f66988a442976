#!/bin/sh
# title: AWS CLI v2
# host: secretsmanager.us-east-2.amazonaws.com
# for: aws
#
# Secrets Manager's ListSecrets by the AWS CLI v2 that PQTLS_AWS names; prints how many came.
# AWS_REGION asks another region, PQTLS_HOST another host.

AWS_PAGER= exec "$PQTLS_AWS" secretsmanager list-secrets --region "${AWS_REGION:-us-east-2}" --output json \
    --max-results 1 --no-paginate --query 'length(SecretList)' \
    --cli-connect-timeout 10 --cli-read-timeout 10 \
    ${PQTLS_HOST:+--endpoint-url "https://$PQTLS_HOST"}
