"""`hc-client receipts` and `verify`: what providers signed for a request, and whether it holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from hypercluster.market.money.units import counted, format_hct
from hypercluster.node.cli.console import Failed, Json, Shown, fail, show
from hypercluster.node.cli.options import prose
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.settings import Settings


def receipts(
    request: Annotated[str, prose("Id of a request, as --json and the pages show it.", argument=True)],
    out: Annotated[
        Path | None, typer.Option(help="File to write. Default: the request's id, .receipts.")
    ] = None,
    json_: Json = False,
) -> None:
    """Write the bundle of receipts of a request into a file.

    Example: [bold]hc-client receipts 0123456789abcdef[/]

    It holds what the providers signed for each step and the vouchers that paid for it; hc-client verify checks it.
    """
    from hypercluster.node.client.receipt_files import SUFFIX, ReceiptFiles

    data = ReceiptFiles(Settings().home).load(request)
    file = out or Path(request + SUFFIX)
    try:
        file.write_bytes(data)
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror or error}.")
    show({"file": str(file), "bytes": len(data)}, lambda _: f"wrote {file}", json_)


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="File with the receipts of a request.")],
    json_: Json = False,
) -> None:
    """Check a bundle of receipts, without the network and the chain: signatures, roots, prices and amounts.

    Example: [bold]hc-client verify 0123456789abcdef.receipts[/]

    The exit code is 0 only if all of it holds. What was computed is not checked: audits do that.
    """
    from hypercluster.node.evidence.bundle import MOST_BYTES
    from hypercluster.node.evidence.checking import check_bundle

    try:
        with bundle.open("rb") as file:
            data = file.read(MOST_BYTES + 1)  # a device never ends
    except OSError as error:
        fail(f"{bundle} cannot be read: {error.strerror or error}.")
    checked = check_bundle(data)
    found = checked.bundle
    document: dict[str, Any] = {
        "holds": not checked.faults,
        "faults": list(checked.faults),
        "request_id": found.request_id,
        "model_id": found.model_id,
        "made": found.made,
        "signer": checked.signer or None,
        "chain_id": found.payments.chain_id,
        "channels": found.payments.contract,
        "cost_wei": found.cost_wei,
        "risked_wei": found.risked_wei,
        "steps": checked.steps,
        "begins": found.begins,
        "sessions": [
            {
                "peer": each.record.peer,
                "payee": each.channel.payee,
                "layers": [each.record.layer_start, each.record.layer_stop],
                "session": each.record.session.hex(),
                "channel": each.record.channel_id.hex(),
                "profile": each.record.profile,
                "price_wei": each.quote.price_wei,
                "prompt_price_wei": each.quote.prompt_price_wei,
                "steps": len(each.steps),
                "tokens": sum(step.tokens for step in each.steps),
                "cost_wei": each.cost_wei,
                "risked_wei": each.risked_wei,
            }
            for each in found.sessions
        ],
    }
    if checked.faults:
        raise Failed(" ".join(checked.faults), document)

    def view(_: object) -> Iterator[Shown]:
        table = Table("layers", "peer", "steps", "tokens", "HCT paid")
        for each in document["sessions"]:
            layers = f"{each['layers'][0]}:{each['layers'][1]}"
            table.row(
                layers, each["peer"], str(each["steps"]), str(each["tokens"]), format_hct(each["cost_wei"])
            )
        yield table
        if found.begins:
            yield f"Layers 0:{found.begins} the payer computed itself, by its own word."
        yield (
            f"All of it holds: {counted(checked.steps, 'receipt')} and as many vouchers, "
            f"{format_hct(found.cost_wei)} HCT on chain {found.payments.chain_id}, paid with session key "
            f"{checked.signer}."
        )

    show(document, view, json_)
