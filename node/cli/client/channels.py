"""Where the money of an `hc-client` is, and how it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import HCT, counted, format_hct, round_coin, round_hct
from hypercluster.node.cli.console import Json, fail, password, show
from hypercluster.node.cli.options import hct, prose
from hypercluster.node.cli.tables import Table
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_chain, open_ledger
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypercluster.market.chain import Chain
    from hypercluster.market.chain.channels import ChannelState
    from hypercluster.market.ledger import Ledger, OutgoingChannel
    from hypercluster.node.cli.console import Shown


def init(json_: Json = False) -> None:
    """Make the session key and the wallet key of this client.

    Example: [bold]hc-client init[/]

    The wallet holds your HCT and is unlocked only to open or close channels. The session key signs the vouchers.
    """
    settings = Settings()
    secret = password(settings, new=True)
    session, wallet = keys.create_missing(settings.home, keys.CLIENT, secret)

    def view(_: Any) -> Iterator[str]:
        yield f"Keys are in {settings.home / 'keys'}.\nsession  {session}\nwallet   {wallet}"
        yield "\nNext: send HCT and some coin for gas to the wallet (on a local testnet: hc-client fund)."

    show({"home": str(settings.home), "session": session, "wallet": wallet}, view, json_)


def fund(
    amount: Annotated[int, hct("HCT to get.", "--hct", least=1, default="100")] = 100 * HCT,
    json_: Json = False,
) -> None:
    """Get test money for the wallet on a local testnet; elsewhere, says where to send real one."""
    from hypercluster.node.testnet.faucet import give

    settings = Settings()
    chain = open_chain(settings)
    wallet = keys.address(settings.home, Key.WALLET)
    give(chain, wallet, amount)
    _show_balance(settings, chain, wallet, json_)


def balance(json_: Json = False) -> None:
    """Show where the money is: in the wallet, in channels and spent, and what comes back of the deposits."""
    settings = Settings()
    _show_balance(settings, open_chain(settings), keys.address(settings.home, Key.WALLET), json_)


def _show_balance(settings: Settings, chain: Chain, wallet: str, json_: bool) -> None:
    with open_ledger(settings) as ledger:
        found = [each for each in _channels(chain, ledger) if each["state"] in ("open", "closing")]
    document = {
        "wallet": wallet,
        "hct_wei": chain.token.balance(wallet),
        "gas_wei": chain.balance(wallet),
        "channels": len(found),
        "deposits_wei": sum(each["deposit_wei"] for each in found),
        "spent_wei": sum(each["spent_wei"] for each in found),
        "settled_wei": sum(each["settled_wei"] for each in found),
        "recoverable_wei": sum(each["recoverable_wei"] for each in found),
    }
    show(document, _balance_view, json_)


def _balance_view(document: dict[str, Any]) -> Iterator[Shown]:
    yield f"{document['wallet']}"
    table = Table()
    table.row("in the wallet", f"{round_hct(document['hct_wei'])} HCT")
    table.row("for gas", f"{round_coin(document['gas_wei'])} coin")
    if document["channels"]:
        table.row(
            f"in {counted(document['channels'], 'channel')}",
            f"{round_hct(document['deposits_wei'])} HCT deposited",
        )
        table.row("  spent of that", f"{round_hct(document['spent_wei'])} HCT")
        table.row("  comes back", f"{round_hct(document['recoverable_wei'])} HCT, with hc-client close")
    yield table


def channels(json_: Json = False) -> None:
    """List the channels of this client: deposit, spent, claimed by the provider, state."""
    settings = Settings()
    chain = open_chain(settings)
    with open_ledger(settings) as ledger:
        found = _channels(chain, ledger)

    def view(data: list[dict[str, Any]]) -> Table:
        names = ("deposit", "spent", "settled", "recoverable")
        table = Table("channel", "payee", *(f"{name} HCT" for name in names), "state")
        for each in data:
            amounts = (format_hct(each[f"{name}_wei"]) for name in names)
            table.row(each["channel"], each["payee"], *amounts, each["state"])
        return table

    show(found, view, json_)


def _channels(chain: Chain, ledger: Ledger) -> list[dict[str, Any]]:
    return [
        _channel(row, chain.channels.state(row.channel_id))
        for row in ledger.payer.channels(chain.channels.domain)
    ]


def _channel(row: OutgoingChannel, state: ChannelState) -> dict[str, Any]:
    word = "never opened" if not state.exists else "ended" if state.closed else "open"
    return {
        "channel": "0x" + row.channel_id.hex(),
        "payee": row.payee,
        "deposit_wei": state.deposit,
        "signed_wei": row.signed,
        "spent_wei": row.spent,
        "settled_wei": state.settled,
        # The provider may still claim all that was signed away.
        "recoverable_wei": max(0, state.deposit - max(row.signed, state.settled)) if state.open else 0,
        "close_at": state.close_at,
        "state": "closing" if state.open and state.close_at else word,
    }


def close(
    channel: Annotated[
        str | None, prose("Channel, or the first digits of one; all if left out.", argument=True)
    ] = None,
    json_: Json = False,
) -> None:
    """Get the rest of channels back: ask to close, and on a later call withdraw what the grace period released.

    Example: [bold]hc-client close 0x4f1a[/]
    """
    from hypercluster.market.chain import Sender
    from hypercluster.node.cli.client.joining import wallet_held
    from hypercluster.node.client.closing import push_on

    wanted = (channel or "").lower().removeprefix("0x")
    if channel is not None and not wanted:
        fail(f"{channel!r} names no channel: give some of its digits, or nothing for all.")
    settings = Settings()
    chain = open_chain(settings)
    wallet = Sender(chain, keys.unlock(settings.home, Key.WALLET, password(settings)))
    done: list[dict[str, Any]] = []
    failed = ""
    with wallet_held(settings.home, "hc-client close"), open_ledger(settings) as ledger:
        rows = [
            row
            for row in ledger.payer.channels(chain.channels.domain, ended=False)
            if row.channel_id.hex().startswith(wanted)
        ]
        if channel and not rows:
            fail(f"no open channel begins with {channel}; hc-client channels lists them.")
        for row in rows:
            try:
                action, close_at = push_on(chain, wallet, ledger, row)
            except MarketError as error:
                # The others are closed all the same.
                failed = failed or str(error)
                done.append({"channel": "0x" + row.channel_id.hex(), "action": "failed", "close_at": 0})
                continue
            done.append({"channel": "0x" + row.channel_id.hex(), "action": action, "close_at": close_at})
    if not failed or not json_:
        show(done, lambda data: [f"{each['channel']}  {each['action']}" for each in data], json_)
    if failed:
        fail(failed, {"channels": done})
