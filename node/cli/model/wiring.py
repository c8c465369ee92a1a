"""`hc-model wire`: what a model loses where its rows travel in fewer bytes, and whether providers may offer that."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hypercluster.node.cli.console import Json, fail, show
from hypercluster.node.cli.model.checking import prompt_ids
from hypercluster.node.cli.model.cutting import check_space, checked, cut, hashed
from hypercluster.node.cli.options import check_writable, whole
from hypercluster.node.cli.progress import bar
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards import partition, shard_bytes
from hypercluster.node.shards.certificate import LEAST_TOKENS, Certificate, Figures
from hypercluster.node.shards.store import model_folder
from hypercluster.node.shards.traits import traits_of

if TYPE_CHECKING:
    from hypercluster.node.engine.fidelity import Reading
    from hypercluster.node.rows import WireDtype
    from hypercluster.node.shards import Manifest, ModelFile

PARTS = (2, 4, 8)
"""into which a model is cut, where it has so many"""
BYTES_A_TOKEN = 16
"""of a text that are read at most"""


def wire(
    file: Annotated[
        Path,
        typer.Argument(
            help="A whole model as a GGUF file, or any piece of a split one.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    text: Annotated[Path, typer.Option(help="A text to read, of the kind that the model is for.")],
    tokens: Annotated[int, whole("Tokens of it to read at most.", least=LEAST_TOKENS, most=10**6)] = 4096,
    threads: Annotated[int, whole("Threads for llama.cpp.", least=1, most=1024)] = os.cpu_count() or 1,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the model's manifest, to keep the figures in. Default: that of this home.",
            show_default=False,
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Measure what a model loses where its rows travel as f16 or q8 instead of f32.

    Example: [bold]hc-model wire llama.gguf --text book.txt[/]

    It reads the text through the model cut into 2, 4 and 8 parts, and tells how often the likeliest next token is that
    of f32, and the perplexity. The figures are kept beside the manifest: providers offer q8 for a model only where they
    say that it does no harm, and clients with --dtype auto ask for it only then.

    Reading takes about as long as a prompt of so many tokens, seven times over, and disk space for a copy of the model.
    """
    check_writable("--output", output, folder=True)
    model = checked(file)
    ids = _read(model, text, tokens)
    document, _ = hashed(model)
    certificate = _measured(model, document, ids, threads)
    path = certificate.save(output or model_folder(Settings().home, document.model_id))
    certified = sorted(certificate.certified)

    def view(_: object) -> Iterator[Table | str]:
        table = Table(
            "type", "cuts", "same token", "perplexity", "of f32", title=f"{len(ids)} tokens of {text}"
        )
        for each in certificate.figures:
            table.row(
                each.dtype,
                str(each.cuts),
                f"{each.agreement:.4f}",
                f"{each.perplexity:.4f}",
                f"{each.perplexity / each.plain:.5f}",
            )
        yield table
        yield f"without harm: {', '.join(certified) or 'none'}; written to {path}"

    figures = [asdict(each) | {"harmless": each.harmless} for each in certificate.figures]
    told = {"model_id": document.model_id, "figures": figures, "certified": certified, "path": str(path)}
    show(told, view, json_)


def _read(model: ModelFile, text: Path, tokens: int) -> list[int]:
    try:
        with text.open("rb") as file:
            data = file.read(BYTES_A_TOKEN * tokens)
    except OSError as error:
        fail(f"{text} cannot be read: {error.strerror}.")
    ids = prompt_ids(model, data.decode("utf-8", "replace"))[:tokens]
    if len(ids) < LEAST_TOKENS:
        fail(f"{text} has {len(ids)} tokens for this model; figures need {LEAST_TOKENS} at least.")
    return ids


def _measured(model: ModelFile, document: Manifest, ids: list[int], threads: int) -> Certificate:
    """The figures of f16 and q8, under a progress bar."""
    from hypercluster.node.rows import WireDtype

    layers, starts = model.blueprint.layers, traits_of(model).starts
    parts = [each for each in PARTS if each <= (layers if starts is None else len(starts))]
    dtypes = [each for each in (WireDtype.F16, WireDtype.Q8) if each.fits(document.width)]
    figures = []
    check_space(Path(tempfile.gettempdir()), shard_bytes(model, 0, layers))
    plain = _through(model, document, [(0, layers)], ids, [WireDtype.F32], threads)[0]
    for each in parts:
        readings = _through(model, document, partition(layers, each, starts), ids, dtypes, threads)
        for dtype, reading in zip(dtypes, readings, strict=True):
            figures.append(
                Figures(
                    dtype=dtype.name.lower(),
                    cuts=each - 1,
                    tokens=len(ids),
                    agreement=reading.agreement(plain),
                    perplexity=reading.perplexity,
                    plain=plain.perplexity,
                )
            )
    if not figures:
        fail("this model cannot be cut, so no rows of it travel.")
    return Certificate(document.model_id, tuple(figures))


def _through(
    model: ModelFile,
    document: Manifest,
    ranges: list[tuple[int, int]],
    ids: list[int],
    dtypes: list[WireDtype],
    threads: int,
) -> list[Reading]:
    """The text read through these ranges, once for each type."""
    from hypercluster.node.engine.equality import Shard
    from hypercluster.node.engine.fidelity import WINDOW, read

    window = min(WINDOW, model.blueprint.context)
    with tempfile.TemporaryDirectory(prefix="hc-wire-") as name:
        stages = [
            Shard(path, start == 0, stop == model.blueprint.layers)
            for start, stop, path in cut(model, document, ranges, Path(name))
        ]
        readings = []
        for dtype in dtypes:
            with bar(f"{len(ranges)} parts, {dtype.name.lower()}", len(ids), unit="tokens") as told:
                readings.append(read(stages, ids, dtype, threads=threads, window=window, progress=told))
        return readings
