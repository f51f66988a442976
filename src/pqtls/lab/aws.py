"""AWS without AWS: a WSGI application in which AWS's clients find Secrets Manager, made of moto."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pqtls.lab.names import AWS_REGIONS, aws_host, is_aws_host

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

SECRET_NAME = "pqtls-lab"  # noqa: S105 - the name of a secret without content worth hiding


class LabApplication:
    """Answers `/ping` as AWS does, and everything else that is sent to an AWS host by moto.

    Importing moto takes most of the lab's start-up, so make one and share it.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._moto: WSGIApplication = DomainDispatcherApplication(create_backend_app)
        for region in AWS_REGIONS:
            _create_secret(self._moto, region)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request.

        Args:
            environ: The request.
            start_response: Takes status and headers.

        Returns:
            The body.
        """
        if environ["PATH_INFO"] == "/ping":
            return _answer_text(start_response, "200 OK", b"healthy")
        if not is_aws_host(str(environ.get("HTTP_HOST", "")).partition(":")[0]):
            return _answer_text(start_response, "404 Not Found", b"the lab has /ping and AWS Secrets Manager")
        return self._moto(environ, start_response)


def _answer_text(start_response: StartResponse, status: str, body: bytes) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _create_secret(application: WSGIApplication, region: str) -> None:
    """Ask for one secret as a client would, so that a list has something in it (and moto is warmed up)."""
    from werkzeug.test import EnvironBuilder, run_wsgi_app

    builder = EnvironBuilder(
        method="POST",
        base_url=f"https://{aws_host(region)}",
        headers=[
            ("X-Amz-Target", "secretsmanager.CreateSecret"),
            ("Authorization", f"AWS4-HMAC-SHA256 Credential=testing/20200101/{region}/secretsmanager/aws4_request"),
        ],
        content_type="application/x-amz-json-1.1",
        data=json.dumps({"Name": SECRET_NAME, "SecretString": "nothing", "ClientRequestToken": "0" * 32}),
    )
    body, status, _ = run_wsgi_app(application, builder.get_environ(), buffered=True)
    if not status.startswith("200"):
        raise RuntimeError(f"moto did not create a secret: {status} {b''.join(body)[:200]!r}")
