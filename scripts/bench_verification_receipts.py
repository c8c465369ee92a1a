"""What receipts cost each side in time, and what evidence takes in bytes."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import coincurve
import numpy as np
from bench_verification_served import TOP_K
from rich.console import Console
from rich.table import Table

from hypercluster.market.money.signing import SIGNATURE_BYTES, address_of, sign_compact
from hypercluster.market.trust.fingerprint import fingerprint
from hypercluster.market.trust.receipt import DisputeDomain, Receipt, Stage
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.rows import TopK, WireDtype, pack_activations, pack_topk, rows_root
from hypercluster.node.wire.codec import encode
from hypercluster.node.wire.records import AuditStep

WIDTHS = (192, 2048, 4096, 8192)
PER_FINGERPRINT = 32
TOPLOC_BYTES = 258
"""for 32 tokens, as arXiv:2501.16007 states"""
PARTS = ("provider", "hashing", "structs", "client", "sha256", "signature")
"""both sides' whole work; of it the roots of the rows and the typed data; and what is the least for any scheme"""
Advance = Callable[[str, int], None]
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=2000, help="steps of each width and type")


def work(options: argparse.Namespace) -> int:
    """How often `run` reports progress."""
    return len(WIDTHS) * len(WireDtype)


def run(options: argparse.Namespace, home: Path, advance: Advance) -> dict[str, Any]:
    """Median microseconds of a decode step's receipt, by width and type on the wire."""
    rows = []
    for width in WIDTHS:
        for wire in WireDtype:
            advance(f"{width} {wire.name.lower()}", 0)
            rows.append({"n_embd": width, "wire": wire.name.lower(), **measured(width, wire, options.rounds)})
            advance("", 1)
    return {"rounds": options.rounds, "median_us": rows}


def measured(width: int, wire: WireDtype, rounds: int) -> dict[str, float]:
    """Both sides of one stage, step after step; all paths alternate."""
    key = coincurve.PrivateKey()
    domain = DisputeDomain("0x" + "5f" * 20, 31337)
    stage = Stage(
        session=secrets.token_bytes(16),
        nonce=secrets.token_bytes(16),
        channel_id=secrets.token_bytes(32),
        model_id=secrets.token_bytes(32),
        layer_start=4,
        layer_stop=8,
        wire_dtype=int(wire),
        profile=secrets.token_bytes(32),
    )
    provider, client, node = ReceiptChain(stage, domain), ReceiptChain(stage, domain), address_of(key)
    draw = np.random.default_rng(0)
    times: dict[str, list[float]] = {part: [] for part in PARTS}

    def timed(part: str, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = call()
        times[part].append(1e6 * (time.perf_counter() - start))
        return result

    def hash_rows(step: AuditStep) -> None:
        rows_root(step.input, 1)
        rows_root(step.output, 1)

    def hash_flat(step: AuditStep) -> None:
        hashlib.sha256(step.input)
        hashlib.sha256(step.output)

    def hash_structs(receipt: Receipt) -> None:
        domain.digest(receipt.struct_hash())

    for seq in range(rounds):
        given, output = (
            pack_activations(draw.standard_normal((1, width), dtype=np.float32), wire) for _ in range(2)
        )
        issued = int(time.time())

        def sign(
            seq: int = seq, given: bytes = given, output: bytes = output, issued: int = issued
        ) -> AuditStep:
            step = AuditStep(seq, seq, 1, 1, given, output, issued)
            return replace(step, receipt=provider.sign(provider.next(step), key))

        def check(step: AuditStep) -> None:
            client.accept(client.next(step), step.receipt, node)

        step = timed("provider", sign)
        timed("client", partial(check, step))
        timed("hashing", partial(hash_rows, step))
        receipt = provider.last
        assert receipt is not None
        timed("structs", partial(hash_structs, receipt))
        timed("sha256", partial(hash_flat, step))
        digest = secrets.token_bytes(32)
        timed("signature", partial(sign_compact, key, digest))
    return {part: statistics.median(values) for part, values in times.items()}


def show(result: dict[str, Any], out: Console) -> None:
    """Microseconds."""
    table = Table(
        "n_embd",
        "wire",
        "provider",
        "rows",
        "typed data",
        "client",
        "sha256 alone",
        "signature alone",
        title="Receipt of one decode step, median microseconds",
        caption=f"{result['rounds']} steps each; rows (one in, one out) and typed data are parts of both sides",
    )
    for row in result["median_us"]:
        table.add_row(str(row["n_embd"]), row["wire"], *(f"{row[part]:.1f}" for part in PARTS))
    out.print(table)


class Evidence:
    """The subcommand `evidence`: sizes, all of them taken from the bytes that are really written."""

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """It has none."""

    @staticmethod
    def work(options: argparse.Namespace) -> int:
        """One piece."""
        return 1

    @staticmethod
    def run(options: argparse.Namespace, home: Path, advance: Advance) -> dict[str, Any]:
        """Bytes for 32 tokens, and of full tensors for one."""
        draw = np.random.default_rng(0)
        tensors = []
        for width in WIDTHS:
            rows = draw.standard_normal((PER_FINGERPRINT, width), dtype=np.float32)
            for wire in WireDtype:
                row = pack_activations(rows[:1], wire)
                tensors.append(
                    {
                        "n_embd": width,
                        "wire": wire.name.lower(),
                        "fingerprint_32": len(fingerprint(rows, bytes(32))),
                        "body": _stored(row, row),
                        "tail": _stored(row, _candidates()),
                    }
                )
        return {
            "tokens": PER_FINGERPRINT,
            "fingerprint": tensors[0]["fingerprint_32"],
            "toploc_published": TOPLOC_BYTES,
            "receipts": PER_FINGERPRINT * SIGNATURE_BYTES,
            "per_token": tensors,
        }

    @staticmethod
    def show(result: dict[str, Any], out: Console) -> None:
        """Bytes."""
        table = Table("", "bytes", title=f"Evidence for {result['tokens']} tokens")
        table.add_row("fingerprint", str(result["fingerprint"]))
        table.add_row("TOPLOC, as published", str(result["toploc_published"]))
        table.add_row("signatures of receipts", str(result["receipts"]))
        for row in result["per_token"]:
            name = f"transcript of a body, {row['n_embd']} {row['wire']}"
            table.add_row(name, str(result["tokens"] * row["body"]))
        out.print(table)
        tensors = Table("n_embd", "wire", "body", "tail", title="Bytes of a stored step of one token")
        for row in result["per_token"]:
            tensors.add_row(*(str(row[key]) for key in ("n_embd", "wire", "body", "tail")))
        out.print(tensors)


def _candidates() -> bytes:
    """A row of candidates, as many as a client asks for by default."""
    return pack_topk(
        TopK(np.arange(TOP_K, dtype=np.int32)[None], np.zeros((1, TOP_K), np.float32), np.zeros(1))
    )


def _stored(given: bytes, output: bytes) -> int:
    """Bytes that one step takes in a transcript, without the length in front."""
    return len(encode(AuditStep(100, 100, 1, 1, given, output, int(time.time()), bytes(SIGNATURE_BYTES))))
