"""The state of a virtual environment in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pqtls.openssl.status import VenvStatus

_STATES = {
    "active": "enabled and active",
    "stepped-aside": "enabled, but the graft stepped aside: Python runs on its own OpenSSL",
    "refused": "enabled, but the graft stepped aside: TLS is refused there, since post-quantum is required",
    "held": "native: its own OpenSSL has ML-KEM, and is held to more",
    "unheld": "native, but its own OpenSSL is not held to what was asked for",
    "native": "not enabled, and needs not be: its own OpenSSL has ML-KEM",
    "off": "not enabled: its own OpenSSL has no ML-KEM",
    "unknown": "its Python gives no answer, or its `ssl` makes no handshake",
}


def render_status(status: VenvStatus) -> list[str]:
    """Return the lines that a person reads.

    Args:
        status: What was found.
    """
    found = status.to_json()
    graft, held = found["graft"], found["held"]
    word: str = status.state
    if status.manifest is not None and status.manifest.is_native and word in ("native", "stepped-aside"):
        word = "held" if word == "native" else "unheld"
    elif status.manifest is not None and status.manifest.require_pq and word == "stepped-aside":
        word = "refused"
    lines = [f"{found['venv']} ({found['chosen_by']}): {_STATES[word]}"]
    if graft is not None:
        age = f", {graft['age_days']} days old" if graft["age_days"] is not None else ""
        built = f", built {graft['built']}" if graft["built"] else ""
        until = f", supported until {graft['supported_until']}" if graft["supported_until"] else ""
        lines.append(f"  graft    {graft['openssl']}{age}, from {graft['origin']}{built}{until}")
        if graft["source_folder"]:
            lines.append(f"  source   {graft['source_folder']}, outside of the environment: to be upgraded there")
        lines.append(f"  enabled  {graft['enabled_at']} ({graft['enabled_days']} days), for {graft['stands_in_for']}")
        if graft["hashed_at_start_bytes"]:
            lines.append(
                f"  start    hashes {graft['hashed_at_start_bytes'] / 1e6:.0f} MB each time, since times of files are "
                "not those of `enable` (a copy)"
            )
    elif held is not None:
        lines.append(f"  enabled  {held['enabled_at']}")
    if held is not None and status.manifest is not None:
        lines.append(f"  held to  {status.manifest.held_to}")
        if status.state in ("active", "native"):
            lines.append(f"  offers   {' '.join(held['offers']) or 'nothing'}")
            if held["by"] == ["guard"]:
                lines.append("           by the guard alone: whatever of it is classical is refused once it is chosen")
    if found["openssl"]:
        lines.append(f"  python   {found['python']} runs {found['openssl']}")
    word = "proof" if status.is_proven else "failed"
    lines.append(f"  {word:8} {found['detail']}")
    lines += [f"  finding  {text}" for text in found["findings"]]
    if status.state == "off":
        lines.append(f"  next     {status.venv.name_in('pqtls enable')}")
    elif status.findings and status.state != "unknown":
        command = status.manifest.command if status.manifest is not None else "pqtls enable"
        lines.append(f"  next     {status.venv.name_in(command)}, or {status.venv.name_in('pqtls disable')}")
    return lines
