"""Model files, shards and manifests: everything about GGUF that happens before llama.cpp."""

from hypercluster.node.shards.digests import build_manifest, manifest_of
from hypercluster.node.shards.errors import (
    InvalidRange,
    InvalidTensor,
    MalformedFile,
    ManifestError,
    ManifestMismatch,
    ShardError,
    UnsupportedModel,
    WriteFailed,
)
from hypercluster.node.shards.manifest import Manifest
from hypercluster.node.shards.model import ModelFile, check_source
from hypercluster.node.shards.ranges import parse_path, parse_range, partition
from hypercluster.node.shards.slicing import shard_bytes, split
from hypercluster.node.shards.validate import check_shard, check_vocabulary
from hypercluster.node.shards.vocabulary import write_vocabulary

__all__ = [
    "InvalidRange",
    "InvalidTensor",
    "MalformedFile",
    "Manifest",
    "ManifestError",
    "ManifestMismatch",
    "ModelFile",
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
