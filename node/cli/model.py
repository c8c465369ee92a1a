"""`hc-model`: look into model files, cut them into shards and check that the shards compute the same."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from hypercluster.node.cli.console import Json, err, fail, out, print_json
from hypercluster.node.cli.program import application, run
from hypercluster.node.cli.progress import bar
from hypercluster.node.errors import NodeError
from hypercluster.node.shards import (
    Manifest,
    ManifestMismatch,
    ModelFile,
    check_source,
    manifest_of,
    parse_path,
    parse_range,
    partition,
    shard_bytes,
)
from hypercluster.node.shards import split as write_shard
from hypercluster.node.shards.container import Container, Scalar
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.store import MANIFEST, VOCABULARY, shard_name
from hypercluster.node.shards.vocabulary import has_vocabulary, write_vocabulary

app = application("Look into GGUF models, cut them into shards, and check that the shards compute the same.")

File = Annotated[
    Path,
    typer.Argument(
        help="A whole model as a GGUF file, or any piece of a split one.", metavar="FILE", show_default=False
    ),
]


@app.command()
def inspect(file: File, json_: Json = False) -> None:
    """Show what a model file holds and whether it can be split.

    Example: [bold]hc-model inspect llama.gguf[/]

    Reads only the header and the vocabulary, so it is quick on files of any size.
    """
    container = read_container(file)
    try:
        model, reason = _checked(file), None
    except NodeError as error:
        model, reason = None, str(error)
    if json_:
        print_json(_description(container, model, reason))
        return
    out.print(_overview(container, model, reason))
    if model is not None:
        out.print(_sizes(model))


@app.command()
def manifest(
    file: File,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the manifest to this file.", show_default=False),
    ] = None,
) -> None:
    """Hash a model and print its manifest, which holds the model id.

    Example: [bold]hc-model manifest llama.gguf -o manifest.json[/]

    Whoever has the same model gets the same id: that is how providers and clients mean the same one.
    """
    document = _hash(_checked(file))
    if output is None:
        print_json(document.document())
    else:
        document.save(output)
        out.print(f"model id {document.model_id}, written to {output}", soft_wrap=True)


@app.command()
def split(
    file: File,
    folder: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for shards, manifest and vocabulary.")
    ],
    layers: Annotated[
        str | None, typer.Option(help="One range to cut, as in 0:3.", show_default=False)
    ] = None,
    ranges: Annotated[
        str | None, typer.Option("--split", help="All ranges, as in 0:3,3:6,6:8.", show_default=False)
    ] = None,
    parts: Annotated[
        int | None, typer.Option(help="How many shards of about equal length to cut.", show_default=False)
    ] = None,
    json_: Json = False,
) -> None:
    """Cut a model into shards that providers serve.

    Example: [bold]hc-model split llama.gguf --split 0:3,3:6,6:8 -o shards[/]

    Give one of --layers, --split and --parts. Ranges are half-open: 0:3 is layers 0, 1 and 2. The folder also
    gets manifest.json, which names the model for everyone, and vocab.gguf, which clients tokenize with.
    """
    model = _checked(file)
    if sum(choice is not None for choice in (layers, ranges, parts)) != 1:
        fail("say what to cut with exactly one of --layers, --split and --parts.")
    if layers is not None:
        wanted = [parse_range(layers, model.h.layers)]
    elif ranges is not None:
        wanted = parse_path(ranges, model.h.layers)
    else:
        wanted = partition(model.h.layers, parts or 0)
    _check_space(folder, sum(shard_bytes(model, start, stop) for start, stop in wanted))
    document = _hash(model)
    _save_manifest(document, folder / MANIFEST)
    written = [
        {"layers": [start, stop], "path": str(path), "bytes": path.stat().st_size}
        for start, stop, path in cut(model, document, wanted, folder)
    ]
    vocabulary = None
    if has_vocabulary(model.file):
        vocabulary = str(write_vocabulary(file, folder / VOCABULARY, model_id=document.model_id))
    if json_:
        print_json({"model_id": document.model_id, "shards": written, "vocabulary": vocabulary})
        return
    table = Table(title=f"Model {document.model_id}", title_justify="left")
    for heading in ("layers", "size", "file"):
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    for (start, stop), row in zip(wanted, written, strict=True):
        table.add_row(f"{start}:{stop}", _size(int(str(row["bytes"]))), escape(str(row["path"])))
    out.print(table)
    if vocabulary is None:
        err.print("The model has no vocabulary, so there is no vocab.gguf; clients must send token ids.")


@app.command()
def check(
    file: File,
    ranges: Annotated[str, typer.Option("--split", help="The ranges of the path, as in 0:3,3:6,6:8.")],
    prompt: Annotated[str, typer.Option(help="The text to continue.")] = "The quick brown fox jumps over the",
    tokens: Annotated[int, typer.Option(min=1, max=10_000, help="How many tokens to generate.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="Threads for llama.cpp.")] = os.cpu_count() or 1,
    json_: Json = False,
) -> None:
    """Check that shards compute the same as the unsplit model.

    Example: [bold]hc-model check llama.gguf --split 0:3,3:6,6:8 --prompt "Once upon a time"[/]

    Cuts the shards into a temporary folder, continues the prompt greedily with both, and compares. Ends with
    exit code 1 unless the token ids are equal. The largest difference of any logit is 0.0 where both ran the
    same arithmetic, as they do on one machine. Needs free disk space for a copy of the model.
    """
    from hypercluster.node.engine.equality import Stage, compare

    model = _checked(file)
    wanted = parse_path(ranges, model.h.layers)
    _check_space(Path(tempfile.gettempdir()), sum(shard_bytes(model, start, stop) for start, stop in wanted))
    document = _hash(model)
    with tempfile.TemporaryDirectory(prefix="hc-check-") as name:
        stages = []
        for start, stop, path in cut(model, document, wanted, Path(name)):
            stages.append(Stage(path, start == 0, stop == model.h.layers))
        ids = _prompt_ids(model, prompt)
        with bar("Comparing", tokens, unit="tokens") as told:
            result = compare(model.file.path, stages, ids, tokens, threads=threads, progress=told)
    if json_:
        print_json(
            {"model_id": document.model_id, "ranges": wanted, "identical": result.identical, **asdict(result)}
        )
    else:
        out.print(f"greedy ids equal: {'yes' if result.identical else 'no'}")
        out.print(f"maximum absolute logit difference: {result.max_difference}")
        out.print(
            f"{result.compared} steps compared, after a prompt of {len(ids)} tokens; ids {result.split}"
        )
    if not result.identical:
        raise typer.Exit(1)


def _prompt_ids(model: ModelFile, prompt: str) -> list[int]:
    """The prompt's ids; its bytes stand in for them where the model has no vocabulary."""
    from hypercluster.node.engine.tokenizer import Tokenizer  # brings llama.cpp, which --help can do without

    if has_vocabulary(model.file):
        with Tokenizer(model.file.path) as tokenizer:
            ids = tokenizer.encode(prompt)
    else:
        ids = [byte % model.h.n_vocab for byte in prompt.encode()]
    if not ids:
        fail("the prompt is empty; give some text with --prompt.")
    return ids


