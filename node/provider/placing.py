"""What this machine could serve: the memory it has, how fast it is, and how large the parts of a model are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import psutil  # type: ignore[import-untyped]

from hypercluster.market.economics.placement import Machine, ModelSize
from hypercluster.node.engine.devices import accelerators, free_card_bytes
from hypercluster.node.engine.needs import Load, Needs, measured
from hypercluster.node.engine.profile import Backend
from hypercluster.node.shards import Manifest
from hypercluster.node.shards.lines import TensorLine
from hypercluster.node.shards.store import StoredModel

MEMORY_SHARE = 0.85
"""of the free memory may be used; the system and the rest of the program need what remains"""
MOST_KINDS = 4
"""kinds of layers that are timed; what further ones cost is told from the bytes that a token reads of them"""
PLAIN = Backend()
_EXPERTS = "_exps."
"""in the names of tensors that hold one part for each expert"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How shards would be served: so many sessions of so many tokens, with these threads and cards."""

    sessions: int = 4
    session_tokens: int = 2048
    threads: int = 1
    backend: Backend = field(default_factory=Backend)


def free_memory(backend: Backend = PLAIN) -> int:
    """Bytes that shards and their sessions may take now: of the cards where they compute all, else of the machine."""
    cards = free_card_bytes() if backend.gpu_layers and accelerators() else 0
    own = 0 if cards and backend.gpu_layers < 0 else psutil.virtual_memory().available
    return int(MEMORY_SHARE * (cards + own))


def load_of(stored: StoredModel, start: int, stop: int, serving: Serving) -> Load:
    """The shard of layers [start, stop), cut if need be, as it would be served. Raises ModelMissing, ShardError."""
    return Load(
        shard=stored.shard(start, stop),
        first=start == 0,
        last=stop == stored.manifest.layers,
        sessions=serving.sessions,
        session_tokens=min(serving.session_tokens, stored.manifest.context),
        threads=serving.threads,
        backend=serving.backend,
    )


def bytes_of(needs: Needs) -> int:
    """Of what is scarce: a card's memory where the shard is on one, else the machine's."""
    return needs.card_bytes or needs.memory_bytes


Tensors = Mapping[str, TensorLine]


def model_size(manifest: Manifest) -> ModelSize:
    """Bytes of the parts of a whole model, and what layers cost by what a token reads of them."""
    parts = parts_of(manifest)
    layers = [parts[str(number)] for number in range(manifest.layers)]
    read = [bytes_read(manifest, layer) for layer in layers]
    usual = Counter(read).most_common(1)[0][0]
    # the embedding of a tied model is the matrix of its head as well
    last = _bytes(parts["head"]) + (manifest.tensors["token_embd.weight"].size if manifest.tied else 0)
    return ModelSize(
        layer_bytes=[_bytes(layer) for layer in layers],
        shared_bytes=_bytes(parts["shared"]),
        first_bytes=_bytes(parts["embedding"]),
        last_bytes=last,
        layer_costs=[each / usual for each in read],
        last_cost=last / usual,
        starts=manifest.starts,
    )


def parts_of(manifest: Manifest) -> dict[str, Tensors]:
    """The tensors of each part of a model by their names; a layer's is its number."""
    parts: dict[str, dict[str, TensorLine]] = {name: {} for name in manifest.digests()}
    for name, line in manifest.tensors.items():
        parts[line.part][name.removeprefix(f"blk.{line.part}.")] = line
    return dict(parts)


def measure_machine(
    stored: StoredModel, serving: Serving, memory: int | None, room: int | None = None
) -> tuple[Machine, ModelSize]:
    """Load and time a layer of each kind, and two of the most usual kind, on this machine as it would serve them.

    With `memory`, bytes for weights, sessions need no room of their own; without, weights and sessions share `room`,
    or what is free.

    Raises:
        ModelMissing, ShardError, FetchFailed: there is no whole model to cut the layers from, and nobody gives them.
        LoadFailed: llama.cpp loads none of them.
    """
    manifest, parts = stored.manifest, parts_of(stored.manifest)
    size = model_size(manifest)
    may_start = set(size.starts or range(manifest.layers))
    kinds = [_kind(parts[str(number)]) for number in range(manifest.layers)]
    samples = {kind: i for i, kind in reversed([*enumerate(kinds)]) if i in may_start}
    timed = [kind for kind, _ in Counter(kinds).most_common() if kind in samples][:MOST_KINDS]

    def take(start: int, stop: int) -> Needs:
        return measured(load_of(stored, start, stop, serving))

    usual = samples[timed[0]]
    one = take(usual, usual + 1)
    pair = next((i for i in sorted(may_start) if kinds[i : i + 2] == [timed[0]] * 2), None)
    two = take(pair, pair + 2) if pair is not None else None
    layer_ms = max(two.decode_ms - one.decode_ms, 0.05 * one.decode_ms) if two else one.decode_ms
    overhead_ms = max(one.decode_ms - layer_ms, 0.0)
    costs = {timed[0]: 1.0}
    for kind in timed[1:]:
        alone = take(samples[kind], samples[kind] + 1).decode_ms
        costs[kind] = max(alone - overhead_ms, 0.05 * alone) / layer_ms
    told = zip(kinds, size.layer_costs, strict=True)
    size = replace(size, layer_costs=[costs.get(kind, read / size.layer_costs[usual]) for kind, read in told])
    if memory is not None:
        return Machine(memory, layer_ms, overhead_ms), size
    # What the sessions of a layer take is what two layers take more than one, without the second one's weights.
    layer = size.layer_bytes[usual]
    each = max(0, bytes_of(two) - bytes_of(one) - layer) if two else 0
    besides = max(0, bytes_of(one) - layer - each)
    machine = Machine(free_memory(serving.backend) if room is None else room, layer_ms, overhead_ms)
    return machine, replace(
        size, layer_bytes=[held + each for held in size.layer_bytes], shared_bytes=size.shared_bytes + besides
    )


def bytes_read(model: Manifest, layer: Tensors) -> int:
    """Bytes of a layer's weights that a generated token needs: of experts only those that are chosen for it."""
    experts, used = (_most(model, key) for key in ("expert_count", "expert_used_count"))
    used = min(experts, used)
    return sum(
        tensor.size * used // experts if experts and _EXPERTS in name else tensor.size
        for name, tensor in layer.items()
    )


def _most(model: Manifest, key: str) -> int:
    """A number of a model, the largest of a list with one for each layer, 0 where there is none."""
    value = model.blueprint.value(key)
    return max(
        (each for each in (value if isinstance(value, list) else [value]) if type(each) is int), default=0
    )


def _kind(layer: Tensors) -> tuple[object, ...]:
    """The same for layers that are as large and as fast as each other."""
    return tuple(sorted((name, tensor.type, tensor.shape) for name, tensor in layer.items()))


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.size for tensor in tensors.values())
