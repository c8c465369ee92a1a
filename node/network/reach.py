"""Where a node listens, what it tells others, and through whom it joins: checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from hypercluster.node.errors import HostError, UnknownHost
from hypercluster.node.network.addresses import MOST, announced, listened, parse, through
from hypercluster.node.network.names import resolve

ANYWHERE = "/ip4/0.0.0.0/tcp/0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Multiaddrs of a node, without its peer id; `bootstrap` with those of others."""

    listen: tuple[str, ...]
    direct: str = ""
    """where steps arrive without a muxer; empty for libp2p streams alone"""
    announce: tuple[str, ...] = ()
    """told others instead of where it listens"""
    direct_announce: str = ""
    bootstrap: tuple[str, ...] = ()


def reach_of(
    *,
    node: str,
    listen: Sequence[str] | None,
    announce: Sequence[str] | None,
    bootstrap: Sequence[str] | None,
    setting: Sequence[str],
    direct: str | None = "off",
    direct_announce: str | None = None,
) -> Reach:
    """The addresses of a node as they were given on its command line.

    Args:
        node: the address of its key; a /p2p/ with this key's peer id is taken off, any other is refused.
        listen: any free port on all IPv4 interfaces if None or empty.
        setting: HC_BOOTSTRAP, for when `bootstrap` is not given.
        direct: "off" for none; None for a free port where it listens first.

    Raises:
        HostError: an address is malformed, or is one that nobody can dial, listen on or join through; the
            name of an announced one is not known.
    """
    where = tuple(listened(text, node=node) for text in listen or [ANYWHERE])
    told = tuple(dict.fromkeys(announced(text, node=node) for text in announce or ()))
    if len(told) > MOST:
        raise HostError(f"--announce names {len(told)} addresses; a node tells others {MOST} at most.")
    told_direct = ""
    if direct_announce is not None:
        told_direct = announced(direct_announce, "--announce-direct", node=node)
    if direct == "off":
        if told_direct:
            raise HostError("--announce-direct is of no use with --direct off: leave one of them out.")
        fast = ""
    elif direct is None:
        fast = where[0].rpartition("/")[0] + "/0"
    else:
        fast = listened(direct, "--direct", node=node)
    trio.run(_look_up, [*told, *filter(None, [told_direct])])
    return Reach(
        listen=where,
        direct=fast,
        announce=told,
        direct_announce=told_direct,
        bootstrap=through(bootstrap, setting),
    )


async def _look_up(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            await resolve(parse(text))
        except UnknownHost as error:
            raise HostError(
                f"Nobody could dial {text}: {error} Correct the name, or give the IP address."
            ) from None
