"""Why a model file, a shard or a manifest was refused."""

from __future__ import annotations

from hypercluster.node.errors import NodeError


class ShardError(NodeError):
    """Root of everything that can be wrong with a model file, a shard or a manifest.

    Names in such files come from strangers: what could steer a terminal is shown escaped.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in sentence))


class MalformedFile(ShardError):
    """The bytes are no readable GGUF file: bad magic, truncated, absurd sizes, overlapping tensors."""


class UnsupportedModel(ShardError):
    """A readable GGUF file whose architecture or features HyperCluster cannot split."""


class InvalidTensor(ShardError):
    """A tensor is missing, unexpected, or has a type or shape that llama.cpp would choke on."""


class WriteFailed(ShardError):
    """A file could not be written: no space, no permission, no such folder."""


class InvalidRange(ShardError):
    """A layer range that the model does not have."""


class ManifestError(ShardError):
    """A manifest that cannot be read or breaks its own rules."""


class ManifestMismatch(ShardError):
    """A file that is not the model, or not the part of it, that the manifest describes."""


class FetchFailed(NodeError):
    """A file could not be had from elsewhere, or is not what it should be; the sentence says what to do."""
