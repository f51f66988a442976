"""Just enough rtnetlink and ethtool for two joined network interfaces, since `ip` and `ethtool` may be missing.

pyroute2 knows all of rtnetlink, and is a dependency with an import time of its own for what are five messages here.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h
_NLMSG_ERROR = 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_RTM_NEWLINK, _RTM_NEWADDR, _RTM_DELADDR, _RTM_NEWROUTE = 16, 20, 21, 24
_IFF_UP = 0x1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_TXQLEN, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 3, 4, 13, 18, 26, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 8, 1
_VETH_INFO_PEER = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_OIF, _RTA_GATEWAY = 4, 5
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 4, 0, 1

# linux/sockios.h
_SIOCGIFINDEX, _SIOCETHTOOL = 0x8933, 0x8946
# linux/ethtool.h: the commands that read and write each feature
_OFFLOADS = {
    "tx checksumming": (0x16, 0x17),
    "TCP segmentation offload": (0x1E, 0x1F),
    "generic segmentation offload": (0x23, 0x24),
    "generic receive offload": (0x2B, 0x2C),
}

_QUEUE_LENGTH = 999  # any but the kernel's own 1000

_HEADER = struct.Struct("=IHHII")  # nlmsghdr
_LINK = struct.Struct("=BxHiII")  # ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg


class NetworkConfigurator:
    """Configures the network namespace that it was made in, wherever its process moves later."""

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sequence = 0

    def close(self) -> None:
        """Close its sockets."""
        self._netlink.close()
        self._plain.close()

    def add_veth_pair(self, name: str, mtu: int, peer_namespace: int) -> None:
        """Make two joined interfaces of one name, here and in another network namespace.

        Args:
            name: Name of both.
            mtu: MTU of both.
            peer_namespace: The other namespace, opened.

        Raises:
            OSError: The kernel refuses.
        """
        common = _attribute(_IFLA_IFNAME, name.encode() + b"\0") + _attribute(_IFLA_MTU, struct.pack("=I", mtu))
        link = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        peer = link + common + _attribute(_IFLA_NET_NS_FD, struct.pack("=I", peer_namespace))
        info = _attribute(_IFLA_INFO_KIND, b"veth") + _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, peer))
        self._request(_RTM_NEWLINK, link + common + _attribute(_IFLA_LINKINFO, info), _NLM_F_CREATE | _NLM_F_EXCL)

    def forbid_link_local(self, name: str) -> None:
        """Let an interface get no IPv6 address by itself: its neighbour and router discovery is noise.

        Args:
            name: The interface; not yet up.

        Raises:
            OSError: The kernel refuses.
        """
        mode = _attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))
        body = _LINK.pack(socket.AF_UNSPEC, 0, self._index(name), 0, 0)
        try:
            self._request(_RTM_NEWLINK, body + _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, mode)))
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):  # a kernel without IPv6 has no such noise
                raise

    def add_address(self, name: str, address: str, prefix: int) -> None:
        """Give an interface an IPv4 address, and with it the route to its network.

        Args:
            name: The interface.
            address: The address.
            prefix: Length of the network's prefix.

        Raises:
            OSError: The kernel refuses.
        """
        self._request(_RTM_NEWADDR, self._address_body(name, address, prefix), _NLM_F_CREATE | _NLM_F_EXCL)

    def remove_address(self, name: str, address: str, prefix: int) -> None:
        """Take an address from an interface.

        Args:
            name: The interface.
            address: The address.
            prefix: Length of the network's prefix.

        Raises:
            OSError: The kernel refuses, or it does not have it.
        """
        self._request(_RTM_DELADDR, self._address_body(name, address, prefix))

    def _address_body(self, name: str, address: str, prefix: int) -> bytes:
        packed = socket.inet_aton(address)
        body = _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, self._index(name))
        return body + _attribute(_IFA_LOCAL, packed) + _attribute(_IFA_ADDRESS, packed)

    def add_default_route(self, name: str, gateway: str) -> None:
        """Send everything that is not for a network of its own to a router.

        Args:
            name: The interface towards it.
            gateway: The router's IPv4 address.

        Raises:
            OSError: The kernel refuses.
        """
        body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0)
        body += _attribute(_RTA_OIF, struct.pack("=I", self._index(name)))
        body += _attribute(_RTA_GATEWAY, socket.inet_aton(gateway))
        self._request(_RTM_NEWROUTE, body, _NLM_F_CREATE | _NLM_F_EXCL)

    def set_up(self, name: str) -> None:
        """Set an interface up.

        Args:
            name: The interface.

        Raises:
            OSError: The kernel refuses.
        """
        self._request(_RTM_NEWLINK, _LINK.pack(socket.AF_UNSPEC, 0, self._index(name), _IFF_UP, _IFF_UP))

    def start_sending(self, name: str) -> None:
        """Let an interface send at once after its other end has been set up; what it sends before that is lost.

        The kernel would come to it by itself, up to a second later. It does so, too, when the length of the
        queue changes, of which a veth interface makes no use.

        Args:
            name: The interface; both ends are up.

        Raises:
            OSError: The kernel refuses.
        """
        body = _LINK.pack(socket.AF_UNSPEC, 0, self._index(name), 0, 0)
        self._request(_RTM_NEWLINK, body + _attribute(_IFLA_TXQLEN, struct.pack("=I", _QUEUE_LENGTH)))

    def turn_offloads_off(self, name: str) -> None:
        """Make packets on an interface what they would be on a cable: checksums filled in, no longer than the MTU.

        Args:
            name: The interface.

        Raises:
            OSError: The kernel refuses, or a feature is still on.
        """
        for feature, (get, put) in _OFFLOADS.items():
            self._ethtool(name, put, 0)
            if self._ethtool(name, get, 0):
                raise OSError(errno.EOPNOTSUPP, f"{feature} stays on")

    def _ethtool(self, name: str, command: int, value: int) -> int:
        setting = array.array("I", [command, value])
        pointer, _ = setting.buffer_info()
        fcntl.ioctl(self._plain, _SIOCETHTOOL, struct.pack("16sP16x", name.encode(), pointer))
        return setting[1]

    def _index(self, name: str) -> int:
        # socket.if_nametoindex asks where the process is now
        answer = fcntl.ioctl(self._plain, _SIOCGIFINDEX, struct.pack("16si20x", name.encode(), 0))
        index: int = struct.unpack_from("=i", answer, 16)[0]
        return index

    def _request(self, kind: int, body: bytes, flags: int = 0) -> None:
        self._sequence += 1
        flags |= _NLM_F_REQUEST | _NLM_F_ACK
        self._netlink.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, self._sequence, 0) + body)
        answer = self._netlink.recv(65_536)
        _, kind, _, sequence, _ = _HEADER.unpack_from(answer)
        if kind != _NLMSG_ERROR or sequence != self._sequence:
            raise OSError(errno.EPROTO, "an answer to another request")
        number: int = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if number:
            raise OSError(number, os.strerror(number))


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(-length % 4)
