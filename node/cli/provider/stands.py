"""The shards that one `hc-provider run` serves: where each has its home and listens, and which layers it takes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.market.money.units import counted
from hypercluster.node.cli.console import err, fail
from hypercluster.node.cli.opening import at_hand, taken_to_serve
from hypercluster.node.cli.provider.placing import market_of, prospects
from hypercluster.node.errors import NodeError
from hypercluster.node.home import keys
from hypercluster.node.home.further import further_home, further_homes
from hypercluster.node.home.keys import Key
from hypercluster.node.home.last_run import LastRun
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.network.reach import Reach
    from hypercluster.node.provider.placing import Serving
    from hypercluster.node.provider.process import Ways
    from hypercluster.node.provider.readying import Readying
    from hypercluster.node.provider.terms import Moving
    from hypercluster.node.shards.store import StoredModel

AUTO = "auto"
_PORT = re.compile(r"(?<=/tcp/)\d+|(?<=:)\d+$")


@dataclass(frozen=True, slots=True)
class Asked:
    """A shard as it was asked for: its place among those of the provider, from 1, its model and layers as text."""

    number: int
    model: str | None
    layers: str


@dataclass(frozen=True, slots=True)
class Place:
    """What a shard is: its home, its model, layers [start, stop), and where it may move to."""

    number: int
    home: Path
    stored: StoredModel
    start: int
    stop: int
    move: Moving | None = None


def asked_for(model: str | None, layers: str, also: Sequence[str]) -> list[Asked]:
    """All shards of a command line; those of --also come as MODEL=LAYERS."""
    pairs = [each.rpartition("=") for each in also]
    return [
        Asked(1, model, layers),
        *(Asked(i, name, wanted) for i, (name, _, wanted) in enumerate(pairs, start=2)),
    ]


def homes_of(settings: Settings, asked: Sequence[Asked]) -> list[Path]:
    """The home of each shard. Fails where one is missing, or where their books would be one."""
    if len(asked) > 1 + len(further_homes(settings.home)):
        fail(
            f"{len(asked)} shards need a node key each: run hc-provider init --shards {len(asked)}, then hc-provider "
            "register."
        )
    if len(asked) > 1 and settings.ledger_url is not None:
        fail("each shard keeps books of its own: unset HC_LEDGER_URL, or run a provider for each shard.")
    return [further_home(settings.home, each.number) for each in asked]


def models_of(settings: Settings, chain: Chain, asked: Sequence[Asked]) -> list[StoredModel]:
    """The model of each shard, with the layers that were named for it looked at. Fails where one is not to be had."""
    from hypercluster.node.shards import parse_range

    found = []
    for each in asked:
        named = None if each.layers == AUTO else each.layers
        stored = taken_to_serve(each.model, named, settings, chain)
        if named is not None:
            parse_range(named, stored.manifest.layers)
        found.append(stored)
    return found


def places(
    settings: Settings,
    chain: Chain,
    asked: Sequence[Asked],
    opened: Sequence[StoredModel],
    serving: Serving,
    memory: int | None,
    prompt_tokens: float | None = None,
) -> list[Place]:
    """Which layers each shard takes, with the memory shared out by what was measured of each.

    Those whose layers are named come first; what is left goes to the others, in equal parts. `memory` is in bytes: of
    one shard alone for weights, of several in all, with their sessions. `prompt_tokens` are those for each token of an
    answer, where somebody said. Fails where it is not enough.
    """
    from hypercluster.node.engine.needs import measured
    from hypercluster.node.provider.placing import bytes_of, free_memory, load_of
    from hypercluster.node.provider.terms import Moving
    from hypercluster.node.shards import parse_range

    homes = homes_of(settings, asked)
    several = len(asked) > 1
    room = memory if several and memory is not None else free_memory(serving.backend)
    found: dict[int, Place] = {}
    needs: dict[int, int] = {}
    for each, home, stored in zip(asked, homes, opened, strict=True):
        if each.layers == AUTO:
            continue
        start, stop = parse_range(each.layers, stored.manifest.layers)
        found[each.number] = Place(each.number, home, stored, start, stop)
        if several:
            with err.status(f"Measuring what layers {start}:{stop} take"):
                needs[each.number] = bytes_of(measured(load_of(stored, start, stop, serving)))
    left, open_ = room - sum(needs.values()), len(asked) - len(found)
    if left < 0:
        sizes = " + ".join(f"{need / 2**30:.2f}" for need in needs.values())
        fail(
            f"the shards take {sizes} GiB with {counted(serving.sessions, 'session')} each, and "
            f"{room / 2**30:.2f} GiB may be used: serve fewer layers or --sessions, or give --memory."
        )
    for each, home, stored in zip(asked, homes, opened, strict=True):
        if each.layers != AUTO:
            continue
        beside = tuple(
            (place.start, place.stop)
            for place in found.values()
            if place.stored.manifest.model_id == stored.manifest.model_id
        )
        machine, size, ranked = prospects(
            settings,
            chain,
            stored,
            serving,
            None if several else memory,
            room=left // open_ if several else None,
            beside=beside,
            market=market_of(settings, prompt_tokens),
            wait=5.0,
        )
        best = ranked[0]
        move = Moving(machine=machine, model=size, beside=beside, prompt_tokens=prompt_tokens)
        found[each.number] = Place(each.number, home, stored, best.start, best.stop, move)
        if several:
            left -= int(size.need(best.start, best.stop))
            open_ -= 1
    return [found[each.number] for each in asked]


def settings_of(settings: Settings, home: Path) -> Settings:
    """The settings of the provider, for the home of one of its shards."""
    return settings.model_copy(update={"home": home})


def shifted(addresses: Sequence[str] | None, number: int) -> list[str] | None:
    """Addresses for the `number`th shard: each port so many above the first one's; a port that is free stays 0."""

    def move(address: str) -> str:
        return _PORT.sub(lambda port: str(int(port[0]) + number - 1 if int(port[0]) else 0), address)

    return None if addresses is None else [move(each) for each in addresses]


