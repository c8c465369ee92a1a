"""Layers from peers: several at once, each block checked, whoever lies or leaves."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hypercluster.node.errors import ConnectionLost, WireError
from hypercluster.node.network.host import Host, running_host
from hypercluster.node.network.steps import serve_steps
from hypercluster.node.pulling.asking import Whereabouts
from hypercluster.node.pulling.giving import Giver, Shelf, shelf_of
from hypercluster.node.pulling.layers import Layers
from hypercluster.node.pulling.taking import Network, take_layers, take_manifest, take_vocabulary
from hypercluster.node.shards import FetchFailed
from hypercluster.node.shards.container import Tensor
from hypercluster.node.shards.store import StoredModel, open_model
from hypercluster.node.wire.blocks import BLOCKS_PROTOCOL, BlocksAsked, decode_answer, encode_blocks
from hypercluster.node.wire.framing import Frames
from tests.node.helpers.random_models import Shape, write_random_model

PLENTY = 1e12
"""bytes a second"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredModel:
    """Four layers, with tensors of several blocks."""
    folder = tmp_path_factory.mktemp("peers")
    path = write_random_model(folder / "model.gguf", Shape(n_embd=256, n_ff=3072, n_vocab=2048))
    return open_model(path, folder / "home")


@pytest.fixture(scope="module")
def halves(stored: StoredModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[StoredModel, StoredModel]:
    """Two folders: one holds layers 0 and 1, the other 2 and 3; neither has the whole file."""
    found = []
    for start, stop in ((0, 2), (2, 4)):
        folder = tmp_path_factory.mktemp("half")
        shutil.copy(stored.shard(start, stop), folder)
        shutil.copy(stored.vocabulary(), folder)
        stored.manifest.save(folder / "manifest.json")
        found.append(StoredModel(stored.manifest, folder, None))
    return found[0], found[1]


@asynccontextmanager
async def giving(
    *shelves: Shelf, key: int, giver: Giver | None = None, direct: bool = True
) -> AsyncIterator[tuple[Host, Whereabouts]]:
    async with running_host(bytes([key]) * 32, ["/ip4/127.0.0.1/tcp/0"]) as host:
        host.class_of = lambda peer: 2
        others = (giver or Giver(shelves, PLENTY)).open_at(host)

        async def nobody(connection: object) -> None: ...

        address = await serve_steps(
            host, nobody, direct_listen="/ip4/127.0.0.1/tcp/0" if direct else "", others=others
        )
        yield host, Whereabouts(tuple(host.addrs), address)


def taken(
    network_of: Callable[[AsyncExitStack], Awaitable[dict[str, Whereabouts]]],
    take: Callable[[Network], Awaitable[object]],
    model_id: str,
    patience: float = 60.0,
) -> object:
    """What `take` makes of a network of those peers."""

    async def main() -> object:
        failure: Exception | None = None
        result: object = None
        async with AsyncExitStack() as stack:
            peers = await network_of(stack)
            async with running_host(bytes([9]) * 32) as host:
                try:
                    with trio.fail_after(120):
                        result = await take(Network(host, lambda: peers, model_id, patience))
                except Exception as error:  # noqa: BLE001 - raised again below, outside of the nurseries
                    failure = error
        if failure:
            raise failure
        return result

    return trio.run(main)


async def both(stack: AsyncExitStack, halves: tuple[StoredModel, StoredModel]) -> dict[str, Whereabouts]:
    peers = {}
    for number, (half, (start, stop)) in enumerate(zip(halves, ((0, 2), (2, 4)), strict=True), start=1):
        host, where = await stack.enter_async_context(
            giving(shelf_of(half, [(start, stop)]), key=number, direct=number == 1)
        )
        peers[host.peer] = where
    return peers


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (1, 3), (3, 4)])
def test_a_shard_out_of_two_others_is_the_one_that_the_whole_model_gives(
    stored: StoredModel, halves: tuple[StoredModel, StoredModel], tmp_path: Path, start: int, stop: int
) -> None:
    told: list[int] = []

    async def take(network: Network) -> None:
        manifest = await take_manifest(network, tmp_path)
        await take_vocabulary(network, manifest, tmp_path)
        layers = Layers(manifest, start, stop, tmp_path)
        await take_layers(network, layers, told.append)
        assert sum(told) == layers.copied

    taken(lambda stack: both(stack, halves), take, stored.manifest.model_id)
    here = StoredModel(stored.manifest, tmp_path, None)
    assert here.shard(start, stop).read_bytes() == stored.shard(start, stop).read_bytes()
    assert here.vocabulary().read_bytes() == stored.vocabulary().read_bytes()
    assert not [path.name for path in tmp_path.iterdir() if ".part" in path.name]


class _Liar(Giver):
    """Gives every block with its last byte changed."""

    async def _read(self, tensor: Tensor, index: int, buffer: bytearray) -> memoryview:
        found = await super()._read(tensor, index, buffer)
        found[-1] ^= 1
        return found


class _Leaver(Giver):
    """Hangs up in the middle of every answer with blocks, for the first three."""

    left = 3

    async def _give(self, shelf: Shelf, asked: BlocksAsked, answering: Frames) -> None:
        if asked.what == "blocks" and self.left:
            self.left -= 1
            await answering.send(b'{"size": 1048576, "refused": "", "wait": 0}')
            raise ConnectionLost("gone")
        await super()._give(shelf, asked, answering)


