"""What Ollama's clients ask of models before they use one: which there are, what they can, which are loaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypercluster.node.shards import Manifest
    from hypercluster.node.traffic.entries import ModelEntry

VERSION = "0.12.6"
"""the version of Ollama whose API is followed; clients compare it with the least they need"""
_SINCE = "2026-01-01T00:00:00Z"
"""files of models have no day on which they came: their id says what they are"""


def tagged(name: str) -> str:
    """A name as Ollama lists it: always with a tag."""
    return name if ":" in name else f"{name}:latest"


def tag_of(entry: ModelEntry, manifest: Manifest) -> dict[str, Any]:
    """A model in the list of /api/tags."""
    name = tagged(entry.name)
    return {
        "name": name,
        "model": name,
        "modified_at": _SINCE,
        "size": 0,
        "digest": entry.model_id,
        "details": details_of(manifest),
    }


def running_of(entry: ModelEntry, manifest: Manifest) -> dict[str, Any]:
    """A model in the list of /api/ps: one with a path, which is as good as loaded."""
    return {
        **{name: value for name, value in tag_of(entry, manifest).items() if name != "modified_at"},
        "size_vram": 0,
        "context_length": entry.context,
        "expires_at": (datetime.now(UTC) + timedelta(minutes=5)).isoformat().replace("+00:00", "Z"),
    }


def shown_of(entry: ModelEntry, manifest: Manifest) -> dict[str, Any]:
    """What /api/show tells of a model."""
    family = manifest.architecture
    return {
        "modelfile": f"# HyperCluster serves {entry.name} from {entry.model_id}\n",
        "parameters": "",
        "template": manifest.chat_template or "",
        "license": "",
        "modified_at": _SINCE,
        "details": details_of(manifest),
        "model_info": {
            "general.architecture": family,
            "general.file_type": manifest.quantisation,
            f"{family}.context_length": entry.context,
            f"{family}.block_count": entry.layers,
            f"{family}.embedding_length": manifest.n_embd,
            f"{family}.vocab_size": entry.n_vocab,
            "hypercluster.model_id": entry.model_id,
            "hypercluster.price_wei": _wei(entry.price_wei),
            "hypercluster.prompt_price_wei": _wei(entry.prompt_price_wei),
        },
        "capabilities": ["completion", *(["tools"] if entry.has_template else [])],
    }


def details_of(manifest: Manifest) -> dict[str, Any]:
    """The details that lists show beside a name."""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": manifest.architecture,
        "families": [manifest.architecture],
        "parameter_size": f"{manifest.layers} layers",
        "quantization_level": manifest.quantisation,
    }


def _wei(price: int | None) -> str | None:
    return None if price is None else str(price)
