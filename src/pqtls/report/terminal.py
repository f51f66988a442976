"""What a person reads: a few lines a connection, then one sentence that answers the question.

Text first, colour second: every line makes sense without colour, so that logs and pipes lose nothing.
Text from the network or from a client is stripped of control characters before it reaches a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.wire.groups import group_name, is_grease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pqtls.observe.observation import Observation
    from pqtls.report.model import CaseResult, Refusal, Setting, SuiteReport
    from pqtls.wire.facts import Handshake

# One styled line: pieces of text, each with a rich style ("" for none).
Line = list[tuple[str, str]]

VERDICT_STYLES = {
    "post-quantum": "bold green",
    "allowed": "yellow",
    "not-post-quantum": "bold red",
    "inconclusive": "bold yellow",
    "disagreement": "bold white on red",
}


def clean_text(text: str) -> str:
    """Replace control characters, so that no peer or client can steer the terminal.

    Args:
        text: Any text.
    """
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def describe_groups(groups: Sequence[int]) -> str:
    """Write a list of groups for people: names in order, GREASE left out, "none" if empty.

    Args:
        groups: NamedGroup code points.
    """
    return " ".join(group_name(group) for group in groups if not is_grease(group)) or "none"


def describe_connection(connection: Observation) -> list[str]:
    """Write one connection as plain lines: what was offered, what was chosen, what that proves.

    Args:
        connection: The connection.
    """
    handshake = connection.handshake
    host = clean_text(handshake.sni or connection.server or "unknown host")
    outer = " (outer name: ECH)" if handshake.ech else ""
    lines = [f"{host}{outer}  seen by {' and '.join(connection.sources)}"]
    if handshake.client_hellos:
        last = handshake.client_hellos[0]
        hidden = " (outer hello: ECH)" if handshake.ech else ""
        lines.append(f"offered  {describe_groups(last.groups)}{hidden}")
        lines.append(f"shares   {_describe_shares(handshake)}   retry {_describe_retry(handshake)}")
    lines.append(f"chosen   {_describe_choice(handshake)}   {_describe_sizes(handshake)}")
    return lines


def _describe_shares(handshake: Handshake) -> str:
    flights = [
        " ".join(f"{group_name(share.group)} ({share.size_bytes} B)" for share in hello.key_shares) or "none"
        for hello in handshake.client_hellos
    ]
    return ", then ".join(flights)


def _describe_retry(handshake: Handshake) -> str:
    retry = handshake.hello_retry
    if retry is None:
        return "none"
    wants = "cookie" if retry.cookie else "no group named"
    return f"HelloRetryRequest ({wants if retry.group is None else group_name(retry.group)})"


def _describe_choice(handshake: Handshake) -> str:
    hello, legacy = handshake.server_hello, handshake.legacy_key_exchange
    if hello is None:
        return "nothing: no ServerHello"
    if hello.group is not None:
        return group_name(hello.group)
    if legacy is not None:
        group = "" if legacy.group is None else f" {group_name(legacy.group)}"
        return f"TLS 1.2 {legacy.kind}{group}"
    return "no group"


def _describe_sizes(handshake: Handshake) -> str:
    sizes = " + ".join(f"{hello.size_bytes:,}" for hello in handshake.client_hellos)
    segments = " + ".join(str(hello.segments) for hello in handshake.client_hellos if hello.segments)
    word = "segment" if segments == "1" else "segments"
    parts = [f"ClientHello {sizes} B" + (f" in {segments} {word}" if segments else "")] if sizes else []
    if handshake.server_hello is not None:
        parts.append(f"ServerHello {handshake.server_hello.size_bytes:,} B")
    if handshake.handshake_ms is not None:
        parts.append(f"{handshake.handshake_ms:.1f} ms")
    return "   ".join(parts)


def render_setting(setting: Setting) -> list[Line]:
    """Return the opening lines of a run: which OpenSSL, and why that one.

    Args:
        setting: The setting.
    """
    lines: list[Line] = [
        [("pqtls ", "bold"), (f"{setting.pqtls}, Python {setting.python}", "")],
        [("clients  ", "dim"), (f"{setting.openssl} ({setting.way})", "bold"), (f": {setting.why}", "")],
    ]
    if setting.client_groups:
        lines.append([("         ", ""), (f"held to groups {setting.client_groups}", "yellow")])
    held = [f"groups {setting.server_groups}"] if setting.server_groups else []
    held += [setting.server_tls] if setting.server_tls else []
    lines.append(
        [
            ("servers  ", "dim"),
            (f"real: {clean_text(', '.join(setting.targets))}" if setting.targets else setting.servers, ""),
        ]
    )
    if held:
        lines[-1].append((f", held to {' and '.join(held)}", "yellow"))
    lines.append([("witness  ", "dim"), (setting.witnesses, "")])
    if setting.aws_cli_v2:
        lines.append([("aws      ", "dim"), (clean_text(setting.aws_cli_v2), "")])
    return lines


# The longest titles of the built-in clients: `AWS CLI v2 2.36.50`, and `AWS CLI v1 (pip), ap-southeast-1`.
_TITLE_WIDTH = 21
_TITLE_AND_REGION_WIDTH = 33


def render_case(case: CaseResult, number: int | None = None) -> list[Line]:
    """Return the lines of one case.

    Args:
        case: The case.
        number: Its place in the suite; None for the control.
    """
    style = VERDICT_STYLES[case.verdict]
    answer = "got its answer" if case.got_its_answer else _describe_failure(case)
    lines: list[Line] = [
        [
            (f"{number or '-':>2} ", "dim"),
            (f"{case.title:<{_TITLE_WIDTH if case.target_host is None else _TITLE_AND_REGION_WIDTH}} ", "bold"),
            (f"{case.verdict} / {case.reason}", style),
            (f"   {answer}, {case.seconds:.1f} s", "dim"),
        ]
    ]
    for connection in case.connections:
        for position, text in enumerate(describe_connection(connection)):
            lines.append([("   " if position == 0 else "     ", ""), (text, "")])
        lines.append([("     ", ""), *_verdict_of(case, connection)])
        if case.is_helper(connection) and connection.finding.verdict == "not-post-quantum":
            lines += _describe_helper(case, connection)
    if case.failure:
        lines.append([("   ! ", "yellow"), (case.failure, "yellow")])
    lines += [[("   ! ", "red"), (clean_text(text), "red")] for text in case.disagreements]
    lines += [[("   ! ", "yellow"), (clean_text(text), "yellow")] for text in case.blind_spots]
    lines += [
        [
            ("   ! ", "red"),
            (f"did not refuse the {each.server} server: {describe_refusal(each)}", "red"),
        ]
        for each in case.refusals
        if not each.was_refused
    ]
    lines += [[("   . ", "dim"), (clean_text(text), "dim")] for text in case.notes]
    if not case.got_its_answer:
        last = case.output.splitlines()[-1 if case.failure else -3 :]
        lines += [[("   | ", "dim"), (clean_text(text), "dim")] for text in last]
    return lines


def _describe_helper(case: CaseResult, connection: Observation) -> list[Line]:
    """Say of a classical connection to another host than the one under test how it would be accepted."""
    if case.is_allowed(connection):
        return []
    host = clean_text(connection.host or "")
    text = f"a helper of this client, not the server under test; to accept it: --allow '{host}=why it may be classical'"
    return [[("     ", ""), (text, "dim")]]


def describe_refusal(refusal: Refusal) -> str:
    """Say why a certificate control did not hold; only a request that got through shows that nothing is verified.

    Args:
        refusal: A control whose server was not refused.
    """
    if not refusal.contacted:
        return "it never reached it, so nothing is shown"
    if refusal.requests:
        return "its request got through, so verification is not on"
    if refusal.exit_code is None:
        return "it sent no request, but did not end in time either"
    return "it sent no request, but ended with exit code 0, as if it had its answer"


def _describe_failure(case: CaseResult) -> str:
    return "stopped: no end in time" if case.exit_code is None else f"failed with exit code {case.exit_code}"


def _verdict_of(case: CaseResult, connection: Observation) -> Line:
    finding = connection.finding
    if case.is_allowed(connection):
        why = clean_text(case.allowed[connection.host or ""])
        return [
            ("allowed", VERDICT_STYLES["allowed"]),
            (f" ({why}), not post-quantum: {finding.reason}. {finding.detail}", ""),
        ]
    return [
        (finding.verdict, VERDICT_STYLES[finding.verdict]),
        (f" / {finding.reason}: {clean_text(finding.detail)}", ""),
    ]


def render_ending(report: SuiteReport) -> list[Line]:
    """Return the closing lines: the controls, and the answer in one sentence.

    Args:
        report: The run.
    """
    lines: list[Line] = []
    refusals = [refusal for case in report.cases for refusal in case.refusals]
    if refusals:
        refused = sum(refusal.was_refused for refusal in refusals)
        text = f"wrong-name and wrong-CA servers were refused {refused} of {len(refusals)} times"
        lines.append([("controls ", "dim"), (text, "" if refused == len(refusals) else "bold red")])
    control = report.control
    ok = report.control_exit_code == 0
    lines.append(
        [
            ("         " if refusals else "controls ", "dim"),
            (
                f"{control.title}, held to x25519, came out {control.verdict} / {control.reason}",
                "" if ok else "bold red",
            ),
            ("" if ok else "; it had to be not-post-quantum, so nothing here is proven", "bold red"),
        ]
    )
    for host in report.unused_allowed:
        lines.append(
            [
                ("         ", ""),
                (f"--allow {clean_text(host)} was not needed: no classical connection went there", "yellow"),
            ]
        )
    lines.append(_answer(report))
    return lines


def _answer(report: SuiteReport) -> Line:
    total = len(report.cases)
    connections = sum(len(case.connections) for case in report.cases)
    counts = {name: sum(case.verdict == name for case in report.cases) for name in VERDICT_STYLES}
    clients = "client" if total == 1 else "clients"
    seconds = f"  {report.seconds:.1f} s, exit code {report.exit_code}"
    if report.exit_code == 0 and not counts["allowed"]:
        text = f"PASS: {total} of {total} {clients}, every connection post-quantum ({connections})."
        return [(text, "bold green"), (seconds, "dim")]
    if report.exit_code == 0:
        text = (
            f"PASS: of {total} {clients}, {counts['post-quantum']} post-quantum on every connection, "
            f"{counts['allowed']} with connections that --allow let be classical."
        )
        return [(text, "bold yellow"), (seconds, "dim")]
    parts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    word = "FAIL" if counts["not-post-quantum"] or counts["disagreement"] else "NOT PROVEN"
    return [(f"{word}: of {total} {clients}, {parts}.", "bold red"), (seconds, "dim")]
