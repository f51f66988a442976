# title: AWS CLI v1 (pip)
# host: secretsmanager.us-east-2.amazonaws.com
# needs: awscli
# The AWS CLI as pip installs it: a Python program, so it uses the Python's own ssl.

exec aws secretsmanager list-secrets --region "${PQTLS_REGION:-us-east-2}" \
    --query 'length(SecretList)' --output text
