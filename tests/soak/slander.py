"""A client that accuses whoever served it well, again and again: the accused has to be found innocent."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path

import trio

from hypercluster.market.chain import Chain, Deployment
from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import HCT
from hypercluster.node.client.auditing.accuser import Accuser
from hypercluster.node.client.auditing.assembly import Auditing
from hypercluster.node.client.auditing.policy import Policy
from hypercluster.node.client.joining import joined
from hypercluster.node.client.purse import purse_of
from hypercluster.node.client.request import Allowance, Request, Wishes
from hypercluster.node.errors import NodeError
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.store import demo_model, open_model


async def main() -> None:
    """One request, and one accusation."""
    settings = Settings()
    assert settings.deployment is not None
    assert settings.password_file is not None
    chain = Chain(settings.rpc_url, Deployment.load(settings.deployment))
    stored = open_model(demo_model(), settings.home)
    purse = purse_of(settings.home, chain, settings.password_file.read_text())
    wishes = Wishes(deposit_wei=HCT // 100)
    policy = Policy(rate=0.0, disputes=True)
    async with joined(
        settings, chain, stored, purse, wishes=wishes, auditing=Auditing(policy=policy)
    ) as client:
        await client.wait_for_path(30)
        request = Request(prompt="TYBALT:", allowance=Allowance(tokens=8))
        async with client.complete(request) as completing:
            async for _ in completing:
                pass
        served = [hop for hop in completing.completion.bills if hop.layer_start == 4]
        if not served or client.records.transcripts is None:
            return
        session = secrets.choice(served).session
        held = client.records.transcripts.latest(
            lambda record: record.session == session and record.layer_start == 4
        )
        transcript = None if held is None else held.whole()
        if transcript is not None:
            network = client.network
            accuser = Accuser(
                chain=chain, sender=purse.unlock, host=network.host, discovery=network.discovery
            )
            ruling = await accuser.accuse(transcript)
            sys.stdout.write(f"ruling {ruling}\n")


if __name__ == "__main__":
    try:
        trio.run(main)
    except (NodeError, MarketError) as error:
        sys.exit(f"slander: {type(error).__name__}: {error} ({Path(sys.argv[0]).name})")
