from __future__ import annotations

from tests.lab.conftest import ca, router, servers

__all__ = ["ca", "router", "servers"]
