"""Getting a model from peers: its manifest, its vocabulary, and the blocks of a range of layers, several at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from hypercluster.node.network.host import Host
from hypercluster.node.pulling.asking import Asker, Lied
from hypercluster.node.pulling.filling import Filling
from hypercluster.node.pulling.layers import Layers, Run, runs
from hypercluster.node.pulling.spreading import Peers, Spread
from hypercluster.node.shards import Manifest, check_vocabulary
from hypercluster.node.shards.blocks import HASH, block_count, checked_hashes
from hypercluster.node.shards.errors import ManifestError, ShardError
from hypercluster.node.shards.manifest import MAX_FILE
from hypercluster.node.shards.store import MANIFEST, VOCABULARY
from hypercluster.node.shards.writing import Progress, replacing
from hypercluster.node.wire.blocks import MOST_BLOCKS

MOST_VOCABULARY = 256 << 20
"""bytes of a vocabulary file"""


@dataclass(frozen=True, slots=True)
class _Whole:
    """Something that every peer of the model has, whatever its layers."""

    tensor: str = ""


@dataclass(frozen=True, slots=True)
class _Hashes:
    tensor: str


@dataclass(frozen=True, slots=True)
class Network:
    """Where to ask: a host, whom there is, the model wanted, and seconds without anybody before it is given up."""

    host: Host
    peers: Peers
    model_id: str
    patience: float = 60.0


async def take_manifest(network: Network, folder: Path) -> Manifest:
    """The manifest of the model, from whoever has it, kept in `folder`. Raises FetchFailed."""
    found: list[Manifest] = []

    async def take(asker: Asker, _: _Whole) -> None:
        raw = await asker.whole("manifest", MAX_FILE)
        try:
            manifest = await trio.to_thread.run_sync(Manifest.parse, raw, f"What {asker.peer} sent")
        except ManifestError as error:
            raise Lied(str(error)) from error
        if manifest.model_id != network.model_id:
            raise Lied(f"{asker.peer} sent the manifest of another model.")
        manifest.save(folder / MANIFEST)
        found.append(manifest)

    await _from_anybody(network, take)
    return found[0]


async def take_vocabulary(network: Network, manifest: Manifest, folder: Path) -> Path:
    """The vocabulary of the model, kept in `folder`. Raises FetchFailed: nobody has it, as where there is none."""
    path = folder / VOCABULARY

    async def take(asker: Asker, _: _Whole) -> None:
        raw = await asker.whole("vocabulary", MOST_VOCABULARY)
        await trio.to_thread.run_sync(_keep_vocabulary, raw, manifest, path, asker.peer)

    await _from_anybody(network, take)
    return path


def _keep_vocabulary(raw: bytes, manifest: Manifest, path: Path, peer: str) -> None:
    """Write a vocabulary that is the model's. Raises Lied, WriteFailed."""
    with replacing(path) as file:
        file.write(raw)
        file.flush()
        try:
            check_vocabulary(
                Path(file.name),
                architecture=manifest.architecture,
                n_vocab=manifest.n_vocab,
                digest=manifest.tokenizer,
            )
        except ShardError as error:
            raise Lied(f"{peer} sent another vocabulary than the model's ({error})") from error


async def take_layers(network: Network, layers: Layers, progress: Progress) -> Path:
    """The shard of a range of layers, from several peers at once; what came before is not fetched again.

    `progress` is told of the bytes that are there. Raises FetchFailed, ShardError.
    """
    hashes: dict[str, bytes] = {}

    async def take_hashes(asker: Asker, job: _Hashes) -> None:
        most = HASH * block_count(layers.manifest.tensors[job.tensor].size)
        raw = await asker.whole("hashes", most, job.tensor)
        try:
            hashes[job.tensor] = checked_hashes(layers.manifest, job.tensor, raw, asker.peer)
        except ManifestError as error:
            raise Lied(str(error)) from error

    wanted = [_Hashes(name) for name in layers.sources()]
    await Spread(network.host, network.peers, network.model_id, wanted, take_hashes, network.patience).run()
    filling, origins = await trio.to_thread.run_sync(layers.filling, hashes)
    with filling:
        filling.check_room()
        progress(sum(block.size for block in filling.blocks) - filling.bytes_missing)
        take = partial(_take_run, filling, progress)
        missing = list(runs(filling, origins, MOST_BLOCKS))
        await Spread(network.host, network.peers, network.model_id, missing, take, network.patience).run()
        return await trio.to_thread.run_sync(layers.finish, filling)


async def _take_run(filling: Filling, progress: Progress, asker: Asker, run: Run) -> None:
    wanted = [index for index in run.indices if not filling.has(index)]
    if not wanted:
        return
    first = run.first + wanted[0] - run.indices[0]
    sizes = [filling.blocks[index].size for index in wanted]
    numbers = iter(wanted)
    async with aclosing(asker.blocks(run.tensor, first, sizes)) as blocks:
        async for block in blocks:
            if not await trio.to_thread.run_sync(filling.put, next(numbers), block):
                raise Lied(f"{asker.peer} gives a wrong block of {run.tensor}.")
            progress(len(block))


async def _from_anybody(network: Network, take: Callable[[Asker, _Whole], Awaitable[None]]) -> None:
    await Spread(network.host, network.peers, network.model_id, [_Whole()], take, network.patience).run()
