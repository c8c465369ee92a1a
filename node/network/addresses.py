"""Multiaddrs as text: what may be listened on, announced, joined through; the addresses behind a wildcard.

Everything that a person or a file names passes here before anything is loaded or dialled. Names are kept as
they are and looked up when they are dialled (names.py).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypercluster.node.errors import HostError, IdentityError
from hypercluster.node.identity import address_of_peer

MOST = 8
"""addresses a node tells others"""
_NUMERIC = ("ip4", "ip6")
_NAMED = ("dns", "dns4", "dns6")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_GOOD = "give one like /ip4/192.0.2.7/tcp/4001 or /dns4/node.example.org/tcp/4001"
_LIMITED = ipaddress.IPv4Address("255.255.255.255")
_NOWHERE = [ipaddress.ip_network("0.0.0.0/8"), ipaddress.ip_network("240.0.0.0/4")]


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address of the network; `str` gives it without the peer.

    `kind` is ip4, ip6, dns, dns4, dns6 or dnsaddr; the last one has no port (0) and stands for what its TXT
    records name. `peer` is empty where the text ended in no /p2p/.
    """

    kind: str
    host: str
    port: int
    peer: str = ""

    def __str__(self) -> str:
        return f"/{self.kind}/{self.host}" + ("" if self.kind == "dnsaddr" else f"/tcp/{self.port}")

    @property
    def whole(self) -> str:
        """The address with its peer, as others join through it."""
        return f"{self}/p2p/{self.peer}" if self.peer else str(self)

    @property
    def wildcard(self) -> bool:
        """Whether it stands for all addresses of a machine."""
        return self.kind in _NUMERIC and _plain(self.host).is_unspecified


def parse(text: str) -> Address:
    """The address in `text`; case of the protocols and slashes at the end do not matter.

    Raises HostError, which says what is wrong with it: no TCP address, no host name, no peer id of ours.
    """
    if not text.strip():
        raise HostError(f"An address is empty: {_GOOD}, or leave the option out.")
    shown = repr(text[:100])
    parts = text.strip().rstrip("/").split("/")
    kind = parts[1].lower() if len(parts) > 2 and not parts[0] else ""
    if kind not in (*_NUMERIC, *_NAMED, "dnsaddr"):
        raise HostError(f"{shown} is no address of a node: {_GOOD}.")
    host, rest = parts[2].lower(), parts[3:]
    port = 0
    if kind != "dnsaddr":
        if len(rest) < 2 or rest[0].lower() != "tcp":
            raise HostError(f"{shown} names no TCP port: {_GOOD}.")
        digits = rest[1].isascii() and rest[1].isdigit() and len(rest[1]) <= 5
        if not digits or int(rest[1]) >= 1 << 16:
            raise HostError(f"{shown} has no port between 0 and 65535: {_GOOD}.")
        port, rest = int(rest[1]), rest[2:]
    peer = ""
    if rest:
        if len(rest) != 2 or rest[0].lower() not in ("p2p", "ipfs"):
            raise HostError(f"{shown} goes on after its port with something else than /p2p/ and one peer id.")
        peer = rest[1]
        try:
            address_of_peer(peer)
        except IdentityError:
            raise HostError(
                f"{shown} ends in no peer id of this network: copy the address that the node prints."
            ) from None
    return Address(*_checked(kind, host, shown), port, peer)


