"""How sure a rate is that was counted few times."""

from __future__ import annotations

import math

_Z_95 = 1.96


def wilson(count: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (Wilson, 1927).

    Args:
        count: How often it happened.
        total: Out of how many, at least 1.
    """
    rate = count / total
    spread = _Z_95 * math.sqrt(rate * (1 - rate) / total + _Z_95**2 / (4 * total**2))
    centre = rate + _Z_95**2 / (2 * total)
    scale = 1 + _Z_95**2 / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
