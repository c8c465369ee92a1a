"""Whether shards of a model compute exactly what the model does, judged on its twin in a process with limits.

The twin is cut wherever it is asked for and run against the whole twin, bit by bit. Imports no llama.cpp here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from hypercluster.node.errors import NodeError
from hypercluster.node.shards.blueprint import blueprint_of
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.ranges import check_range
from hypercluster.node.shards.rules import rule_of
from hypercluster.node.shards.traits import traits_of_blueprint

MEMORY = 8 << 30  # bytes of addresses that the process may have
SECONDS = 600  # of the processor, and by the clock
MAX_OUTPUT = 1 << 20  # bytes of what it says

Edges = tuple[int, ...]


class Inexact(NodeError):
    """Shards of a model would not compute what the model does, or llama.cpp does not take them."""


@dataclass(frozen=True)
class Exactness:
    """`paths` of a model with `layers` layers that were found exact, each by its edges: 0, 3, 8 is 0:3,3:8."""

    architecture: str
    layers: int
    paths: tuple[Edges, ...]


def check_exactness(
    file: Path, path: Edges | None = None, progress: Callable[[int], None] | None = None
) -> Exactness:
    """Judge a model by its header: shards along `path`, or along paths over every layer where a range may begin.

    `progress` is called with 1 after each path. Raises Inexact with the layer and the reason, UnsupportedModel,
    MalformedFile, InvalidRange.
    """
    model, paths = blueprint_of(read_container(file)), paths_of(file, path)
    with TemporaryDirectory(prefix="hc-twin-") as folder:
        said = _run([str(file), folder, json.dumps(paths)], file, progress)
    for told in said:
        if "difference" in told and told["difference"] != 0:
            raise Inexact(
                f"{file}: shards would not compute what the model does. A range that begins at layer "
                f"{told['at']} differs by {told['difference']:g} in a logit of the model's twin; the layers up to it "
                "have to stay in one shard."
            )
    return Exactness(model.architecture, model.layers, tuple(map(tuple, paths)))


def paths_of(file: Path, path: Edges | None = None) -> list[Edges]:
    """The paths that are judged. Raises UnsupportedModel, MalformedFile, InvalidRange."""
    model = blueprint_of(read_container(file))
    rule_of(model.architecture)
    starts = traits_of_blueprint(model).starts
    if path is None:
        return paths_over(model.layers, starts)
    for start, stop in pairwise(path):
        check_range(model.layers, start, stop, starts)
    return [path]


def paths_over(layers: int, starts: Sequence[int] | None) -> list[Edges]:
    """Paths that cross every boundary: by shards as short as may be, and by long and uneven ones."""
    inner = [start for start in (range(layers) if starts is None else starts) if 0 < start < layers]
    if not inner:
        return [(0, layers)]
    half, third = inner[len(inner) // 2], inner[len(inner) // 3]
    wanted = [(0, *inner, layers), (0, half, layers), (0, inner[0], third, inner[-1], layers)]
    return list(dict.fromkeys(tuple(sorted(set(edges))) for edges in wanted))


def _run(
    arguments: list[str], file: Path, progress: Callable[[int], None] | None
) -> list[dict[str, float | int | str]]:
    """What the process found. Raises Inexact where it ended by itself, or refused."""
    command = [sys.executable, "-m", "hypercluster.node.engine.exactness", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Inexact(f"{file}: the model's twin did not come to an end within {SECONDS} s.") from error
    said = [json.loads(line) for line in done.stdout[:MAX_OUTPUT].splitlines() if line.startswith("{")]
    for told in said:
        if progress is not None and "difference" in told:
            progress(1)
    refusal = next((told["refused"] for told in said if "refused" in told), None)
    doing = next((told["doing"] for told in reversed(said) if "doing" in told), "loading its twin")
    if refusal is not None:
        raise Inexact(f"{file}: llama.cpp does not take the model's twin, {doing}: {refusal}")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1][-300:].rstrip(".")
        raise Inexact(
            f"{file}: llama.cpp broke down on the model's twin, {doing} (exit code {done.returncode}): {last}."
        )
    return said


def _main(file: Path, folder: Path, paths: Sequence[Sequence[int]]) -> int:
    """What runs in the process: a line of JSON for what is being done, and for each path."""
    from hypercluster.node.engine.twin_running import Runner

    def say(**told: object) -> None:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    limit()
    try:
        runner = Runner(file, folder, lambda doing: say(doing=doing))
        for edges in paths:
            difference, at = runner.difference(edges), edges[-2]
            if difference:  # at which of its edges?
                alone = ((edge, runner.difference((0, edge, edges[-1]))) for edge in edges[1:-1])
                at, difference = next(((edge, found) for edge, found in alone if found), (at, difference))
            say(difference=difference, at=at)
    except (NodeError, MemoryError, ValueError, KeyError, ArithmeticError) as error:
        say(refused=str(error) or f"{type(error).__name__}.")
    return 0


def limit(memory: int = MEMORY, seconds: int = SECONDS) -> None:
    """Bound this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    status = _main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
    sys.stdout.flush()
    os._exit(status)  # whatever llama.cpp's own destructors would do