async def _taking(network: Network, stored: StoredModel, folder: Path) -> Path:
    return await take_layers(network, Layers(stored.manifest, 0, 2, folder), lambda _: None)


@pytest.mark.parametrize("kind", [_Liar, _Leaver])
def test_a_peer_that_lies_or_leaves_costs_nothing_but_time(
    stored: StoredModel, halves: tuple[StoredModel, StoredModel], tmp_path: Path, kind: type[Giver]
) -> None:
    shelf = shelf_of(halves[0], [(0, 2)])

    async def peers(stack: AsyncExitStack) -> dict[str, Whereabouts]:
        bad, there = await stack.enter_async_context(giving(key=1, giver=kind([shelf], PLENTY)))
        good, where = await stack.enter_async_context(giving(shelf, key=2))
        return {bad.peer: there, good.peer: where}

    path = taken(peers, lambda network: _taking(network, stored, tmp_path), stored.manifest.model_id)
    assert isinstance(path, Path)
    assert path.read_bytes() == stored.shard(0, 2).read_bytes()


def test_where_all_lie_nothing_is_kept_under_the_name(
    stored: StoredModel, halves: tuple[StoredModel, StoredModel], tmp_path: Path
) -> None:
    async def peers(stack: AsyncExitStack) -> dict[str, Whereabouts]:
        shelf = shelf_of(halves[0], [(0, 2)])
        bad, there = await stack.enter_async_context(giving(key=1, giver=_Liar([shelf], PLENTY)))
        return {bad.peer: there}

    with pytest.raises(FetchFailed, match=r"gives a wrong block of .*try again when more peers are there"):
        taken(peers, lambda network: _taking(network, stored, tmp_path), stored.manifest.model_id, patience=1)
    assert not (tmp_path / stored.shard_path(0, 2).name).exists()


def test_layers_that_nobody_has_are_named(
    stored: StoredModel, halves: tuple[StoredModel, StoredModel], tmp_path: Path
) -> None:
    async def peers(stack: AsyncExitStack) -> dict[str, Whereabouts]:
        other, where = await stack.enter_async_context(giving(shelf_of(halves[1], [(2, 4)]), key=1))
        return {other.peer: where}

    with pytest.raises(FetchFailed, match=r"Nobody gives token_embd\.weight"):
        taken(peers, lambda network: _taking(network, stored, tmp_path), stored.manifest.model_id, patience=1)


def test_what_came_before_is_not_fetched_again(
    stored: StoredModel, halves: tuple[StoredModel, StoredModel], tmp_path: Path
) -> None:
    first, second = (
        Giver([shelf_of(halves[0], [(0, 2)])], 4e6),
        Giver([shelf_of(halves[0], [(0, 2)])], PLENTY),
    )
    layers = Layers(stored.manifest, 0, 2, tmp_path)

    async def cut_short(network: Network) -> None:
        came = 0

        def told(size: int) -> None:
            nonlocal came
            came += size
            if came > 3 << 20:
                raise FetchFailed("enough")

        with pytest.raises(FetchFailed, match="enough"):
            await take_layers(network, layers, told)

    async def peers(stack: AsyncExitStack, giver: Giver) -> dict[str, Whereabouts]:
        host, where = await stack.enter_async_context(giving(key=1, giver=giver))
        return {host.peer: where}

    taken(lambda stack: peers(stack, first), cut_short, stored.manifest.model_id)
    taken(
        lambda stack: peers(stack, second),
        lambda network: take_layers(network, layers, lambda _: None),
        stored.manifest.model_id,
    )
    assert second.given <= layers.copied - (3 << 20)
    assert layers.path.read_bytes() == stored.shard(0, 2).read_bytes()


@pytest.mark.parametrize(
    "asked",
    [
        BlocksAsked("ab" * 32, "manifest"),
        BlocksAsked("", "blocks", "no.such.tensor", 0, 1),
        BlocksAsked("", "blocks", "token_embd.weight", 1 << 30, 1),
        BlocksAsked("", "hashes", "../../etc/passwd"),
    ],
)
def test_what_is_not_there_is_refused_and_the_conversation_goes_on(
    stored: StoredModel, asked: BlocksAsked
) -> None:
    question = replace(asked, model=asked.model or stored.manifest.model_id)

    async def main() -> None:
        async with (
            giving(shelf_of(stored, []), key=1) as (host, where),
            running_host(bytes([9]) * 32) as client,
        ):
            stream = await client.open_stream(host.peer, BLOCKS_PROTOCOL, where.addrs)
            frames = Frames(stream)
            await frames.send(encode_blocks(question))
            assert decode_answer(await frames.receive(30)).refused
            await frames.send(encode_blocks(BlocksAsked(stored.manifest.model_id, "held")))
            assert decode_answer(await frames.receive(30)).size
            await stream.reset()

    trio.run(main)


@pytest.mark.parametrize("wait", ["1" + "0" * 400, "-1", "1e999", "NaN", "3601", "true"])
def test_a_wait_that_is_none_is_refused(wait: str) -> None:
    raw = f'{{"size": 0, "refused": "Later.", "wait": {wait}}}'.encode()
    with pytest.raises(WireError, match="names no time to wait"):
        decode_answer(raw)
