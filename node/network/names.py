"""Names in multiaddrs, looked up when they are dialled: the host's own resolver, and TXT records for /dnsaddr."""

from __future__ import annotations

import socket
from dataclasses import replace

import trio

from hypercluster.node.errors import HostError, UnknownHost
from hypercluster.node.network.addresses import Address, parse

SECONDS = 3.0
"""how long one name may take"""
_DEPTH = 3
"""records that point on to other records"""
_FAMILY = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}
_RECORD = "dnsaddr="


async def resolve(address: Address, depth: int = _DEPTH) -> list[Address]:
    """The numeric addresses behind `address`, itself if it is one; at least one, at most eight.

    /dns, /dns4 and /dns6 ask what every program asks, /etc/hosts included; /dnsaddr reads TXT records and
    keeps those of the wanted peer. Raises UnknownHost.
    """
    if address.kind in ("ip4", "ip6"):
        return [address]
    found: list[Address] = []
    try:
        with trio.fail_after(SECONDS):
            found = await (_records(address, depth) if address.kind == "dnsaddr" else _hosts(address))
    except trio.TooSlowError:
        raise UnknownHost(f"{address.host} was not looked up in {SECONDS:g} s: does DNS work here?") from None
    if not found:
        raise UnknownHost(f"{address.host} has no address of that kind.")
    return list(dict.fromkeys(found))[:8]


async def _hosts(address: Address) -> list[Address]:
    family = _FAMILY[address.kind]
    try:
        rows = await trio.socket.getaddrinfo(
            address.host, address.port, family=family, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise UnknownHost(f"{address.host} is not known here ({reason}).") from None
    hosts = [str(row[4][0]) for row in rows]
    return [replace(address, kind="ip6" if ":" in host else "ip4", host=host) for host in hosts]


async def _records(address: Address, depth: int) -> list[Address]:
    import dns.asyncresolver
    import dns.exception

    if depth == 0:
        raise UnknownHost(f"The records of {address.host} point on and on.")
    try:
        answer = await dns.asyncresolver.resolve(f"_dnsaddr.{address.host}", "TXT", lifetime=SECONDS)
    except dns.exception.DNSException as error:
        raise UnknownHost(f"{address.host} has no record for /dnsaddr ({type(error).__name__}).") from None
    found: list[Address] = []
    for row in answer:
        text = b"".join(row.strings).decode(errors="replace")
        if not text.startswith(_RECORD):
            continue
        try:
            named = parse(text.removeprefix(_RECORD))
            if not named.peer and named.kind != "dnsaddr":
                continue
            if address.peer and named.peer not in ("", address.peer):
                continue
            found += await resolve(replace(named, peer=named.peer or address.peer), depth - 1)
        except HostError:
            # One bad record of somebody else's must not hide the others.
            continue
    return found
