"""The models of benchmarks, and where these keep models, shards and networks between runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from random_model import LlamaShape, write_random_llama
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from hypercluster.node.shards.store import demo_model

SHAPES = {
    "1b": LlamaShape(),
    "3b": LlamaShape(layers=28, n_embd=3072, heads=24, kv_heads=8, n_ff=8192),
}


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Add --cache, a folder; by default one of this user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "hypercluster" / "bench"
    parser.add_argument("--cache", type=Path, default=cache, help=f"where models and shards stay ({cache})")


def model_file(name: str, cache: Path) -> Path:
    """The file of a model that is named as on the command line, written first if need be."""
    if name == "demo":
        return demo_model()
    shape = SHAPES.get(name)
    if shape is None:
        return Path(name)
    path = cache / f"random-{name}-q4_0.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            # A block of 32 weights takes 18 bytes.
            task = progress.add_task("Writing a model of random weights", total=shape.weights * 18 // 32)
            write_random_llama(path, shape, lambda done: progress.advance(task, done))
    return path
