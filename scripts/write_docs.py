"""Write the parts of the docs that would rot by hand: groups, verbs, modules, faults. `--check` only compares."""

from __future__ import annotations

import ast
import re
import sys
from functools import partial
from pathlib import Path

import click

from pqtls.cli import app
from pqtls.faults.catalogue import CATALOGUE, UNTOLD, fault_name
from pqtls.faults.model import Fault
from pqtls.path.sharpening import HAS_PLACE
from pqtls.path.words import say_where
from pqtls.probe.experiments import EXPERIMENTS
from pqtls.wire.groups import GROUPS

SOURCE = Path(__file__).resolve().parent.parent / "src" / "pqtls"
DOCS = Path(__file__).resolve().parent.parent / "docs"
NOTE = "<!-- Written by `make docs` from the code; change that instead. -->\n\n"
EXPERIMENT = re.compile(r"E\d+[a-z]*(?:\(\w+\))?")
# Those that take a number, or are others done again.
FAMILIES = {
    "E8": "hybrid, with TCP segments of a chosen size",
    "E18": "classical, padded to sizes that halve what is left, until one byte decides",
    "E19": "classical, cut before the name, with pauses between none and 0.3 s",
    "E20": "what failed and the control in turn, so that no order of servers falls in with it",
    "E21": "a flight of one segment whose packets may cross so many routers, and the control's",
    "E22": "the control again after a failure, until it gets through",
}
KINDS = {
    "hybrid": "ML-KEM and a classical curve, registered with IANA. Counts as post-quantum.",
    "pure": "ML-KEM alone, registered with IANA. Counts as post-quantum.",
    "classical": "No ML-KEM. Never post-quantum.",
    "draft": "Obsolete pre-standard groups (Kyber drafts and older). Never post-quantum.",
    "experimental": "ML-KEM under a private code point, which others may use otherwise. Inconclusive.",
}


def render_groups() -> str:
    """Return docs/groups.md."""
    parts = [NOTE, "# Named groups\n\nWhat pqtls knows of each group; a group that is not here is inconclusive.\n"]
    for kind, meaning in KINDS.items():
        parts.append(f"\n## {kind}\n\n{meaning}\n\n| group | code point | client share | server share | note |\n")
        parts.append("|---|---|---|---|---|\n")
        for group in sorted(GROUPS.values(), key=lambda each: each.code):
            if group.kind == kind:
                sizes = [f"{size} B" if size else "" for size in (group.client_share_bytes, group.server_share_bytes)]
                parts.append(
                    f"| {group.name} | 0x{group.code:04X} ({group.code}) | {sizes[0]} | {sizes[1]} | {group.note} |\n"
                )
    return "".join(parts)


def render_cli() -> str:
    """Return docs/cli.md."""
    parts = [NOTE, "# Command line\n"]
    names = app.context_settings["help_option_names"]
    context = click.Context(app, info_name="pqtls", max_content_width=100, terminal_width=100, help_option_names=names)
    parts.append(f"\n```\n{app.get_help(context)}\n```\n")
    for name, command in sorted(app.commands.items()):
        inner = click.Context(command, info_name=name, parent=context, max_content_width=100, terminal_width=100)
        parts.append(f"\n## pqtls {name}\n\n```\n{command.get_help(inner)}\n```\n")
        for below, subcommand in sorted(getattr(command, "commands", {}).items()):
            deeper = click.Context(subcommand, info_name=below, parent=inner, max_content_width=100, terminal_width=100)
            parts.append(f"\n### pqtls {name} {below}\n\n```\n{subcommand.get_help(deeper)}\n```\n")
    return "".join(parts)


def render_modules() -> str:
    """Return docs/modules.md, from the first line of every module's docstring."""
    parts = [
        NOTE,
        "# Modules\n\nWhat each is for; see [architecture.md](architecture.md) for how they hang together.\n",
    ]
    by_room: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE)
        if path.name != "__init__.py" and "cases" not in relative.parts:
            by_room.setdefault(str(relative.parent), []).append(path)
    for room, paths in by_room.items():
        parts.append(f"\n## {'pqtls' if room == '.' else room + '/'}\n\n| module | what it is for |\n|---|---|\n")
        for path in paths:
            docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
            parts.append(f"| `{path.name}` | {' '.join(docstring.split(chr(10) * 2)[0].split())} |\n")
    return "".join(parts)


