"""Examinations as `pqtls path` makes them: straight, by proxy, by STARTTLS."""

from __future__ import annotations

from pqtls.path.diagnosis import Diagnosis
from pqtls.path.plan import PlanOptions
from pqtls.path.reach import Reach
from pqtls.path.survey import examine_target
from pqtls.path.target import Target
from pqtls.probe.http_proxy import Proxy
from tests.path.before_tls import ConnectProxy
from tests.schemas import validate

HOST = "127.0.0.1"


def look(port: int, reach: Reach, *, is_full: bool = False, host: str = HOST) -> Diagnosis:
    (found,) = examine_target(Target(host, port), PlanOptions(is_full=is_full), None, reach=reach)
    assert validate(found.diagnosis.to_json(f"{host}:{port}", found.address)) == "diagnosis-1"
    return found.diagnosis


def through(proxy: ConnectProxy, credentials: str | None = None) -> Reach:
    return Reach(Proxy(HOST, proxy.port, credentials))
