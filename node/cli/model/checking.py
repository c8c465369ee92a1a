"""`hc-model check`: whether shards compute the same as the model, on its twin or with its own weights."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.node.cli.console import Json, fail, show
from hypercluster.node.cli.model.cutting import check_space, checked, cut, hashed
from hypercluster.node.cli.options import layer_range, prose, whole
from hypercluster.node.cli.progress import bar
from hypercluster.node.shards import ModelFile, parse_path, shard_bytes
from hypercluster.node.shards.blueprint import blueprint_of
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.traits import traits_of, traits_of_blueprint
from hypercluster.node.shards.vocabulary import has_vocabulary

if TYPE_CHECKING:
    from hypercluster.node.engine.exactness import Exactness


def check(
    file: Annotated[
        Path,
        typer.Argument(
            help="A model as a GGUF file, or any piece of a split one; without --split its header will do.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    ranges: Annotated[
        str | None, layer_range("The ranges of a path, as in 0:3,3:6,6:8.", "--split", several=True)
    ] = None,
    twin: Annotated[
        bool, typer.Option("--twin", help="With --split: judge the path on the twin instead.")
    ] = False,
    prompt: Annotated[str, prose("The text to continue.")] = "The quick brown fox jumps over the",
    tokens: Annotated[int, whole("How many tokens to generate.", least=1, most=10_000)] = 20,
    threads: Annotated[int, whole("Threads for llama.cpp.", least=1, most=1024)] = os.cpu_count() or 1,
    json_: Json = False,
) -> None:
    """Check that shards compute the same as the unsplit model.

    Example: [bold]hc-model check llama.gguf[/]
    Example: [bold]hc-model check llama.gguf --split 0:3,3:6,6:8 --prompt "Once upon a time"[/]

    Without --split it builds the twin of the model, with as many layers and the same switches but small and random,
    and cuts it wherever a range may begin: seconds, whatever the size of the model, and its weights are not needed.
    Every logit has to be the same, to the bit; if not, it names the layer.

    With --split it cuts the model itself into a temporary folder, continues the prompt greedily with both, and
    compares. The largest difference of any logit is 0.0 where both ran the same arithmetic, as they do on one machine.
    That needs free disk space for a copy of the model; with --twin the twin is judged along these ranges instead.

    Ends with exit code 1 where shards would not compute the same.
    """
    if twin or ranges is None:
        _on_twin(file, ranges, json_)
    else:
        _with_weights(file, ranges, prompt, tokens, threads, json_)


def judge_on_twin(file: Path, path: tuple[int, ...] | None) -> Exactness:
    """Judge a path by its edges, or all boundaries, under a progress bar. Raises as check_exactness."""
    from hypercluster.node.engine.exactness import check_exactness, paths_of

    with bar("Judging the twin", len(paths_of(file, path)), unit="paths") as told:
        return check_exactness(file, path, told)


def path_through(
    ranges: Sequence[tuple[int, int]], layers: int, starts: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The edges of the shortest path through a model that consists of these ranges and of what lies beside them."""
    inner = {edge for each in ranges for edge in each if starts is None or edge in starts}
    return tuple(sorted({0, *inner, layers}))


def _on_twin(file: Path, ranges: str | None, json_: bool) -> None:
    path = None
    if ranges is not None:
        blueprint = blueprint_of(read_container(file))
        wanted = parse_path(ranges, blueprint.layers, traits_of_blueprint(blueprint).starts)
        path = (0, *(stop for _, stop in wanted))
    result = judge_on_twin(file, path)
    inner = sorted({edge for edges in result.paths for edge in edges[1:-1]})

    def told_of(_: object) -> Iterator[str]:
        yield f"{result.architecture} with {result.layers} layers: shards of it are exact"
        shards = sum(len(edges) - 1 for edges in result.paths)
        yield f"paths run: {len(result.paths)}, with {shards} shards; layers where ranges began: {len(inner) + 1}"

    show({**asdict(result), "exact": True, "begins": [0, *inner]}, told_of, json_)


def _with_weights(file: Path, ranges: str, prompt: str, tokens: int, threads: int, json_: bool) -> None:
    from hypercluster.node.engine.equality import Shard, compare

    model = checked(file)
    wanted = parse_path(ranges, model.blueprint.layers, traits_of(model).starts)
    check_space(Path(tempfile.gettempdir()), sum(shard_bytes(model, start, stop) for start, stop in wanted))
    document, _ = hashed(model)
    with tempfile.TemporaryDirectory(prefix="hc-check-") as name:
        stages = []
        for start, stop, path in cut(model, document, wanted, Path(name)):
            stages.append(Shard(path, start == 0, stop == model.blueprint.layers))
        ids = prompt_ids(model, prompt)
        with bar("Comparing", tokens, unit="tokens") as told:
            result = compare(model.file.path, stages, ids, tokens, threads=threads, progress=told)

    def told_of(_: object) -> Iterator[str]:
        yield f"greedy ids equal: {'yes' if result.identical else 'no'}"
        yield f"maximum absolute logit difference: {result.max_difference}"
        yield f"{result.compared} steps compared, after a prompt of {len(ids)} tokens; ids {result.split}"

    head = {"model_id": document.model_id, "ranges": wanted, "identical": result.identical}
    show(head | asdict(result), told_of, json_)
    if not result.identical:
        raise typer.Exit(1)


def prompt_ids(model: ModelFile, prompt: str) -> list[int]:
    """The prompt's ids; its bytes stand in for them where the model has no vocabulary."""
    from hypercluster.node.engine.tokenizer import Tokenizer  # brings llama.cpp, which --help can do without

    if has_vocabulary(model.file):
        with Tokenizer(model.file.path) as tokenizer:
            ids = tokenizer.encode(prompt)
    else:
        ids = [byte % model.blueprint.n_vocab for byte in prompt.encode()]
    if not ids:
        fail("the prompt is empty; give some text with --prompt.")
    return ids
