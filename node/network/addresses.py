"""Multiaddrs as text: taking off the peer, and the addresses behind a wildcard."""

from __future__ import annotations

import ipaddress
import socket

from hypercluster.node.errors import HostError


def split_peer(address: str) -> tuple[str, str]:
    """The peer id at the end of a multiaddr ("" if there is none) and the address before it."""
    before, _, peer = address.partition("/p2p/")
    return peer, before


def split_tcp(address: str) -> tuple[str, int]:
    """Host and port of a multiaddr like /ip4/1.2.3.4/tcp/4001. Raises HostError for anything else."""
    parts = address.split("/")
    try:
        empty, kind, host, tcp, port = parts
        if empty or kind not in ("ip4", "ip6", "dns", "dns4", "dns6") or tcp != "tcp" or not host:
            raise ValueError
        if kind.startswith("ip"):
            ipaddress.ip_address(host)
        if not 0 <= int(port) < 1 << 16:
            raise ValueError
        return host, int(port)
    except ValueError:
        raise HostError(
            f"{address[:80]!r} is no TCP address: give one like /ip4/127.0.0.1/tcp/4001."
        ) from None


def join_tcp(host: str, port: int) -> str:
    """The multiaddr of a numeric host and a TCP port."""
    return f"/ip{6 if ':' in host else 4}/{host}/tcp/{port}"


def expand(address: str) -> list[str]:
    """The addresses others may dial for a listener on `address`: itself, or each interface's for a wildcard.

    Loopback comes last, and is there so that nodes on one machine find each other.
    """
    host, port = split_tcp(address)
    if host not in ("0.0.0.0", "::"):  # noqa: S104
        return [address]
    return [
        join_tcp(own, port)
        for own in [*_own_addresses(ipv6=host == "::"), "::1" if host == "::" else "127.0.0.1"]
    ]


def _own_addresses(*, ipv6: bool) -> list[str]:
    """The address this machine would use to reach the internet, if it has a route; nothing is sent."""
    family, outside = (socket.AF_INET6, "2001:db8::1") if ipv6 else (socket.AF_INET, "192.0.2.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((outside, 9))
        except OSError:
            return []
        own = str(probe.getsockname()[0])
    return [] if ipaddress.ip_address(own).is_loopback else [own]
