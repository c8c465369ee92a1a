"""`hc-model`: look into model files, cut them into shards and check that the shards compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from hypercluster.node.cli.console import Json, err, print_json, say, show
from hypercluster.node.cli.model.checking import check, judge_on_twin, path_through
from hypercluster.node.cli.model.cutting import check_space, checked, cut, hashed, save_manifest
from hypercluster.node.cli.model.naming import list_
from hypercluster.node.cli.model.pulling import pull
from hypercluster.node.cli.model.signing import sign
from hypercluster.node.cli.model.views import description, overview, shown_size, sizes
from hypercluster.node.cli.model.wiring import wire
from hypercluster.node.cli.options import layer_range, whole
from hypercluster.node.cli.program import NetworkCommand, application, run
from hypercluster.node.cli.tables import Table
from hypercluster.node.errors import NodeError
from hypercluster.node.shards import parse_path, parse_range, partition, shard_bytes
from hypercluster.node.shards.container import Container
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.store import VOCABULARY
from hypercluster.node.shards.traits import traits_of
from hypercluster.node.shards.vocabulary import has_vocabulary, write_vocabulary

UNSPLIT = 3
"""exit code of `inspect` for what was shown and cannot be split"""

app = application("Look into GGUF models, cut them into shards, and check that the shards compute the same.")
app.command("list", cls=NetworkCommand)(list_)
app.command(cls=NetworkCommand)(pull)
app.command()(sign)

File = Annotated[
    Path,
    typer.Argument(
        help="A whole model as a GGUF file, or any piece of a split one.", metavar="FILE", show_default=False
    ),
]


@app.command()
def inspect(file: File, json_: Json = False) -> None:
    """Show what a model file holds, whether it can be split, and whether one can chat with it.

    Example: [bold]hc-model inspect llama.gguf[/]

    Reads only the header and the vocabulary, so it is quick on files of any size. Of a file that cannot be split the
    exit code is 3.
    """
    container = read_container(file)
    try:
        model, reason = checked(file), None
    except NodeError as error:
        model, reason = None, str(error)
    document = description(container, model, reason, _why_no_chat(container))
    show(document, lambda told: [overview(told), *([sizes(model)] if model else [])], json_)
    if model is None:
        raise typer.Exit(UNSPLIT)


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
    document, _ = hashed(checked(file))
    if output is None:
        print_json(document.document())
    else:
        document.save(output)
        say(f"model id {document.model_id}, written to {output}")


@app.command()
def split(
    file: File,
    folder: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for shards, manifest and vocabulary.")
    ],
    layers: Annotated[str | None, layer_range("One range to cut, as in 0:3.")] = None,
    ranges: Annotated[
        str | None, layer_range("All ranges, as in 0:3,3:6,6:8.", "--split", several=True)
    ] = None,
    parts: Annotated[
        int | None, whole("How many shards of about equal length to cut.", least=1, most=4096)
    ] = None,
    exact: Annotated[
        bool, typer.Option("--check/--no-check", help="Judge these shards on a twin of the model first.")
    ] = True,
    json_: Json = False,
) -> None:
    """Cut a model into shards that providers serve.

    Example: [bold]hc-model split llama.gguf --split 0:3,3:6,6:8 -o shards[/]

    Give one of --layers, --split and --parts. Ranges are half-open: 0:3 is layers 0, 1 and 2. The folder also
    gets manifest.json, which names the model for everyone, and vocab.gguf, which clients tokenize with.

    Nothing is written where these shards would not compute what the model does, as its twin shows in some seconds
    (hc-model check); --no-check leaves that out.
    """
    if sum(choice is not None for choice in (layers, ranges, parts)) != 1:
        raise typer.BadParameter("say what to cut with exactly one of --layers, --split and --parts")
    model = checked(file)
    starts = traits_of(model).starts
    if layers is not None:
        wanted = [parse_range(layers, model.blueprint.layers, starts)]
    elif ranges is not None:
        wanted = parse_path(ranges, model.blueprint.layers, starts)
    else:
        wanted = partition(model.blueprint.layers, parts or 0, starts)
    check_space(folder, sum(shard_bytes(model, start, stop) for start, stop in wanted))
    if exact:
        judge_on_twin(file, path_through(wanted, model.blueprint.layers, starts))
    document, hashes = hashed(model)
    save_manifest(document, hashes, folder)
    written = [
        {"layers": [start, stop], "path": str(path), "bytes": path.stat().st_size}
        for start, stop, path in cut(model, document, wanted, folder)
    ]
    vocabulary = None
    if has_vocabulary(model.file):
        vocabulary = str(write_vocabulary(file, folder / VOCABULARY, model_id=document.model_id))

    def view(_: object) -> Table:
        table = Table("layers", "size", "file", title=f"Model {document.model_id}")
        for (start, stop), row in zip(wanted, written, strict=True):
            table.row(f"{start}:{stop}", shown_size(int(str(row["bytes"]))), str(row["path"]))
        return table

    show({"model_id": document.model_id, "shards": written, "vocabulary": vocabulary}, view, json_)
    if vocabulary is None:
        say("The model has no vocabulary, so there is no vocab.gguf; clients must send token ids.", err)


app.command()(check)
app.command()(wire)


def _why_no_chat(file: Container) -> str | None:
    from hypercluster.node.engine.chat import Message
    from hypercluster.node.engine.rendering import Controls, render

    try:
        template = file.scalar("tokenizer.chat_template")
        render(str(template or ""), [Message("user", "Hello")], Controls(()))
    except NodeError as error:
        return str(error)
    return None


def main() -> NoReturn:
    """Entry point of hc-model."""
    run(app, "hc-model")