def render_faults() -> str:
    """Return docs/faults.md, the index of the catalogue."""
    parts = [
        NOTE,
        "# Path faults\n\nWhat `pqtls path` can name; [path.md](path.md) says how. A *fault* breaks handshakes, "
        "a *state* is the server's own, a *cost* is slower, a *circumstance* brings others to light.\n\n"
        "| id | name | kind | on this path ... |\n|---|---|---|---|\n",
    ]
    parts += [
        f"| [{fault.id}](faults/{fault.id}-{fault.name}.md) | {fault.name} | {fault.kind} | {fault.sentence} |\n"
        for fault in CATALOGUE.values()
    ]
    untold = ", ".join(f"{key} {name}" for key, name in UNTOLD.items())
    parts.append(f"\nKnown, and named only where something fits them equally well: {untold}.\n")
    return "".join(parts)


def render_fault(fault: Fault) -> str:
    """Return one fault's page.

    Args:
        fault: The entry.
    """
    parts = [NOTE, f"# {fault.id} {fault.name}\n\nOn this path {fault.sentence}.\n\n{fault.what}\n"]
    parts.append(f"\n## How it is recognised\n\n{fault.signs}\n\nMost likely it is {say_where(fault.where)}.")
    if fault.id in HAS_PLACE:
        parts.append(" Where routers tell, and connections are left for it, the hop is named (E21).")
    parts.append("\n")
    if fault.confused_with:
        others = ", ".join(f"{each} {fault_name(each)}" for each in fault.confused_with)
        parts.append(f"\nEasily confused with: {others}.\n")
    if fault.radar:
        parts.append(f"\nCloudflare Radar calls it `{fault.radar}`.\n")
    if fault.measured:
        parts.append(f"\nMeasured: {fault.measured}\n")
    text = " ".join((fault.signs, *(proof for remedy in fault.remedies for proof in remedy.proved_by)))
    named = dict.fromkeys(EXPERIMENT.findall(text))
    known = [name for name in named if name in EXPERIMENTS or name in FAMILIES]
    if known:
        parts.append("\n| experiment | what is sent |\n|---|---|\n")
        parts += [f"| {name} | {FAMILIES.get(name) or EXPERIMENTS[name].title} |\n" for name in known]
    if fault.victims:
        parts.append("\n## Who was hit\n\n| who | source |\n|---|---|\n")
        parts += [f"| {victim.what} | {victim.source} |\n" for victim in fault.victims]
    if fault.remedies:
        parts.append("\n## What to do\n\n")
        for remedy in fault.remedies:
            proof = f" Proved on a path by {' or '.join(remedy.proved_by)}." if remedy.proved_by else ""
            parts.append(f"- {remedy.what}{proof}\n")
    parts.append(
        f"\n## How to reproduce it\n\n    pqtls lab run {fault.id} -- pqtls path server.example\n"
        f"    pqtls lab run {fault.id} -- pqtls run -- curl -m 20 https://server.example/\n\n"
        "Any program can take curl's place; the network is made on this machine for that one command "
        "([lab.md](../lab.md)). `pqtls run` gives curl an OpenSSL with ML-KEM; by itself an older one would send a "
        "small classical hello, which most faults let through. A program shows the fault only if it sends what "
        "triggers it, which can depend on the parameters drawn (`--seed N`); `pqtls path` tries everything.\n"
    )
    return "".join(parts)


PAGES = {"groups.md": render_groups, "cli.md": render_cli, "modules.md": render_modules, "faults.md": render_faults}
PAGES |= {f"faults/{fault.id}-{fault.name}.md": partial(render_fault, fault) for fault in CATALOGUE.values()}


def find_stale() -> list[str]:
    """Return the names of pages that are not what the code says now."""
    return [
        name for name, render in PAGES.items() if not (DOCS / name).exists() or (DOCS / name).read_text() != render()
    ]


def main() -> int:
    """Write the pages, or with --check return 1 if one is stale."""
    stale = find_stale()
    if "--check" in sys.argv:
        print("\n".join(f"docs/{name} is stale: run make docs" for name in stale))
        return 1 if stale else 0
    (DOCS / "faults").mkdir(exist_ok=True)
    for name in stale:
        (DOCS / name).write_text(PAGES[name]())
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
