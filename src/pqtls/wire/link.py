"""Link layers of captured packets: what stands before the IP header, and how to get past it.

Sources: IEEE 802.3 and 802.1Q for Ethernet II and VLAN tags; the link-layer header types of tcpdump.org
(LINKTYPE_NULL, ETHERNET, RAW, LOOP, LINUX_SLL, IPV4, IPV6, LINUX_SLL2) for the rest.
"""

from __future__ import annotations

NULL = 0
ETHERNET = 1
RAW = 101
LOOP = 108
LINUX_SLL = 113
IPV4 = 228
IPV6 = 229
LINUX_SLL2 = 276
# Numbers that some systems wrote into files for raw IP before 101 was agreed on.
_RAW = frozenset((12, 14, RAW, IPV4, IPV6))

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
_VLAN_TAGS = frozenset((0x8100, 0x88A8, 0x9100))
# 802.1ad nests two; a few operators more. Without an end one packet could be nothing but tags.
MAX_VLAN_TAGS = 4

SUPPORTED = frozenset((NULL, ETHERNET, LOOP, LINUX_SLL, LINUX_SLL2)) | _RAW


def find_ip(data: bytes, link_type: int) -> int | None:
    """Find where the IP packet begins.

    Args:
        data: A captured packet from its first byte.
        link_type: LINKTYPE number of the interface.

    Returns:
        Offset of the IP header in bytes, which may lie beyond the end of what was captured; None where the
        packet carries something else than IP, or the link type is not one of `SUPPORTED`.
    """
    if link_type in _RAW:
        return 0
    if link_type == ETHERNET:
        return _after_ethertype(data, 12)
    if link_type == LINUX_SLL:
        return _after_ethertype(data, 14)
    if link_type == LINUX_SLL2:
        offset = _after_ethertype(data, 0)
        return None if offset is None else offset + 18
    if link_type in (NULL, LOOP):
        return 4  # an address family, whose number differs between systems: the IP version tells as much
    return None


def _after_ethertype(data: bytes, offset: int) -> int | None:
    for _ in range(MAX_VLAN_TAGS + 1):
        if offset + 2 > len(data):
            return offset + 2
        kind = int.from_bytes(data[offset : offset + 2], "big")
        if kind not in _VLAN_TAGS:
            return offset + 2 if kind in (ETHERTYPE_IPV4, ETHERTYPE_IPV6) else None
        offset += 4
    return None


def build_link_header(link_type: int, ip_version: int, *, vlans: tuple[int, ...] = ()) -> bytes:
    """Write a link-layer header with unspecified hardware addresses.

    Args:
        link_type: LINKTYPE number.
        ip_version: 4 or 6: the version of the packet that follows.
        vlans: VLAN identifiers, the outermost first; Ethernet and LINUX_SLL only.

    Raises:
        ValueError: This link type is not one of `SUPPORTED`.
    """
    kind = (ETHERTYPE_IPV4 if ip_version == 4 else ETHERTYPE_IPV6).to_bytes(2, "big")
    tagged = b"".join(b"\x81\x00" + vlan.to_bytes(2, "big") for vlan in vlans) + kind
    if link_type in _RAW:
        return b""
    if link_type == ETHERNET:
        return bytes(12) + tagged
    if link_type == LINUX_SLL:
        return b"\0\0\0\1\0\6" + bytes(8) + tagged
    if link_type == LINUX_SLL2:
        return kind + bytes(2) + b"\0\0\0\1\0\1\0\6" + bytes(8)
    if link_type in (NULL, LOOP):
        family = 2 if ip_version == 4 else 10
        return family.to_bytes(4, "little" if link_type == NULL else "big")
    raise ValueError(f"no header is known for link type {link_type}")
