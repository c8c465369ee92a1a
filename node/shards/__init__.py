"""Model files, shards and manifests: everything about GGUF that happens before llama.cpp."""

from node.shards.errors import (
    InvalidRange,
    InvalidTensor,
    MalformedFile,
    ManifestError,
    ManifestMismatch,
    ShardError,
    UnsupportedModel,
    WriteFailed,
)
from node.shards.manifest import Manifest, build_manifest, manifest_of
from node.shards.model import Model, check_source
from node.shards.ranges import parse_path, parse_range, partition
from node.shards.slicing import shard_bytes, split
from node.shards.validate import check_shard, check_vocabulary
from node.shards.vocabulary import write_vocabulary

__all__ = [
    "InvalidRange",
    "InvalidTensor",
    "MalformedFile",
    "Manifest",
    "ManifestError",
    "ManifestMismatch",
    "Model",
    "ShardError",
    "UnsupportedModel",
    "WriteFailed",
    "build_manifest",
    "check_shard",
    "check_source",
    "check_vocabulary",
    "manifest_of",
    "parse_path",
    "parse_range",
    "partition",
    "shard_bytes",
    "split",
    "write_vocabulary",
]