def cut(
    model: ModelFile, document: Manifest, ranges: list[tuple[int, int]], folder: Path
) -> Iterator[tuple[int, int, Path]]:
    """Write one shard per range into `folder` under a progress bar; yields start, stop and path."""
    source = model.file.path
    for start, stop in ranges:
        path = folder / shard_name(start, stop)
        with bar(
            f"Layers {start}:{stop}", 2 * shard_bytes(model, start, stop)
        ) as told:  # written and checked
            write_shard(source, start, stop, path, manifest=document, progress=told)
        yield start, stop, path


def _checked(file: Path) -> ModelFile:
    """The parts of a model that can be split, served and talked to; every command judges by this."""
    from hypercluster.node.engine.preflight import check_vocabulary_loads

    model = check_source(file)
    if has_vocabulary(model.file):
        check_vocabulary_loads(model.file.path)
    return model


def _hash(model: ModelFile) -> Manifest:
    with bar("Hashing", model.data_bytes) as told:
        return manifest_of(model, told)


def _save_manifest(document: Manifest, path: Path) -> None:
    if path.exists() and Manifest.load(path).model_id != document.model_id:
        raise ManifestMismatch(f"{path} belongs to another model; choose another folder or remove it.")
    document.save(path)


def _check_space(folder: Path, needed: int) -> None:
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        fail(f"the shards take {_size(needed)}, but {existing} has {_size(free)} left.")


