"""A model taken from peers into a home: manifest, vocabulary and a range of layers, each only if it is not there."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from filelock import FileLock

from hypercluster.node.home.settings import Settings
from hypercluster.node.pulling.finding import providers_of
from hypercluster.node.pulling.layers import Layers
from hypercluster.node.pulling.taking import Network, take_layers, take_manifest, take_vocabulary
from hypercluster.node.shards import Manifest
from hypercluster.node.shards.errors import FetchFailed
from hypercluster.node.shards.naming import Showing, unseen
from hypercluster.node.shards.ranges import parse_range
from hypercluster.node.shards.store import VOCABULARY, StoredModel, Taking, kept_model, model_folder

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""seconds without anybody who gives what is missing"""
VOCABULARY_PATIENCE = 5.0


def take(
    settings: Settings,
    chain: Chain | None,
    model_id: str,
    layers: str | None = None,
    showing: Showing = unseen,
    patience: float = PATIENCE,
) -> StoredModel:
    """A model in the home of the settings, with the shard of the range `layers`, "a:b", if one is named.

    Without layers it is what a client needs: the manifest and the vocabulary.

    Looks for peers only if something is missing. Raises FetchFailed, ShardError, InvalidRange.
    """
    folder = model_folder(settings.home, model_id)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", fallback_to_soft=False):
        stored = kept_model(model_id, settings.home)
        if stored is None or _missing(stored, layers):
            stored = trio.run(_take, settings, chain, model_id, layers, showing, patience)
    return replace(stored, taking=taking(settings, chain, stored.manifest, showing, patience))


def taking(
    settings: Settings,
    chain: Chain | None,
    manifest: Manifest,
    showing: Showing = unseen,
    patience: float = PATIENCE,
) -> Taking:
    """Takes further ranges of a model from its providers. Not for a thread in which trio runs."""

    async def fetched(start: int, stop: int, folder: Path) -> Path:
        failure: Exception | None = None
        async with providers_of(settings, chain, manifest.model_id, patience) as network:
            try:
                return await _take_layers(network, manifest, folder, (start, stop), showing)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the nurseries
                failure = error
        raise failure

    def take_range(start: int, stop: int, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", fallback_to_soft=False):
            return trio.run(fetched, start, stop, folder)

    return take_range


def _missing(stored: StoredModel, layers: str | None) -> bool:
    if layers is None:
        return not (stored.folder / VOCABULARY).exists()
    return not stored.shard_path(*parse_range(layers, stored.manifest.layers)).exists()


async def _take(
    settings: Settings,
    chain: Chain | None,
    model_id: str,
    layers: str | None,
    showing: Showing,
    patience: float,
) -> StoredModel:
    folder = model_folder(settings.home, model_id)
    failure: Exception | None = None
    async with providers_of(settings, chain, model_id, patience) as network:
        try:
            stored = kept_model(model_id, settings.home)
            manifest = stored.manifest if stored else await take_manifest(network, folder)
            if not (folder / VOCABULARY).exists():
                await _take_vocabulary(network, manifest, folder)
            if layers is not None:
                await _take_layers(network, manifest, folder, parse_range(layers, manifest.layers), showing)
        except Exception as error:  # noqa: BLE001 - raised below, outside of the nurseries
            failure = error
    if failure is not None:
        raise failure
    return StoredModel(manifest, folder, None)


async def _take_vocabulary(network: Network, manifest: Manifest, folder: Path) -> None:
    brief = Network(network.host, network.peers, network.model_id, VOCABULARY_PATIENCE)
    try:
        await take_vocabulary(brief, manifest, folder)
    except FetchFailed:
        # Some models have none; whoever needs one says so.
        log.info("no peer has a vocabulary of the model %s", manifest.model_id)


async def _take_layers(
    network: Network, manifest: Manifest, folder: Path, span: tuple[int, int], showing: Showing
) -> Path:
    layers = Layers(manifest, *span, folder)
    if layers.path.exists():
        return layers.path
    with showing(f"Layers {span[0]}:{span[1]} from peers", layers.copied) as progress:
        return await take_layers(network, layers, progress)
