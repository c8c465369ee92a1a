"""The chain and the ledger that the settings name."""

import json
from typing import TYPE_CHECKING

from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import IN_HCT, Unit, pay_in, unit_of
from hypercluster.node.errors import NodeError
from hypercluster.node.home.contracts import check_contracts
from hypercluster.node.home.settings import LEDGER, Settings

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain
    from hypercluster.market.ledger import Ledger


class NoDeployment(NodeError):
    """Nobody said where the contracts are."""


def open_chain(settings: Settings, *, checking: bool = True) -> "Chain":
    """The chain of the settings: of the deployment file, else of the profile, with the contracts checked.

    Only who tells of what is wrong goes without the check. Raises NoDeployment, WrongContracts, NodeUnreachable,
    ChainError.
    """
    from hypercluster.market.chain import (  # web3 takes a second to import, which --help can do without
        Chain,
        Deployment,
    )

    profile = settings.network_profile
    if profile is not None and settings.deployment is None:
        chain = Chain(settings.rpc_url, profile.deployment(), settings.confirmations)
        profile.check(chain)
    else:
        path = settings.deployment_file
        if not path.exists():
            raise NoDeployment(
                f"The deployment file {path} does not exist: run `hc up` or `hc-testnet up` "
                "for a network of your own, or set HC_PROFILE to the profile of one to join, or HC_DEPLOYMENT."
            )
        chain = Chain(settings.rpc_url, Deployment.load(path), settings.confirmations)
    pay_in(chain.deployment.unit)
    if checking:
        check_contracts(chain, settings.home)
    return chain


def told_unit() -> Unit:
    """What the token of the network is that the settings name, as its deployment file or profile says.

    HCT where there is none to be read: whoever opens the chain hears of it.
    """
    try:
        settings = Settings()
        profile = settings.network_profile
        if profile is not None and settings.deployment is None:
            return profile.unit
        told = json.loads(settings.deployment_file.read_text(encoding="utf-8-sig"))
        return unit_of(told)
    except (OSError, ValueError, AttributeError, RecursionError, MarketError, NodeError):
        return IN_HCT


def open_chain_to_look(settings: Settings) -> "tuple[Chain | None, str]":
    """The chain, or why it is not to be had by somebody who only looks around and has a profile that says where.

    Raises what `open_chain` does for whoever has no profile, and where the contracts are others.
    """
    from hypercluster.market.errors import NodeUnreachable

    try:
        return open_chain(settings), ""
    except NodeUnreachable as error:
        if settings.network_profile is None:
            raise
        return None, str(error)


def open_chain_if_any(settings: Settings) -> "Chain | None":
    """The chain, or None where it is not to be had, for whoever can do without."""
    try:
        return open_chain(settings)
    except (MarketError, NodeError):
        return None


def open_ledger(settings: Settings) -> "Ledger":
    """The ledger of the settings, its tables brought up to date. Raises LedgerError."""
    from hypercluster.market.ledger import Ledger

    return Ledger(settings.ledger_url or settings.home / LEDGER)
