"""The doctor's findings on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.openssl.doctor import offered_names

if TYPE_CHECKING:
    from pqtls.openssl.doctor import Examination
    from pqtls.report.terminal import Line

_LINKAGE = {
    "dynamic": "dynamic (libssl.so.3)",
    "static": "static: built into the interpreter",
    "openssl-1.1": "OpenSSL 1.1",
    "libressl": "LibreSSL",
    "other": "not OpenSSL 3 by its usual name",
    "no-ssl": "no ssl module",
}


def render_examination(found: Examination) -> list[Line]:
    """Return the screen.

    Args:
        found: What the doctor found.
    """
    python, probe = found.interpreter, found.probe
    lines: list[Line] = [
        _row("python", f"{python.version} ({python.implementation})  {python.executable}"),
        _row("system", found.system),
        _row("openssl", f"{python.openssl_version or 'none'}, {_LINKAGE[python.linkage]}"),
    ]
    if python.libssl is not None:
        lines.append(_row("", f"{python.libssl}"))
    lines.append(_row("CAs", f"{python.cafile}, {python.capath}"))
    lines.append(
        [
            ("ML-KEM   ", "dim"),
            ("yes" if probe.has_mlkem else "no", "bold green" if probe.has_mlkem else "bold red"),
            (f": a handshake in memory, by itself: {probe.explanation}", ""),
        ]
    )
    lines.append(_row("", f"offered {offered_names(probe)}"))
    lines.append([])
    for way in found.ways:
        lines.append(
            [
                (f"{way.kind:<8} ", "bold"),
                ("possible" if way.is_possible else "not possible", "green" if way.is_possible else "yellow"),
                (f": {way.reason}", ""),
            ]
        )
        if way.next_step:
            lines.append(_row("", way.next_step))
    for source in found.sources:
        state = f"rejected: {source.rejected}" if source.rejected else "usable"
        lines.append(_row("source", f"{source.description}: {state}"))
    lines.append([])
    lines.append([("next     ", "dim"), (found.next_command, "bold")])
    return lines


def _row(label: str, text: str) -> Line:
    return [(f"{label:<9}", "dim"), (text, "")]
