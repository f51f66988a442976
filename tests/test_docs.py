"""The docs hold what they promise: generated parts are fresh, links lead somewhere, every verb and module is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from pqtls.cli import app
from pqtls.evidence import Reason

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_pages_are_fresh() -> None:
    """In a process of its own: click keeps help options that other tests made."""
    script = ROOT / "scripts" / "write_docs.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name


def test_every_verb_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for verb in app.commands:
        assert f"pqtls {verb}" in readme


def test_every_reason_is_explained() -> None:
    text = (ROOT / "docs" / "verdicts.md").read_text()
    assert [reason for reason in get_args(Reason) if f"`{reason}`" not in text] == []


def test_no_machine_path_or_internal_host() -> None:
    for page in PAGES:
        assert not re.search(r"/work/|/root/|\.library|/opt/pypi", page.read_text()), page
