"""The state of a virtual environment in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pqtls.openssl.status import VenvStatus

_STATES = {
    "active": "enabled and active",
    "stepped-aside": "enabled, but the graft stepped aside: Python runs on its own OpenSSL",
    "native": "not enabled, and needs not be: its own OpenSSL has ML-KEM",
    "off": "not enabled: its own OpenSSL has no ML-KEM",
    "unknown": "its Python gives no answer",
}


def render_status(status: VenvStatus) -> list[str]:
    """Return the lines that a person reads.

    Args:
        status: What was found.
    """
    found = status.to_json()
    lines = [f"{found['venv']} ({found['chosen_by']}): {_STATES[status.state]}"]
    graft = found["graft"]
    if graft is not None:
        age = f", {graft['age_days']} days old" if graft["age_days"] is not None else ""
        built = f", built {graft['built']}" if graft["built"] else ""
        until = f", supported until {graft['supported_until']}" if graft["supported_until"] else ""
        lines.append(f"  graft    {graft['openssl']}{age}, from {graft['origin']}{built}{until}")
        lines.append(f"  enabled  {graft['enabled_at']} ({graft['enabled_days']} days), for {graft['stands_in_for']}")
        if graft["groups"]:
            required = "; post-quantum is required" if graft["require_pq"] else ""
            lines.append(f"  held to  {graft['groups']}{required}")
    if found["openssl"]:
        lines.append(f"  python   {found['python']} runs {found['openssl']}")
    word = "proof" if status.is_proven else "failed"
    lines.append(f"  {word:8} {found['detail']}")
    lines += [f"  finding  {text}" for text in found["findings"]]
    if status.state == "off":
        lines.append("  next     pqtls enable")
    elif status.findings and status.state != "unknown":
        lines.append("  next     pqtls enable, or pqtls disable")
    return lines
