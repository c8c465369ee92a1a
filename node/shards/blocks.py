"""Tensors by blocks of a MiB: their hashes, and the root that a manifest names for each tensor.

Whoever has the hashes of a tensor's blocks, checked against the root, can check each block by itself, wherever it
comes from. The trees are those of RFC 9162, section 2.1, with SHA-256. The hashes of a whole model travel in a file
beside its manifest: they are no part of the identity, and nothing that disagrees with it is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.market.trust.merkle import root_of_hashes
from hypercluster.node.shards.container import Tensor
from hypercluster.node.shards.errors import MalformedFile, ManifestError, ManifestMismatch
from hypercluster.node.shards.writing import replacing

if TYPE_CHECKING:
    from hypercluster.node.shards.manifest import Manifest

BLOCK = 1 << 20  # bytes; the last block of a tensor is what remains
HASH = 32  # bytes
_MAGIC = b"HCBLOCKS"


def block_count(size: int) -> int:
    """How many blocks a tensor of `size` bytes has."""
    return -(-size // BLOCK)


def read_block(
    tensor: Tensor, index: int, buffer: bytearray | None = None, opened: FileIO | None = None
) -> memoryview:
    """Block number `index` of a tensor in its file: the first bytes of `buffer`, which has BLOCK bytes and serves who
    reads many again and again, as the opened file does. Raises MalformedFile where the file has shrunk.
    """
    at = index * BLOCK
    view = memoryview(bytearray(BLOCK) if buffer is None else buffer)[: min(BLOCK, tensor.size - at)]
    with tensor.path.open("rb", buffering=0) if opened is None else nullcontext(opened) as file:
        file.seek(tensor.offset + at)
        read = 0
        while read < len(view):
            more = file.readinto(view[read:])
            if not more:
                raise MalformedFile(f"{tensor.path} became shorter while it was read.")
            read += more
    return view


def block_hash(block: bytes | memoryview) -> bytes:
    """The hash of one block, 32 bytes: a leaf of its tensor's tree."""
    digest = sha256(b"\0")
    digest.update(block)
    return digest.digest()


def blocks_in(chunk: bytes) -> Iterator[memoryview]:
    """The blocks of a piece of a tensor that begins where a block does."""
    view = memoryview(chunk)
    return (view[at : at + BLOCK] for at in range(0, len(chunk), BLOCK))


def tensor_root(hashes: bytes) -> str:
    """The root over a tensor's block hashes, which lie one after the other: 64 hex digits."""
    return root_of_hashes([hashes[at : at + HASH] for at in range(0, len(hashes), HASH)]).hex()


@dataclass(frozen=True)
class BlockHashes:
    """The block hashes of a model's tensors, or of some of them, one after the other under the tensor's name.

    Names are those of the model file, `blk.N.` included.
    """

    model_id: str
    tensors: Mapping[str, bytes]

    def save(self, path: Path, manifest: Manifest) -> Path:
        """Write the hashes of a whole model. Raises WriteFailed."""
        with replacing(path) as file:
            file.write(_MAGIC + bytes.fromhex(self.model_id))
            for name in manifest.tensors:
                file.write(self.tensors[name])
        return path

    @classmethod
    def load(cls, path: Path, manifest: Manifest) -> BlockHashes:
        """Read the hashes of a whole model from a file. Raises ManifestError."""
        try:
            with path.open("rb") as file:
                return cls.parse(file.read(_length(manifest) + 1), manifest, str(path))
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror or error}.") from error

    @classmethod
    def parse(cls, raw: bytes, manifest: Manifest, name: str = "The list of block hashes") -> BlockHashes:
        """Read the hashes of a whole model; each tensor's must have the root that the manifest says.

        Raises ManifestError.
        """
        head = _MAGIC + bytes.fromhex(manifest.model_id)
        if not raw.startswith(head) or len(raw) != _length(manifest):
            raise ManifestError(f"{name} does not hold the block hashes of the model {manifest.model_id}.")
        found, at = {}, len(head)
        for tensor, line in manifest.tensors.items():
            end = at + HASH * block_count(line.size)
            found[tensor] = checked_hashes(manifest, tensor, raw[at:end], name)
            at = end
        return cls(manifest.model_id, found)


def checked_hashes(manifest: Manifest, tensor: str, hashes: bytes, name: str = "A peer") -> bytes:
    """The block hashes of one tensor of the model, as they came. Raises ManifestError unless they have its root."""
    line = manifest.tensors[tensor]
    if len(hashes) != HASH * block_count(line.size) or tensor_root(hashes) != line.root:
        raise ManifestError(f"{name} has wrong block hashes for {tensor} of the model {manifest.model_id}.")
    return hashes


def verify_block(hashes: BlockHashes, tensor: str, index: int, block: bytes | memoryview, name: str) -> None:
    """Check block number `index` of a tensor, which `name` is where it comes from. Raises ManifestMismatch."""
    if block_hash(block) != hashes.tensors[tensor][HASH * index : HASH * (index + 1)]:
        raise ManifestMismatch(f"{name}: block {index} of {tensor} is not what the manifest says.")


def _length(manifest: Manifest) -> int:
    """Bytes of the file."""
    blocks = sum(block_count(line.size) for line in manifest.tensors.values())
    return len(_MAGIC) + HASH + HASH * blocks
