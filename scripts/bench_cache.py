"""Where benchmarks keep models, shards and networks between runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Add --cache, a folder; by default one of this user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "hypercluster" / "bench"
    parser.add_argument("--cache", type=Path, default=cache, help=f"where models and shards stay ({cache})")
