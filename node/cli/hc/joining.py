"""`hc up --join`: the front door to somebody else's network, paid from the wallet of this home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypercluster.market.money.units import HCT, in_token, round_hct
from hypercluster.node.cli.console import err, password, say
from hypercluster.node.cli.hc.opening import Opened, serve_until_signal
from hypercluster.node.cli.hc.up import tell
from hypercluster.node.cli.opening import listed
from hypercluster.node.cli.progress import bar, status
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.policy import load_policy
from hypercluster.node.home.resources import open_chain
from hypercluster.node.testnet.anvil import CHAIN_ID
from hypercluster.node.traffic.connecting import named_models

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.node.home.settings import Settings

PLAY_MONEY = 100 * HCT


def join_network(settings: Settings, models: list[str], port: int, json_: bool) -> None:
    """Serve a market in a network that is there, until Ctrl-C. Raises Failed, NodeError, MarketError."""
    profile = settings.network_profile
    assert profile is not None
    first = listed(models[0] if models else None, settings)
    secret = _keys(settings)
    with status(f"Joining {profile.name}"):
        chain = open_chain(settings)
        _look_at_the_wallet(settings, chain)
    wanted = named_models(models or None, settings, bar)

    def opened(door: Opened) -> None:
        tell(
            door,
            first.about if first else "",
            json_,
            {"home": str(settings.home)},
            [f"Network   {profile.name}"],
        )

    serve_until_signal(
        settings.home,
        settings,
        wanted,
        password=secret,
        port=port,
        budget=load_policy(settings.home).per_key_wei,
        on_open=opened,
    )


def _keys(settings: Settings) -> str:
    """The password of the keys of this home, which are made now if there are none."""
    missing = [key for key in keys.CLIENT if not keys.key_file(settings.home, key).exists()]
    secret = password(settings, new=bool(missing))
    if missing:
        keys.create_missing(settings.home, keys.CLIENT, secret)
        say(
            f"The keys of your wallet are made, in {settings.home / 'keys'}: keep them and the password.", err
        )
    return secret


def _look_at_the_wallet(settings: Settings, chain: Chain) -> None:
    """Say what is missing on the wallet; on a testnet with play money it gets some."""
    wallet = keys.address(settings.home, Key.WALLET)
    if chain.token.balance(wallet) and chain.balance(wallet):
        return
    if chain.deployment.chain_id == CHAIN_ID:
        from hypercluster.node.testnet.faucet import give

        give(chain, wallet, in_token(PLAY_MONEY))
        say(f"The wallet {wallet} got {round_hct(in_token(PLAY_MONEY))} HCT of play money.", err)
    else:
        say(f"Nothing can be paid yet: send HCT and some of the chain's coin for gas to {wallet}.", err)
