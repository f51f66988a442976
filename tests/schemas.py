"""The published JSON schemas under docs/schemas, as validators."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

FOLDER = Path(__file__).parent.parent / "docs" / "schemas"


@cache
def validator(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def validate(line: dict[str, Any]) -> str:
    """Validate one line by the schema that it names, and return that schema's short name."""
    name = str(line["schema"]).removeprefix("pqtls/").replace("/", "-")
    validator(name).validate(line)
    return name
