"""All entries by id, and the names of those that are known and not yet told apart here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.faults.middleboxes import MIDDLEBOXES
from pqtls.faults.negotiation import NEGOTIATION
from pqtls.faults.receivers import RECEIVERS
from pqtls.faults.transport import TRANSPORT

if TYPE_CHECKING:
    from pqtls.faults.model import Fault

CATALOGUE: dict[str, Fault] = {
    fault.id: fault for fault in sorted((*RECEIVERS, *TRANSPORT, *NEGOTIATION, *MIDDLEBOXES), key=lambda each: each.id)
}

# Known classes that have no entry yet: named where something fits them equally well.
UNTOLD: dict[str, str] = {
    "F05": "inspect-timeout",
    "F11": "first-flight-quota",
    "F12": "out-of-order-intolerant",
    "F15": "fragments-dropped",
    "F20": "hello-length-quirks",
    "F28": "empty-keyshare-intolerant",
    "F36": "tls12-only-inspection",
    "F37": "hello-rewriter",
    "F39": "name-policy-block",
    "F42": "explicit-proxy",
    "F50": "outside-tls",
}


def fault_name(fault_id: str) -> str:
    """Return an entry's name, also of a class that has no entry yet.

    Args:
        fault_id: Such as F01.

    Raises:
        KeyError: There is no such class.
    """
    entry = CATALOGUE.get(fault_id)
    return UNTOLD[fault_id] if entry is None else entry.name
