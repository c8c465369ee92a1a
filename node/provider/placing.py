"""What this machine could serve: the memory it has, how fast it is, and how large the parts of a model are."""

from pathlib import Path

import psutil  # type: ignore[import-untyped]

from hypercluster.market.economics.placement import Machine, ModelSize
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.speed import measure
from hypercluster.node.shards import check_source
from hypercluster.node.shards.container import Tensor
from hypercluster.node.shards.store import StoredModel

MEASURED_TOKENS = 256
MEMORY_SHARE = 0.6
"""of the free memory may hold weights; sessions and the system need the rest"""


def free_memory() -> int:
    """Bytes of weights that this machine has room for now."""
    return int(MEMORY_SHARE * psutil.virtual_memory().available)


def model_size(source: Path) -> ModelSize:
    """Bytes of the parts of a whole model file. Raises ShardError."""
    model = check_source(source)
    head = model.embedding if model.tied else model.head
    return ModelSize(
        layer_bytes=[_bytes(layer) for layer in model.layers],
        shared_bytes=_bytes(model.shared),
        first_bytes=_bytes(model.embedding),
        last_bytes=_bytes(head),
    )


def measure_machine(stored: StoredModel, *, memory_bytes: int, threads: int) -> Machine:
    """Time one and two layers of the model on this machine: what a layer costs, and what a step costs besides.

    Raises:
        ModelMissing, ShardError: there is no whole model to cut the layers from.
    """
    layers = stored.manifest.layers
    one = _decode_ms(stored, 0, 1, threads)
    if layers == 1:
        return Machine(memory_bytes, one)
    layer_ms = max(_decode_ms(stored, 0, 2, threads) - one, 0.05 * one)
    return Machine(memory_bytes, layer_ms, overhead_ms=max(one - layer_ms, 0.0))


def _decode_ms(stored: StoredModel, start: int, stop: int, threads: int) -> float:
    shard = stored.shard(start, stop)
    last = stop == stored.manifest.layers
    with Engine(shard, start == 0, last, MEASURED_TOKENS, 1, threads) as engine:
        return measure(engine).decode_ms


def _bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.size for tensor in tensors.values())
