"""The doctor's findings on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.openssl.doctor import offered_names
from pqtls.report.terminal import clean_text
from pqtls.wire.groups import group_name

if TYPE_CHECKING:
    from pqtls.openssl.doctor import Examination
    from pqtls.openssl.stacks import StackReport
    from pqtls.openssl.surroundings import CaBundle, Configuration, Surroundings
    from pqtls.report.terminal import Line

_LINKAGE = {
    "dynamic": "dynamic (libssl.so.3)",
    "static": "static: built into the interpreter",
    "openssl-1.1": "OpenSSL 1.1",
    "libressl": "LibreSSL",
    "other": "not OpenSSL 3 by its usual name",
    "no-ssl": "no ssl module",
}
_STYLES = {"negotiates": "bold green", "offers": "green", "no": "bold red", "unknown": "yellow"}
_SHOWN_GROUPS = 3


def render_examination(found: Examination) -> list[Line]:
    """Return the screen.

    Args:
        found: What the doctor found.
    """
    lines = [
        *_render_interpreter(found),
        *_render_stacks(found),
        [],
        *_render_surroundings(found),
        [],
        *_render_ways(found),
        [],
        _answer_question(found),
        [("next     ", "dim"), (found.next_command, "bold")],
    ]
    return [[(clean_text(text), style) for text, style in line] for line in lines]


def _render_interpreter(found: Examination) -> list[Line]:
    python, probe = found.interpreter, found.probe
    linkage = _LINKAGE[python.linkage] + ("" if python.libssl is None else f", {python.libssl}")
    return [
        _row("python", f"{python.version} ({python.implementation})  {python.executable}"),
        _row("system", found.system),
        _row("openssl", f"{python.openssl_version or 'none'}, {linkage}"),
        [
            ("ML-KEM   ", "dim"),
            ("yes" if probe.has_mlkem else "no", "bold green" if probe.has_mlkem else "bold red"),
            (f": a handshake in memory, by itself: {probe.explanation}", ""),
        ],
        _row("", f"offered {offered_names(probe)}"),
    ]


def _render_stacks(found: Examination) -> list[Line]:
    titles = [f"{stack.distribution} {stack.version}" for stack in found.stacks]
    answers = [_answer(stack) for stack in found.stacks]
    known = [answer for answer, stack in zip(answers, found.stacks, strict=True) if stack.ml_kem != "unknown"]
    widths = max(map(len, titles), default=0), max(map(len, known), default=0)
    lines: list[Line] = []
    for number, (stack, title, answer) in enumerate(zip(found.stacks, titles, answers, strict=True)):
        lines.append(
            [
                ("stacks   " if number == 0 else "         ", "dim"),
                (f"{title:<{widths[0]}}  ", ""),
                (f"{answer:<{widths[1]}}" if stack.library else answer, _STYLES[stack.ml_kem]),
                (f"  {stack.library}" if stack.library else "", "dim"),
            ]
        )
    if found.through_ssl:
        names = ", ".join(name for name, _ in found.through_ssl)
        lines.append(_row("via ssl", f"{names}: as ssl above"))
    return lines


def _answer(stack: StackReport) -> str:
    """Return a stack's answer in a few words; the whole of it is in the JSON object."""
    if stack.ml_kem == "no":
        more = " ..." if len(stack.offered) > _SHOWN_GROUPS else ""
        return f"no: {' '.join(map(group_name, stack.offered[:_SHOWN_GROUPS])) or 'offers no groups'}{more}"
    return stack.explanation.partition(";")[0] if stack.ml_kem == "offers" else stack.explanation


def _render_surroundings(found: Examination) -> list[Line]:
    around = found.surroundings
    lines = [_row("CAs" if number == 0 else "", text) for number, text in enumerate(_describe_bundles(around))]
    proxies = ", ".join(f"{proxy.variable} {proxy.shown}" for proxy in around.proxies)
    lines += [
        _row("conf", _describe_configuration(around.configuration)),
        _row("policy", _describe_policy(around)),
        _row("proxies", proxies or "none set"),
    ]
    if found.aws is not None:
        name = f"AWS CLI {found.aws.version}".rstrip()
        lines.append(_row("aws", f"{name}, {found.aws.path}: {found.aws.explanation}"))
    return lines


def _describe_bundles(around: Surroundings) -> list[str]:
    """Return one line a place, whoever names it."""
    by_path: dict[str, list[CaBundle]] = {}
    for bundle in around.ca_bundles:
        by_path.setdefault(bundle.path, []).append(bundle)
    return [
        f"{path}: {_describe_contents(bundles[0])} ({', '.join(bundle.origin for bundle in bundles)})"
        for path, bundles in by_path.items()
    ]


def _describe_contents(bundle: CaBundle) -> str:
    if not bundle.exists:
        return "does not exist"
    return "cannot be read" if bundle.certificates is None else f"{bundle.certificates} CAs"


def _describe_configuration(configuration: Configuration) -> str:
    where = f"{configuration.origin}  {configuration.path}"
    if not configuration.exists:
        return f"{where}: does not exist"
    if configuration.obstacle:
        return f"{where}: {configuration.obstacle}"
    return f"{where}: {', '.join(configuration.settings) or 'sets nothing for TLS'}"


def _describe_policy(around: Surroundings) -> str:
    fips = {True: "FIPS mode", False: "no FIPS mode", None: "no FIPS mode known to the kernel"}[around.fips]
    return f"{fips}, crypto-policies: {around.crypto_policy or 'none'}"


def _render_ways(found: Examination) -> list[Line]:
    lines: list[Line] = []
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
        lines.append([*_row("source", f"{source.description}: {state}"), (f"  {source.libssl.parent}", "dim")])
    return lines


def _answer_question(found: Examination) -> Line:
    """Return the answer to what the doctor is asked."""
    possible = {way.kind for way in found.ways if way.is_possible}
    if "native" in possible:
        answer, rest, style = "yes", ": this Python does post-quantum TLS by itself", "bold green"
    elif "graft" in possible:
        answer, style = "not by itself", "bold yellow"
        rest = "; it does with a graft: `pqtls run` for one program, `pqtls enable` for a virtual environment"
    else:
        answer, rest, style = "no", ": this Python cannot do post-quantum TLS as things are", "bold red"
    return [("answer   ", "dim"), (answer, style), (rest, "")]


def _row(label: str, text: str) -> Line:
    return [(f"{label:<9}", "dim"), (text, "")]
