"""`hc-testnet`: a chain of one's own with the contracts on it, and the whole market in one command."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hypercluster.market.money.units import HCT, round_hct
from hypercluster.node.catalogue import SMOLLM2, VERSE
from hypercluster.node.cli.console import Json, err, fail, out, print_json, say, show
from hypercluster.node.cli.opening import opened, opened_to_show
from hypercluster.node.cli.options import account, hct, prose, real, share, whole
from hypercluster.node.cli.options import port as port_option
from hypercluster.node.cli.program import application, run
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import TESTNET_HOME, Settings

if TYPE_CHECKING:
    from hypercluster.node.shards.store import StoredModel

YEAR = 366 * 86_400
CHAT_PROMPT = "What is gravity?"
PROMPT = "ROMEO:"

app = application(
    "A local chain with the contracts on it, for trying everything out with play money.\n\n"
    "[bold]demo[/] shows a whole network at work; [bold]up[/] keeps a chain running for providers and clients "
    "that you start in other terminals."
)


Cheat = Literal[
    "none",
    "quantised",
    "skip-layer",
    "noise",
    "stale",
    "other-model",
    "truncate",
    "equivocate",
    "lazy-verifier",
    "immune",
    "forward-wrong",
    "withhold-rows",
    "replay-old-rows",
    "stall",
]


@app.command()
def up(
    port: Annotated[int, port_option("TCP port of the chain's RPC.")] = 8545,
    block_time: Annotated[int, whole("Seconds between blocks; 0 mines at once.", most=3600)] = 0,
    grace: Annotated[
        int, whole("Seconds a client waits to get the rest of a channel back.", least=1, most=YEAR)
    ] = 60,
    unbonding: Annotated[int, whole("Seconds that stake thaws.", least=1, most=YEAR)] = 400,
    stake: Annotated[int, hct("HCT that a provider has to stake.", default="100")] = 100 * HCT,
) -> None:
    """Run Anvil with the contracts deployed until Ctrl-C, and print what to set in other terminals.

    Example: [bold]hc-testnet up[/]

    The chain lives in memory and ends with this command.
    """
    import time

    from eth_account import Account

    from hypercluster.market.chain import LOCAL_TERMS, Chain, deploy
    from hypercluster.market.chain.deployment import CONTRACTS
    from hypercluster.node.home.profile import profile_of
    from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil

    terms = replace(LOCAL_TERMS, fault=min(LOCAL_TERMS.fault, stake))  # which a node can pay
    terms.check(unbonding, stake)
    settings = Settings(profile=None)
    home = settings.home / TESTNET_HOME
    home.mkdir(parents=True, exist_ok=True)
    with running_anvil(port, block_time=block_time or None) as url:
        deployment = deploy(
            url,
            Account.from_key(DEPLOYER_KEY),
            min_stake=stake,
            unbonding_seconds=unbonding,
            grace_seconds=grace,
            terms=terms,
        )
        path = home / "deployment.json"
        deployment.save(path)
        say(f"Chain {deployment.chain_id} runs at {url}; its contracts:")
        for name in CONTRACTS:
            say(f"  {name:9} {getattr(deployment, name)}")
        profile = home / "profile.json"
        profile_of(Chain(url, deployment), "local testnet", models=(VERSE, SMOLLM2)).save(profile)
        say("\nIn the other terminals:")
        say(f"  export HC_PROFILE={shlex.quote(str(profile.absolute()))}")
        say("\nMoney to play with: hc-testnet fund ADDRESS. Ctrl-C ends the chain.")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            say("The chain has ended.")


@app.command()
def fund(
    address: Annotated[str, account("Account to send to.", argument=True)],
    hct: Annotated[int, hct("HCT to send.", least=1, default="1000")] = 1000 * HCT,
    json_: Json = False,
) -> None:
    """Send test HCT and coin for gas to an account.

    Example: [bold]hc-testnet fund 0x70997970C51812dc3A010C7d01b50e0d17dc79C8[/]
    """
    from hypercluster.node.testnet.faucet import give

    chain = open_chain(Settings())
    give(chain, address, hct)
    held = chain.token.balance(address)
    show({"address": address, "hct_wei": held}, lambda _: f"{address} holds {round_hct(held)} HCT", json_)


@app.command()
def demo(
    prompt: Annotated[
        str | None,
        prose(
            "What the model is asked, or, where it cannot chat, the text that it continues.",
            default=f"{CHAT_PROMPT}, or {PROMPT}",
        ),
    ] = None,
    tokens: Annotated[int, whole("Tokens to generate.", "--tokens", "-n", least=1, most=200)] = 64,
    alpha: Annotated[float, share("Weight of price against time.")] = 0.5,
    temperature: Annotated[float, real("0 is greedy.", least=0, most=100)] = 0.0,
    seed: Annotated[int, whole("Fixes the draws.", most=2**32 - 2)] = 2,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A name (hc-model list) or a GGUF file. Default: smollm2, fetched once; verse without a network.",
            show_default=False,
        ),
    ] = None,
    cheat: Annotated[
        Cheat | None,
        typer.Option(
            help="Let one node cheat and watch it being found, judged and slashed, or its link being passed by; "
            "none shows that nobody is accused."
        ),
    ] = None,
    steps: Annotated[int, whole("With --cheat none: steps to audit.", least=1, most=10**7)] = 10_000,
    json_: Json = False,
) -> None:
    """Run a whole market on this machine: a chain, five providers, a verifier, one paid completion, and the books.

    Examples: [bold]hc-testnet demo --alpha 0.9[/], [bold]hc-testnet demo --cheat quantised[/]

    With [bold]--cheat[/] the verse model serves if none is named. Starts everything, streams the completion, has each
    stage audited, lets all claim, reconciles to the wei, and ends all processes that it started.
    """
    if cheat is not None:
        _cheat_demo(cheat, prompt or PROMPT, tokens, model, steps, json_)
        return
    from hypercluster.node.cli.testnet_views import show_demo, shown
    from hypercluster.node.testnet.demo import run_demo

    settings = Settings(profile=None)
    stored = opened_to_show(model, settings)
    chat = stored.manifest.chat_template is not None
    with shown(None if json_ else out, err) as telling:
        result = run_demo(
            settings.home / "demo",
            prompt=prompt or (CHAT_PROMPT if chat else PROMPT),
            tokens=tokens,
            alpha=alpha,
            temperature=temperature,
            seed=seed,
            model=_whole(stored),
            chat=chat,
            telling=telling,
        )
    print_json(result.document()) if json_ else show_demo(result, out)
    if not (result.reconciled and result.identical_to_unsplit and result.audited):
        raise typer.Exit(1)


def _whole(stored: StoredModel) -> Path:
    """The file that all layers are cut from."""
    if stored.source is None:
        fail(f"{stored.folder} holds shards only: give --model the whole model as a GGUF file.")
    return stored.source


def _cheat_demo(cheat: str, prompt: str, tokens: int, model: str | None, steps: int, json_: bool) -> None:
    from hypercluster.node.cli.testnet_views import show_cheat, show_link_cheat, shown
    from hypercluster.node.testnet.cheat_demo import CheatResult, run_cheat_demo
    from hypercluster.node.testnet.cheats import LINK_CHEATS
    from hypercluster.node.testnet.link_demo import LinkCheatResult, run_link_demo

    settings = Settings(profile=None)
    file, home = _whole(opened(model or VERSE.name, settings)), settings.home / "demo"
    on_link = next((each for each in LINK_CHEATS if each == cheat), None)
    result: CheatResult | LinkCheatResult
    with shown(None if json_ else out, err) as telling:
        if on_link is not None:
            result = run_link_demo(
                home, cheat=on_link, prompt=prompt, tokens=tokens, model=file, telling=telling
            )
        else:
            result = run_cheat_demo(
                home, cheat=cheat, prompt=prompt, tokens=tokens, model=file, steps=steps, telling=telling
            )
    if json_:
        print_json(result.document())
    elif isinstance(result, LinkCheatResult):
        show_link_cheat(result, out)
    else:
        show_cheat(result, out)
    if not result.good:
        raise typer.Exit(1)


def main() -> None:
    """Entry point of `hc-testnet`."""
    run(app, "hc-testnet")
