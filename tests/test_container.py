"""The container's files hold what docs/container.md says. `make image` builds and runs the image itself."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from pqtls.cli import app
from pqtls.lab.names import AWS_HOSTS

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "compose.yaml").read_text()
PAGE = (ROOT / "docs" / "container.md").read_text()
DOCKERFILE_LINES = re.sub(r"\\\n|^#.*\n", "", DOCKERFILE, flags=re.M).splitlines()
FINAL_STAGE = DOCKERFILE_LINES[max(i for i, line in enumerate(DOCKERFILE_LINES) if line.startswith("FROM ")) :]
COMPOSED = re.findall(r"^    command: \[(.*)\]", COMPOSE, re.M)
COMPOSED_LISTS = re.findall(r"^    command:\n((?:      - .*\n)+)", COMPOSE, re.M)


def find_values(instruction: str) -> list[str]:
    return [line.partition(" ")[2].strip() for line in FINAL_STAGE if line.startswith(instruction + " ")]


def list_documented_commands() -> list[list[str]]:
    """Return what follows `pqtls` in the page's own code blocks, not in the transcript, and in compose.yaml."""
    commands = []
    for block in re.findall(r"```\n(.*?)```", PAGE.partition("## Built and run for real")[0], re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.replace("$(", "(").replace("(", "").replace(")", ""))
            if "pqtls" in words and "build" not in words:
                commands.append(words[words.index("pqtls") + 1 :])
    commands += [[word.strip() for word in command.split(",")] for command in COMPOSED]
    commands += [re.findall(r"- (.*)\n", items) for items in COMPOSED_LISTS]
    return [command for command in commands if command]


def test_the_user_is_not_root_and_has_a_number() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", find_values("USER")[-1])


def test_entry_point_command_and_stop_signal() -> None:
    assert json.loads(find_values("ENTRYPOINT")[0]) == ["pqtls"]
    assert json.loads(find_values("CMD")[0]) == ["test", "--local"]
    assert find_values("STOPSIGNAL") == ["SIGINT"]
    assert "PYTHONUNBUFFERED=1" in find_values("ENV")[0]


def test_the_base_is_debian_13() -> None:
    assert set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)) == {"debian:trixie-slim"}


def test_no_build_tool_in_the_last_stage() -> None:
    assert not re.search(r"\b(gcc|build-essential|python3-(pip|venv|dev))\b", "\n".join(FINAL_STAGE))


def test_no_secret_and_no_package_index_is_written_down() -> None:
    secret = re.compile(r"(ARG|ENV)\b.*(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|PIP_|_PROXY)\w*[ =]", re.I)
    assert [line for line in DOCKERFILE_LINES if secret.match(line)] == []
    assert not re.search(r"AWS_\w+[=:] *\S", COMPOSE)
    assert not re.search(r"AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN)=", PAGE)
    for text in (DOCKERFILE, COMPOSE, PAGE, (ROOT / "scripts" / "build_image.py").read_text()):
        assert set(re.findall(r"https?://([^/\s\"]+)", text)) <= {"github.com", *AWS_HOSTS}


def test_only_what_the_image_is_made_of_reaches_the_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = [line.split()[1:-1] for line in DOCKERFILE_LINES if line.startswith("COPY ") and "--from" not in line]
    assert {name for names in copied for name in names} == allowed
    assert all((ROOT / name).exists() for name in allowed)


def test_every_service_of_compose_is_sealed() -> None:
    assert "\t" not in COMPOSE
    common, _, services = COMPOSE.partition("\nservices:\n")
    names = re.findall(r"^  (\w+):$", services, re.M)
    assert {"test", "shell"} <= set(names)
    assert services.count("    <<: *pqtls\n") == len(names)
    for setting in ("read_only: true", "cap_drop: [ALL]", '"no-new-privileges:true"', '"./proof:/proof"', "tmpfs: ["):
        assert setting in common
    for forbidden in ("privileged: true", "cap_add", "docker.sock", "read_only: false"):
        assert forbidden not in COMPOSE
    overridden = re.findall(r"    security_opt: \[(.*)\]", services)
    assert all('"no-new-privileges:true"' in options for options in overridden)
    image_user = find_values("USER")[-1].partition(":")[0]
    assert f"${{PQTLS_UID:-{image_user}}}" in common


def test_there_are_commands_to_check() -> None:
    assert len(list_documented_commands()) >= 10


@pytest.mark.parametrize("command", list_documented_commands(), ids=shlex.join)
def test_documented_commands_exist(command: list[str]) -> None:
    verb = app.commands[command[0]]
    context = click.Context(verb, info_name=command[0], ignore_unknown_options=False)
    verb.parse_args(context, command[1:])
