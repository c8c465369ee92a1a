"""Whatever reads bytes of others stands in the table, or in the list of what reads nothing of others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.table import DECODERS

ROOT = Path(__file__).resolve().parents[2]
CALLS = {
    "json.loads", "json.load", "tomllib.loads", "tomllib.load", "tomlkit.parse", "np.load", "np.frombuffer",
    "struct.unpack", "struct.unpack_from", "bytes.fromhex", "base64.b64decode", "base58.b58decode", "pickle.loads",
    "int.from_bytes", "ast.literal_eval",
}  # fmt: skip
METHODS = {"FromString", "ParseFromString", "MergeFromString", "model_validate", "iter_unpack", "unpack_from"}
"""whatever they are called on"""

TRUSTED = {
    "market/chain/rollups.py:data_fee": "a number in 32 bytes",
    "market/chain/sender.py": "what our own chain bindings made",
    "market/trust/fingerprint.py:_values": "a digest of our own",
    "market/trust/audit.py:is_sampled": "a digest of our own",
    "market/money/signing.py:address_bytes": "an address that was checked when it was read",
    "node/cli/verifier/calibrating.py:calibrate": "the bounds that were written the line before",
    "node/cli/model/signing.py:sign": "a profile that was read the line before",
    "node/cli/hc/asking.py:Asking.answer": "the gateway of one's own home",
    "node/engine/exactness.py:": "what a process of our own code is asked and answers",
    "node/engine/needs.py:": "what a process of our own code is asked and answers",
    "node/engine/guidance.py:Matching.mask": "a mask of llguidance",
    "node/engine/jinja.py:": "what the process that started this one asks",
    "node/engine/apart.py:": "what the process of our own code answers that this one started",
    "node/engine/boundary.py:_sought": "a name that was checked when the shard was read",
    "node/engine/child.py:": "what the process that started this one asks",
    "node/engine/llama.py:Context.logits": "memory of llama.cpp's own",
    "node/engine/loading.py:Area.over": "memory that two processes of our own share",
    "node/engine/quantising.py:": "a number of our own",
    "node/engine/rendering.py:_run": "what a process of our own code answers",
    "node/gateway/pages/channels.py:close": "an id in a path, hex or nothing",
    "node/identity.py:": "a constant",
    "node/shards/blocks.py:BlockHashes.save": "a model id of our own",
    "node/shards/rules.py:float32_of": "a number of our own",
    "node/rows.py:with_tokens": "rows that were checked when they came",
    "node/network/direct.py:SecureStream._decrypted": "two bytes of length; what follows must decrypt",
    "node/network/dht.py:Dht.providers": "a model id that was checked when it was read",
    "node/pulling/filling.py:Filling._noted": "what this machine noted of a file that it fetches",
    "node/testnet/": "a network of one's own, on one's own machine",
}
"""by module, function or folder"""


def reading(path: Path) -> Iterator[str]:
    """ "module:Class.function" of each function of a module that calls what takes bytes apart."""
    module = str(path.relative_to(ROOT))

    def walk(node: ast.AST, where: tuple[str, ...]) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            inner = where
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = (*where, child.name)
            elif isinstance(child, ast.Call) and _takes_apart(child.func):
                yield f"{module}:{'.'.join(where)}"
            yield from walk(child, inner)

    yield from walk(ast.parse(path.read_text()), ())


def _takes_apart(function: ast.expr) -> bool:
    if not isinstance(function, ast.Attribute):
        return False
    return function.attr in METHODS or ast.unparse(function) in CALLS


def test_every_function_that_takes_bytes_apart_is_fuzzed_or_reads_nothing_of_others() -> None:
    covered = {each for decoder in DECODERS.values() for each in decoder.covers}
    found = {
        each
        for top in ("market", "node")
        for path in (ROOT / top).rglob("*.py")
        if path.name != "wire_pb2.py"
        for each in reading(path)
    }
    missing = {each for each in found - covered if not each.startswith(tuple(TRUSTED))}
    assert not missing, "no decoder in tests/fuzz covers " + ", ".join(sorted(missing))


def test_what_the_table_names_is_there() -> None:
    """A function that was renamed is to be renamed in the table too."""
    there = set[str]()
    for decoder in DECODERS.values():
        for each in decoder.covers:
            module, _, name = each.partition(":")
            tree = ast.parse((ROOT / module).read_text())
            for part in name.split("."):
                inner = [n for n in ast.walk(tree) if getattr(n, "name", None) == part]
                assert inner, f"{decoder.name} covers {each}, which is not there"
                tree = inner[0]  # type: ignore[assignment]
            there.add(each)
    assert there