@dataclass(frozen=True, slots=True)
class Named:
    """The addresses of a command line, for the first shard."""

    listen: Sequence[str] | None
    direct: str | None
    announce: Sequence[str] | None
    announce_direct: str | None
    bootstrap: Sequence[str] | None


def reaches_of(
    settings: Settings, homes: Sequence[Path], lasts: Sequence[LastRun], named: Named
) -> list[Reach]:
    """Where each shard listens and is found: as named, else as the last time. Raises HostError."""
    from hypercluster.node.network.reach import reach_of

    return [
        reach_of(
            node=keys.address(home, Key.NODE),
            listen=shifted(named.listen, number) or last.listen,
            direct=_direct(named.direct, number) or (None if named.listen else last.direct or None),
            announce=shifted(named.announce, number),
            direct_announce=_direct(named.announce_direct, number),
            bootstrap=named.bootstrap,
            setting=settings.bootstrap,
        )
        for number, (home, last) in enumerate(zip(homes, lasts, strict=True), start=1)
    ]


def _direct(address: str | None, number: int) -> str | None:
    """The address of the fast listener of the `number`th shard."""
    moved = shifted([address] if address else None, number)
    return moved[0] if moved else None


def one_is_named(asked: Sequence[Asked]) -> bool:
    """Whether one shard is asked for, of which it is known which layers it has."""
    return len(asked) == 1 and asked[0].layers != AUTO


def begun_at_once(
    settings: Settings, asked: Sequence[Asked], serving: Serving, throttle: float, ways: Ways | None
) -> Readying | None:
    """The only shard that is asked for, which is being loaded from now on where its file is there; else None.

    Nothing is asked of the chain, nothing waited for, and nothing refused: `places` comes to what is wrong.
    """
    from hypercluster.node.shards import parse_range

    if not one_is_named(asked):
        return None
    try:
        stored = at_hand(asked[0].model, settings)
        if stored is None:
            return None
        start, stop = parse_range(asked[0].layers, stored.manifest.layers)
    except NodeError:
        return None
    here = stored.shard_path(start, stop).exists()
    return begun(stored, start, stop, serving, throttle, ways) if here else None


def begun(
    stored: StoredModel, start: int, stop: int, serving: Serving, throttle: float, ways: Ways | None
) -> Readying:
    """The shard of a place, which is being loaded from now on where its file is there."""
    from hypercluster.node.provider.readying import Loader, Readying

    loader = Loader(
        start=start,
        stop=stop,
        sessions=serving.sessions,
        session_tokens=serving.session_tokens,
        threads=serving.threads,
        backend=serving.backend,
        throttle_ms=throttle,
    )
    return Readying(stored, loader if ways is None else replace(loader, engine=ways.engine))
