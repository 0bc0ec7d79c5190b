"""Which network addresses a transfer may reach: checked at each connection, whatever name or redirect led there."""

import socket
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_NAT64 = ip_network("64:ff9b::/96")
_V4_COMPATIBLE = ip_network("::/96")
# What the standard library takes for public: site-local, translation to IPv4 inside a network, metadata of two clouds.
_INNER = tuple(map(ip_network, ("fec0::/10", "64:ff9b:1::/48", "::ffff:0:0:0/96", "192.0.0.0/24", "168.63.129.16/32")))


class AddressRefused(Exception):
    """`everywhere`: no site would connect there, so the URL is wrong; else this site's settings do not allow it."""

    def __init__(self, text: str, everywhere: bool) -> None:
        super().__init__(text)
        self.everywhere = everywhere


def check(text: str, allowed: Sequence[Network]) -> None:
    """Raises AddressRefused unless the address is public or in an allowed network."""
    try:
        address = _inner(ip_address(text.partition("%")[0]))
    except ValueError:
        raise AddressRefused(f"{text!r} is not a network address", everywhere=True) from None
    if any(address.version == net.version and address in net for net in allowed):
        return
    if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
        raise AddressRefused(f"the address {address} is no place of data", everywhere=True)
    if not address.is_global or any(address.version == net.version and address in net for net in _INNER):
        raise AddressRefused(f"the address {address} is not public, and this site does not allow it", everywhere=False)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to by one of the ways of transition, else the address itself."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner:
            return inner
        if address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1):
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class Guard:
    """`install` watches every connection of this process, for good. `refusal`: the first one that was refused.

    Libraries wrap what a hook raises in errors of their own, so the refusal is kept here too.
    """

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed = tuple(ip_network(text) for text in allowed)
        self.refusal: AddressRefused | None = None

    def install(self) -> None:
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            return
        try:
            self._check(args[0], args[1])
        except AddressRefused as refusal:
            self.refusal = self.refusal or refusal
            raise

    def _check(self, sock: object, target: object) -> None:
        if target is None:  # a message on a connection that was checked
            return
        if not isinstance(sock, socket.SocketType) or sock.family not in (socket.AF_INET, socket.AF_INET6):
            raise AddressRefused("only internet addresses are connected to", everywhere=True)
        if isinstance(target, tuple):
            check(str(target[0]), self._allowed)
