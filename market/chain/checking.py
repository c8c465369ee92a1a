"""Whether the contracts of a deployment are there and belong together: a file of strangers may name anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hypercluster.market.chain.deployment import CONTRACTS
from hypercluster.market.errors import ChainError
from hypercluster.market.money.signing import keccak

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain

_NO_CODE = keccak(b"").hex()


def contradictions(chain: Chain) -> Iterator[str]:
    """What is wrong with the contracts, a sentence each; nothing where all six are there, have the code that the
    deployment says (if it does) and name each other.

    Raises NodeUnreachable.
    """
    places: dict[str, str] = {name: getattr(chain.deployment, name) for name in CONTRACTS}
    hashes = dict(zip(places, chain.code_hashes(list(places.values())), strict=True))
    missing = [name for name, found in hashes.items() if found == _NO_CODE]
    if missing:
        name = missing[0]
        yield f"Chain {chain.chain_id} has no contract at {places[name]}, which is to be the {name}."
        return
    for name, digits in chain.deployment.code.items():
        if hashes[name] != digits:
            yield f"The code of the {name} at {places[name]} is not that which the deployment names, by its hash."
    try:
        decimals = chain.token.decimals
    except ChainError:
        yield f"What is to be the token, at {places['token']}, does not say how many decimals it has."
    else:
        if decimals != chain.deployment.decimals:
            yield (
                f"The token at {places['token']} has {decimals} decimals, and the deployment says "
                f"{chain.deployment.decimals}: all amounts would be shown wrongly."
            )
    for name, contract, names in (
        ("registry", chain.staking, ("token",)),
        ("channels", chain.channels, ("token",)),
        ("cases", chain.disputes.cases, ("token", "registry")),
        ("proofs", chain.disputes.proofs, ("token", "registry")),
        ("demands", chain.disputes.demands, ("token", "registry")),
    ):
        for other in names:
            try:
                told = contract.named(other)
            except ChainError:
                told = None
            if told != places[other]:
                found = f"belongs to another {other}, {told}" if told else "is no such contract"
                yield f"What is to be the {name}, at {places[name]}, {found}."
    try:
        chain.disputes.demands.state(0)  # the three of disputes look alike otherwise
    except ChainError:
        yield f"What is to be the demands, at {places['demands']}, is no such contract."
    slashers = set(chain.staking.slashers())
    if slashers != {places["cases"], places["proofs"], places["demands"]}:
        yield (
            f"The registry lets {len(slashers)} contracts take stake, and they are not the three of this "
            "deployment: others could take yours."
        )
