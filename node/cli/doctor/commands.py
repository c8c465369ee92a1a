"""The commands: which checks make up the examination of each program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from hypercluster.node.cli.console import Json, Shown, show
from hypercluster.node.cli.doctor import chain as chains
from hypercluster.node.cli.doctor import home, network
from hypercluster.node.cli.doctor.findings import Check, Finding, Health, examined, failed
from hypercluster.node.cli.opening import Model, sought
from hypercluster.node.cli.tables import Table
from hypercluster.node.home.keys import CLIENT, PROVIDER, Key
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain

_COLOURS = {Health.WELL: "green", Health.ODD: "yellow", Health.ILL: "red", Health.UNKNOWN: "dim"}


def client_doctor(model: Model = None, json_: Json = False) -> None:
    """Look over everything that a completion needs, and say what to do about what is wrong.

    Nothing is spent. Exits with 1 if anything is ill.

    Example: [bold]hc-client doctor[/]
    """
    settings = Settings()
    more: list[tuple[str, Check]] = [("policy", partial(home.policy, settings))]
    _examine(settings, CLIENT, more, partial(chains.wallet, settings), model, json_)


def provider_doctor(model: Model = None, json_: Json = False) -> None:
    """Look over everything that serving needs, and say what to do about what is wrong.

    Nothing is spent. Exits with 1 if anything is ill.

    Example: [bold]hc-provider doctor[/]
    """
    _examine_node("hc-provider", model, json_)


def verifier_doctor(model: Model = None, json_: Json = False) -> None:
    """Look over everything that judging needs, and say what to do about what is wrong.

    Nothing is spent. Exits with 1 if anything is ill.

    Example: [bold]hc-verifier doctor[/]
    """
    _examine_node("hc-verifier", model, json_)


def _examine_node(program: str, model: str | None, json_: bool) -> None:
    settings = Settings()
    more: list[tuple[str, Check]] = [
        ("engine", home.engine),
        ("pages", home.pages),
        ("reachability", partial(network.running, settings, program)),
    ]
    _examine(settings, PROVIDER, more, partial(chains.stake, settings, program=program), model, json_)


def _examine(
    settings: Settings,
    wanted: Sequence[Key],
    more: list[tuple[str, Check]],
    money: Callable[[Chain], Iterable[Finding]],
    model: str | None,
    json_: bool,
) -> None:
    findings = [*_findings(settings, wanted, more, money, model)]
    show([each.document() for each in findings], _view, json_)
    if any(each.health is Health.ILL for each in findings):
        raise typer.Exit(1)


def _findings(
    settings: Settings,
    wanted: Sequence[Key],
    more: list[tuple[str, Check]],
    money: Callable[[Chain], Iterable[Finding]],
    model: str | None,
) -> Iterator[Finding]:
    from hypercluster.node.home.resources import open_chain

    yield from examined(
        [
            ("home", partial(home.folder, settings)),
            ("keys", partial(home.keys_of, settings, wanted)),
            ("ledger", partial(home.ledger, settings)),
            ("stores", partial(home.stores, settings)),
            *more,
        ]
    )
    chain: Chain | None = None
    try:
        chain = open_chain(settings, checking=False)
    except Exception as error:  # noqa: BLE001 - a finding like any other
        yield failed("chain", error)
    if chain is not None:
        yield from examined(
            [
                ("chain", partial(chains.answers, chain)),
                ("contracts", partial(chains.contracts, chain)),
                ("money", partial(money, chain)),
            ]
        )
    yield from examined([("network", lambda: network.joined(settings, chain, sought(model, settings)))])


def _view(found: list[dict[str, Any]]) -> Iterator[Shown]:
    table = Table("", "what", "seen", "to do")
    for each in found:
        health = Health(each["health"])
        table.row(Text(health.value, style=_COLOURS[health]), each["what"], each["seen"], each["todo"])
    yield table
