"""What `hc-provider` and `hc-verifier` share: making keys, registering, and defaults."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

from hypercluster.market.money.units import counted, round_hct
from hypercluster.node.cli.console import password, show
from hypercluster.node.cli.options import hct
from hypercluster.node.home import keys
from hypercluster.node.home.further import further_homes, make_further
from hypercluster.node.home.keys import Key
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings

StakeOption = Annotated[int | None, hct("HCT to stake. Default: what is missing to the share of this node.")]
ShareOption = Annotated[
    int | None,
    hct(
        "HCT of the stake to stand behind this node, which carry its sessions. Default: what does already and what "
        "is added, the registry's minimum at least.",
        least=1,
    ),
]


def make_keys(wanted: Sequence[Key], program: str, json_: bool, *, shards: int = 1) -> None:
    """Make the missing keys of this home, and of the homes of `shards` shards, and print the addresses of all."""
    settings = Settings()
    home = settings.home
    further = shards > 1 + len(further_homes(home))
    complete = all(keys.key_file(home, key).exists() for key in wanted)
    secret = password(settings, new=not complete)
    if complete and further:
        keys.unlock(home, Key.NODE, secret)  # one password opens all
        node, operator = (keys.address(home, key) for key in wanted)
    else:
        node, operator = keys.create_missing(home, wanted, secret)
    make_further(home, shards, secret)
    others = [{"home": str(each), "node": keys.address(each, Key.NODE)} for each in further_homes(home)]

    def view(_: object) -> Iterator[str]:
        yield f"Keys are in {home / 'keys'}.\nnode      {node}\noperator  {operator}"
        for each in others:
            yield f"\nnode      {each['node']} of a further shard, in {each['home']}"
        yield "\nNext: send HCT to stake and some coin for gas to the operator"
        yield f"(on a local testnet: hc-testnet fund {operator}), then {program} register."

    show({"home": str(home), "node": node, "operator": operator, "further": others}, view, json_)


def register_node(
    stake: int | None,
    next_step: str,
    json_: bool,
    *,
    share: int | None = None,
    sessions: int | None = None,
) -> None:
    """Stake, authorise the node key and send it coin for gas, and say what comes next.

    The nodes of further shards get what they lack; `stake` is for the first.
    """
    from hypercluster.market.chain import Sender
    from hypercluster.node.serving.registration import register

    settings = Settings()
    chain = open_chain(settings)
    secret = password(settings)
    node = keys.unlock(settings.home, Key.NODE, secret)
    operator = Sender(chain, keys.unlock(settings.home, Key.OPERATOR, secret))
    done = [register(chain, operator, node, stake, share=share, sessions=sessions)]
    for home in further_homes(settings.home):
        node = keys.unlock(home, Key.NODE, secret)
        done.append(register(chain, operator, node, share=share, sessions=sessions))

    def view(_: object) -> Iterator[str]:
        for each in done:
            yield f"{', '.join(each.added)}." if each.added else "All was in place already."
            yield (
                f"{round_hct(each.share_wei)} of {round_hct(each.active_wei)} HCT at stake stand behind this node and "
                f"carry {counted(each.sessions, 'session')}; node {each.node} {next_step}"
            )

    first, *others = map(asdict, done)
    show({**first, "further": others}, view, json_)


def default_threads() -> int:
    """Half of the processors, which on most machines are the real cores."""
    return max(1, (os.cpu_count() or 2) // 2)
