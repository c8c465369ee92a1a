"""What the network says: whether it can be joined, what time it is there, and who serves the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hypercluster.node.cli.doctor.findings import Finding, ill, odd, unknown, well
from hypercluster.node.home.running import running_node

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.client.onlooking import Onlooker, Sought
    from hypercluster.node.home.settings import Settings
    from hypercluster.node.network.diagnosis import Facts

LOOK_SECONDS = 15.0


def joined(settings: Settings, chain: Chain | None, sought: Sought) -> Iterator[Finding]:
    """Join as somebody who only looks, and see."""
    import trio

    from hypercluster.node.client.onlooking import looking_on

    if not settings.bootstrap and not settings.mdns:
        yield unknown("network", "No node to join through is set.", "set HC_BOOTSTRAP or HC_PROFILE.")
        return

    async def look() -> list[Finding]:
        async with looking_on(settings, sought, chain) as onlooker:
            await onlooker.discovery.settle(LOOK_SECONDS, lambda: onlooker.discovery.complete)
            return [*_network(onlooker.discovery.facts()), *await _model(onlooker, sought)]

    yield from trio.run(look)


def _network(facts: Facts) -> Iterator[Finding]:
    from hypercluster.node.network.adverts import CLOCK_SKEW

    dead = [contact for contact in facts.contacts if contact.state == "failed"]
    for contact in dead:
        yield (odd if facts.peers else ill)(
            "bootstrap",
            f"{contact.address} cannot be joined through ({contact.trouble}).",
            "correct it, or wait.",
        )
    if facts.peers:
        yield well("network", f"{facts.peers} peers")
    if facts.clock_offset is None:
        return
    if abs(facts.clock_offset) > CLOCK_SKEW:
        side = "behind" if facts.clock_offset > 0 else "ahead of"
        yield ill(
            "clock",
            f"This clock is {abs(facts.clock_offset):.0f} s {side} those of {facts.clocks} peers.",
            "set it: timedatectl set-ntp true",
        )
    else:
        yield well("clock", f"within {abs(facts.clock_offset):.1f} s of {facts.clocks} peers")


async def _model(onlooker: Onlooker, sought: Sought) -> list[Finding]:
    from hypercluster.node.client.needs import AllBusy, NoRoute

    try:
        path = await onlooker.route()
    except (NoRoute, AllBusy) as error:
        return [odd("model", f"{sought.name}: {error}", "")]
    adverts = len(onlooker.adverts())
    return [well("model", f"{sought.name} is served by {adverts} providers; a path has {len(path.ids)} hops")]


def running(settings: Settings, program: str) -> Iterator[Finding]:
    """What a node that runs says of its network: only it can know whether others reach it."""
    node = running_node(settings.home)
    if node is None:
        yield unknown("reachability", "No node runs from this home, so nobody can dial it.", f"{program} run")
    elif node.notices:
        for notice in node.notices:
            yield odd("reachability", notice, "")
    else:
        yield well("reachability", f"runs as {node.peer}, without complaints of its network")