def _description(file: Container, model: ModelFile | None, reason: str | None) -> dict[str, Any]:
    types: dict[str, dict[str, int]] = {}
    for tensor in file.tensors.values():
        row = types.setdefault(tensor.type.name, {"tensors": 0, "bytes": 0})
        row["tensors"] += 1
        row["bytes"] += tensor.size
    description: dict[str, Any] = {
        "path": str(file.path),
        "bytes": file.size,
        "architecture": _scalars(file).get("general.architecture"),
        "supported": model is not None,
        "reason": reason,
        "types": types,
        "metadata": {key: _plain(value) for key, value in _scalars(file).items()},
    }
    if model is not None:
        description |= {
            "layers": model.h.layers,
            "n_embd": model.h.n_embd,
            "n_vocab": model.h.n_vocab,
            "context": model.h.context,
            "tied": model.tied,
            "part_bytes": dict(_part_bytes(model)),
            "layer_bytes": [sum(tensor.size for tensor in layer.values()) for layer in model.layers],
        }
    return description


def _overview(file: Container, model: ModelFile | None, reason: str | None) -> Table:
    table = Table(title=escape(str(file.path)), title_justify="left", show_header=False)
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    description = _description(file, model, reason)
    verdict = "[green]yes[/]" if model is not None else f"[red]no[/]: {escape(reason or '')}"
    table.add_row("can be split", verdict)
    table.add_row("size", _size(description["bytes"]))
    for kind, row in description["types"].items():
        table.add_row(f"type {kind}", f"{row['tensors']} tensors, {_size(row['bytes'])}")
    for key, value in description["metadata"].items():
        table.add_row(_shown(key), _shown(value))
    return table


def _sizes(model: ModelFile) -> Table:
    table = Table(title="What a shard weighs", title_justify="left")
    table.add_column("part")
    table.add_column("size", justify="right")
    rows = _part_bytes(model)
    sizes = [sum(tensor.size for tensor in layer.values()) for layer in model.layers]
    first = 0
    for size, alike in groupby(sizes):
        stop = first + len(list(alike))
        rows.append((f"layers {first}:{stop}, each", size))
        first = stop
    for name, size in rows:
        table.add_row(name, _size(size))
    return table


def _part_bytes(model: ModelFile) -> list[tuple[str, int]]:
    parts = {"shared by all": model.shared, "embedding": model.embedding, "head": model.head}
    return [(name, sum(tensor.size for tensor in part.values())) for name, part in parts.items()]


def _scalars(file: Container) -> dict[str, Scalar | None]:
    return {key: file.scalar(key) for key, field in file.fields.items() if field.item is None}


def _shown(value: object) -> str:
    """A value from a file, safe for the terminal: one short line without control characters or markup."""
    text = "".join(letter if letter.isprintable() else "·" for letter in str(value)[:80])
    return escape(text if len(str(value)) <= 80 else f"{text}… ({len(str(value))} characters)")


def _plain(value: Scalar | None) -> Scalar | None:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _size(n: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if n < 1024:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} GiB"


def main() -> NoReturn:
    """Entry point of hc-model."""
    run(app, "hc-model")