def _checked(kind: str, host: str, shown: str) -> tuple[str, str]:
    """Kind and host, the host in its one form; an IP address that is given as a name becomes what it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if kind in _NUMERIC:
            raise HostError(f"{shown} holds no {kind} address: {_GOOD}.") from None
        name = host.removesuffix(".")
        if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
            raise HostError(f"{shown} holds no host name: {_GOOD}.") from None
        return kind, name
    if kind in _NUMERIC and kind != f"ip{address.version}":
        raise HostError(f"{shown} holds no {kind} address: write /ip{address.version}/.")
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id:
        raise HostError(f"{shown} holds for one interface of one machine only: {_GOOD}.")
    return f"ip{address.version}", str(address)


def listened(text: str, option: str = "--listen", *, node: str = "") -> str:
    """A numeric TCP address to listen on, port 0 for any, wildcards for all interfaces; without its peer.

    `node` is the address of the own key: the own peer id at the end is taken off. Raises HostError.
    """
    address = _own(parse(text), option, node)
    if address.kind not in _NUMERIC:
        raise HostError(
            f"{option} {text[:100]!r} is a name: listen on an address of this machine, such as "
            "/ip4/0.0.0.0/tcp/4001, and give the name with --announce."
        )
    if _plain(address.host).is_multicast or _plain(address.host) == _LIMITED:
        raise HostError(f"{option} {text[:100]!r} is an address of a group, which no node listens on.")
    return str(address)


def announced(text: str, option: str = "--announce", *, node: str = "") -> str:
    """A TCP address that others may dial, by number or name; without its peer.

    Raises HostError for what nobody can dial: wildcards, groups, port 0, the peer id of another node than
    `node` (the address of the own key, empty if unknown).
    """
    address = _own(parse(text), option, node)
    shown = f"{option} {text[:100]!r}"
    if address.kind == "dnsaddr":
        raise HostError(f"{shown} names no port: announce /dns4/, a name and /tcp/ with the port.")
    if address.port == 0:
        raise HostError(f"{shown} has port 0, which nobody can dial: give the port that others reach.")
    if address.kind in _NUMERIC:
        plain = _plain(address.host)
        why = (
            "stands for all addresses of a machine"
            if plain.is_unspecified
            else "is an address of a group"
            if plain.is_multicast or plain == _LIMITED
            else "holds within one network segment only"
            if plain.is_link_local
            else "is reserved"
            if any(plain in network for network in _NOWHERE)
            else ""
        )
        if why:
            raise HostError(f"{shown} {why} and nobody can dial it: give the address that others reach.")
    return str(address)


def _own(address: Address, option: str, node: str) -> Address:
    if address.peer and node and address_of_peer(address.peer) != node:
        raise HostError(
            f"{option} ends in the peer id {address.peer} of another node: "
            "give the address without /p2p/, the node adds its own id."
        )
    return replace(address, peer="")


def joined_through(text: str) -> Address:
    """An address to join the network through: with /p2p/, or /dnsaddr, whose records hold the peer.

    Raises HostError.
    """
    address = parse(text)
    if address.kind != "dnsaddr":
        announced(str(address), "--bootstrap")
        if not address.peer:
            raise HostError(
                f"--bootstrap {text[:100]!r} does not say who is there: it must end in /p2p/ and a peer id."
            )
    return address


def through(given: Sequence[str] | None, setting: Sequence[str]) -> tuple[str, ...]:
    """The addresses to join through: those `given` on the command line, else the `setting`'s, each once.

    Raises HostError for one that is malformed, and for an empty one: a variable that was empty must not make
    a node the first of a network of its own.
    """
    source = "--bootstrap" if given else "HC_BOOTSTRAP"
    texts = given or setting
    if any(not text.strip() for text in texts):
        raise HostError(
            f"{source} is empty: name a node to join through, or leave it out to be the first of a network."
        )
    return tuple(dict.fromkeys(joined_through(text).whole for text in texts))


def split_peer(address: str) -> tuple[str, str]:
    """The peer id at the end of a multiaddr ("" if there is none) and the address before it."""
    before, _, peer = address.partition("/p2p/")
    return peer, before


def split_tcp(address: str) -> tuple[str, int]:
    """Host and port of a multiaddr like /ip4/1.2.3.4/tcp/4001. Raises HostError for anything else."""
    parsed = parse(address)
    if parsed.kind == "dnsaddr" or parsed.peer:
        raise HostError(f"{address[:80]!r} is no TCP address: {_GOOD}.")
    return parsed.host, parsed.port


def join_tcp(host: str, port: int) -> str:
    """The multiaddr of a numeric host and a TCP port."""
    return f"/ip{6 if ':' in host else 4}/{host}/tcp/{port}"


def expand(address: str) -> list[str]:
    """The addresses others may dial for a listener on `address`: itself, or each interface's for a wildcard.

    The one with the route to the internet comes first. Loopback comes last, and is there so that nodes on one
    machine find each other.
    """
    parsed = parse(address)
    if not parsed.wildcard:
        return [address]
    ipv6 = parsed.kind == "ip6"
    hosts = dict.fromkeys([*_routed(ipv6=ipv6), *_interfaces(ipv6=ipv6)])
    return [
        join_tcp(host, parsed.port) for host in [*list(hosts)[: MOST - 1], "::1" if ipv6 else "127.0.0.1"]
    ]


def _routed(*, ipv6: bool) -> list[str]:
    """The address this machine would use to reach the internet, if it has a route; nothing is sent."""
    family, outside = (socket.AF_INET6, "2001:db8::1") if ipv6 else (socket.AF_INET, "192.0.2.1")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((outside, 9))
            own = str(probe.getsockname()[0])
    except OSError:
        return []
    return [own] if _of_interface(own) else []


def _interfaces(*, ipv6: bool) -> list[str]:
    import psutil  # type: ignore[import-untyped]

    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    return [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == family and _of_interface(address.address)
    ]


def _of_interface(host: str) -> bool:
    plain = ipaddress.ip_address(host)
    return not (plain.is_loopback or plain.is_link_local or plain.is_unspecified)


def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IP address, taken out of IPv6 where that only wraps one of IPv4."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
