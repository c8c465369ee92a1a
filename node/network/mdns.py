"""Peers on the same local network, by multicast DNS (optional)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio
from libp2p.discovery.events.peerDiscovery import peerDiscovery
from libp2p.discovery.mdns.mdns import MDNSDiscovery
from libp2p.peer.peerinfo import PeerInfo

from hypercluster.node.network.addresses import split_tcp
from hypercluster.node.network.budgets import OverBudget
from hypercluster.node.network.host import Host

log = logging.getLogger(__name__)

_FOUND = 64

Meet = Callable[[str, Sequence[str]], Awaitable[None]]


async def watch_network(host: Host, meet: Meet) -> None:
    """Announce `host` on the local network, and call `meet` with peer id and addresses of each other host.

    A network without multicast is reported and left alone. zeroconf blocks for seconds at its start and end,
    so it lives on threads.
    """
    send, receive = trio.open_memory_channel[PeerInfo](_FOUND)
    token = trio.lowlevel.current_trio_token()

    def offer(info: PeerInfo) -> None:
        try:
            send.send_nowait(info)
        except trio.WouldBlock:
            log.debug("too many peers on the local network at once")

    def found(info: PeerInfo) -> None:
        try:
            token.run_sync_soon(offer, info)
        except trio.RunFinishedError:
            log.debug("a peer was found after the end")

    async def meet_within(info: PeerInfo) -> None:
        peer = info.peer_id.to_base58()
        try:
            with host.within("neighbour", peer, ""):
                await meet(peer, [str(addr) for addr in info.addrs])
        except OverBudget as error:
            log.debug("%s is not met: %s", peer, error)

    peerDiscovery.register_peer_discovered_handler(found)
    service: MDNSDiscovery | None = None
    try:
        service = await trio.to_thread.run_sync(_start, host)
        async with trio.open_nursery() as nursery:
            async for info in receive:
                nursery.start_soon(meet_within, info)
    except OSError as error:
        log.warning("no peers from the local network, multicast DNS does not work here: %s", error)
    finally:
        peerDiscovery.unregister_peer_discovered_handler(found)
        if service is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_stop, service)


def _start(host: Host) -> MDNSDiscovery:
    port = split_tcp(host.addrs[0])[1] if host.addrs else 0
    service = MDNSDiscovery(host.basic.get_network(), port=port, listen_addrs=list(host.addrs))
    if host.addrs:
        service.broadcaster.register()
    return service


def _stop(service: MDNSDiscovery) -> None:
    service.broadcaster.unregister()
    service.listener.stop()
    service.zeroconf.close()
