"""Which experiment with a number comes next, once a class explains what was seen. Pure; bounded; only where it adds.

E18 looks for the size that still passes, E19 for the pause that still passes, E21 for the hop that drops or answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pqtls.path.findings import MIN_CUT, UNPAUSED, find_gap, find_size, read_hops
from pqtls.path.reading import CONTROL, SILENT

if TYPE_CHECKING:
    from pqtls.path.findings import SizeLimit
    from pqtls.path.hypotheses import Hypothesis
    from pqtls.path.reading import Reading, Symptom

# Buffers that products have, and what a kernel hands over at once from usual segments.
_BUFFERS = (1024, 1448, 1460, 1500, 2048, 4096, 8192)
# MTUs of links and tunnels: Ethernet's kin, PPPoE, GRE, VXLAN, WireGuard, IPv6's least.
_MTUS = (1500, 1492, 1480, 1476, 1450, 1440, 1428, 1420, 1412, 1400, 1380, 1370, 1360, 1320, 1300, 1280)
HEADERS_IPV4, HEADERS_IPV6 = 52, 72
"""Bytes of IP and TCP headers in a full segment, timestamps included."""
_SMALLEST_BYTES = 250
_MAX_SIZES, _MAX_SIZES_FULL = 8, 14
# The steps of the pause in ms, between none and the 300 of E3.
_GAPS_MS = (10, 30, 100)
_BY_PAUSE = frozenset(("F01", "F02", "F04", "F08"))
HAS_PLACE = frozenset(("F01", "F04", "F08", "F09", "F13", "F19", "F22", "F23", "F24", "F25", "F26"))
"""Classes in which a packet is dropped or answered, so that there is a hop where that is done."""
# Flights of one segment, or a first one alone for a while: of two, the first would be heard of before both have told.
_FLIGHTS = ("E3", "E9", "E15", "E15c", "E13", "E16c", "E4", "E10", "E14", "E2s")
_LOOPBACK = ("127.", "::1")
_MAX_HOPS, _FIRST_HOPS = 30, 4
_MAX_DEAF_HOPS = 2


def next_sharpening(
    reading: Reading, hypotheses: tuple[Hypothesis, ...], *, is_full: bool, can_limit_hops: bool
) -> str | None:
    """Return the experiment to do next, None if none adds anything.

    Args:
        reading: The attempts, read.
        hypotheses: The classes that explain them.
        is_full: There is time.
        can_limit_hops: Packets can be given few hops.
    """
    faults = {each.fault for each in hypotheses}
    found = None
    if faults & {"F03", "F13", "F19"}:
        found = _next_size(reading, find_size(hypotheses), is_full=is_full)
    if found is None and faults & _BY_PAUSE:
        found = _next_gap(reading)
    is_here = any(each.attempt.address.startswith(_LOOPBACK) for each in reading.symptoms)
    if found is None and can_limit_hops and not is_here and faults and faults <= HAS_PLACE:
        found = _next_hops(reading)
    return found


def _next_size(reading: Reading, limit: SizeLimit | None, *, is_full: bool) -> str | None:
    if limit is None or limit.is_exact:
        return None
    done = {each.attempt.experiment for each in reading.symptoms if each.attempt.experiment.startswith("E18(")}
    if len(done) >= (_MAX_SIZES_FULL if is_full else _MAX_SIZES):
        return None
    low, high = max(limit.passed_bytes, _SMALLEST_BYTES), limit.failed_bytes
    likely: tuple[int, ...] = _BUFFERS
    if limit.is_of_segments:
        is_ipv6 = any(":" in each.attempt.address for each in reading.symptoms)
        headers_bytes = HEADERS_IPV6 if is_ipv6 else HEADERS_IPV4
        likely = tuple(mtu - headers_bytes for mtu in _MTUS)
    between = sorted(size for size in likely if low < size < high)
    if low in likely:
        size_bytes = low + 1
    elif between:
        size_bytes = between[len(between) // 2]
    else:
        size_bytes = (low + high) // 2
    name = f"E18({size_bytes})"
    return None if name in done else name


def _next_gap(reading: Reading) -> str | None:
    found = find_gap(reading)
    if found is None or found.failed_ms is None:
        return None
    if not reading.passed(UNPAUSED):
        return UNPAUSED if found.unpaused.attempts < MIN_CUT else None
    between = [gap for gap in _GAPS_MS if (found.passed_ms or 0) < gap < found.failed_ms]
    return f"E19({between[len(between) // 2]})" if between else None


def _next_hops(reading: Reading) -> str | None:
    """Double the hops until the flight fails as it does with all of them, then halve; the control first and last."""
    steady = [name for name in _FLIGHTS if reading.failed(name) and not reading.passed(name)]
    flight = next((name for name in steady if name == "E3" or _is_one_segment(reading, name)), None)
    if flight is None:
        return None
    looked = read_hops(reading)
    silent = any(each.kind in SILENT for each in reading.of(flight))
    unheard = _find_unheard(looked, flight)
    if unheard is not None:
        # Silence means something only where the control's packets are heard of.
        return f"E21({CONTROL}@{unheard})"
    low, high, deaf = 0, _MAX_HOPS + 1, 0
    for (name, hops), symptom in looked.items():
        if name != flight:
            continue
        is_deaf = symptom.kind in SILENT and not (silent and looked[CONTROL, hops].is_ok)
        deaf += is_deaf
        if symptom.is_ok and symptom.attempt.ending != "expired":
            return None  # it got through: not what it was
        if symptom.is_ok or is_deaf:
            low = max(low, hops)
        else:
            high = min(high, hops)
    if deaf > _MAX_DEAF_HOPS or low >= _MAX_HOPS:
        return None
    if high > _MAX_HOPS:
        return f"E21({flight}@{min(max(_FIRST_HOPS, low * 2), _MAX_HOPS)})"
    if not any(name == CONTROL and hops >= high for name, hops in looked):
        # Is a router there, for the control? Then the server is farther, and so it is with every hop before.
        return f"E21({CONTROL}@{high})"
    if low + 1 < high:
        return f"E21({flight}@{(low + high) // 2})"
    is_known = any(_tells(looked, name, hops, high) for name, hops in looked)
    return None if is_known else f"E21({CONTROL}@{high})"


def _find_unheard(looked: dict[tuple[str, int], Symptom], flight: str) -> int | None:
    """Return hops with which the flight met silence, and the control was not tried."""
    silent = (hops for (name, hops), each in looked.items() if name == flight and each.kind in SILENT)
    return next((hops for hops in silent if (CONTROL, hops) not in looked), None)


def _tells(looked: dict[tuple[str, int], Symptom], name: str, hops: int, high: int) -> bool:
    """Tell whether a control with so many hops says if the server is beyond `high`."""
    is_expired = looked[name, hops].attempt.ending == "expired"
    return name == CONTROL and (hops == high or (hops > high and is_expired))


def _is_one_segment(reading: Reading, name: str) -> bool:
    attempts = [each.attempt for each in reading.of(name)]
    # What failed at its second hello got further with the first.
    return all(a.sent is not None and len(a.sent.segments()) == 1 and not a.was_retried for a in attempts)
