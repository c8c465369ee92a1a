"""What a caller wants of the path: OpenRouter's object `provider`, and how it becomes wishes of a route."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from hypercluster.market.money.units import MILLION, one
from hypercluster.node.gateway.errors import bad

if TYPE_CHECKING:
    from hypercluster.node.client.client import Client
    from hypercluster.node.client.request import Wishes
    from hypercluster.node.gateway.reading import Fields

MOST_PEERS = 64
LEAST_PREFIX = 8
"""characters of a peer id that name a peer"""
_SORTS: dict[str, dict[str, Any]] = {
    "price": {"alpha": 1.0, "p_ref": 1},
    "throughput": {"alpha": 0.0, "c_ref": 0.001},
    "latency": {"alpha": 0.0, "c_ref": 0.001},
}
"""markets in which nothing but the one weighs: a wei, or a microsecond, more than any doubt of a provider"""
_SENSELESS = {
    "quantizations": "all providers of a model serve the same bytes, which its id is the hash of",
    "data_collection": "who sees what on this network is no promise of a provider: each sees activations of its layers",
    "zdr": "who keeps what on this network is no promise of a provider",
    "enforce_distillable_text": "models here have no such terms",
    "experimental": "there is nothing experimental here",
}


@dataclass(frozen=True, slots=True)
class Preferences:
    """Over whom a request may go; peers by their ids or the first LEAST_PREFIX and more characters of them."""

    only: tuple[str, ...] = ()
    """nobody else, where there are any"""
    ignore: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    """taken before others, the first before the next"""
    fallbacks: bool = True
    """whether others may follow those in `order`"""
    sort: Literal["price", "throughput", "latency"] | None = None
    price_wei: int | None = None
    """per generated token over the whole path, at most"""
    prompt_price_wei: int | None = None

    def wishes(self, client: Client) -> Wishes | None:
        """The wishes of the client with these in their place; None where there are none of them. Raises ApiError."""
        if self == ANYBODY:
            return None
        known = sorted({advert.peer for advert in client.adverts()})
        wanted = client.wishes
        market = wanted.market if self.sort is None else replace(wanted.market, **_SORTS[self.sort])
        order = _named(self.order, known, "provider.order")
        only = _named(self.only, known, "provider.only")
        if order and not self.fallbacks:
            only = [peer for peer in order if not only or peer in only]
        ignore = frozenset(_named(self.ignore, known, "provider.ignore", strict=False))
        if only and not _whole(set(only) - ignore, client):
            raise bad("provider.only", "The peers that are named serve no whole path of this model now.")
        if ignore and not _whole(set(known) - ignore, client) and _whole(set(known), client):
            raise bad(
                "provider.ignore", "Without the peers that are named no whole path of this model is served."
            )
        return replace(
            wanted,
            market=market,
            avoid=wanted.avoid | ignore,
            only=frozenset(only) if self.only or (order and not self.fallbacks) else wanted.only,
            prefer=tuple(order),
            max_price_wei=self.price_wei,
            max_prompt_price_wei=self.prompt_price_wei,
        )


ANYBODY = Preferences()


def read_preferences(body: Fields) -> Preferences:
    """The object `provider` of a body. Raises ApiError for what makes no sense on this network."""
    given = body.fields("provider")
    if given is None:
        return ANYBODY
    for name, why in _SENSELESS.items():
        if given.has(name) and given.get(name) not in ("allow", False):
            given.refuse(name, f"{given.name(name)} cannot be kept: {why}.")
    lists = {name: given.texts(name, MOST_PEERS) for name in ("order", "only", "ignore")}
    for name, peers in lists.items():
        if given.has(name) and not peers:
            given.refuse(name, f"{given.name(name)} is empty: leave it out, or name peers.")
        for index, peer in enumerate(peers):
            if len(peer) < LEAST_PREFIX:
                where = f"{given.name(name)}[{index}]"
                raise bad(
                    where, f"{where} is too short: a peer is named by {LEAST_PREFIX} characters at least."
                )
    fallbacks = given.flag("allow_fallbacks")
    given.flag("require_parameters")  # all providers take all parameters: drawing is done here
    ceiling = given.fields("max_price")
    if ceiling is not None:
        for name in ("request", "image", "audio"):
            if ceiling.has(name):
                ceiling.refuse(name, f"{ceiling.name(name)}: nothing is priced so here, only tokens are.")
    return Preferences(
        only=lists["only"],
        ignore=lists["ignore"],
        order=lists["order"],
        fallbacks=fallbacks is not False,
        sort=_sort(given),
        price_wei=_price(ceiling, "completion"),
        prompt_price_wei=_price(ceiling, "prompt"),
    )


def _sort(given: Fields) -> Literal["price", "throughput", "latency"] | None:
    if isinstance(given.get("sort"), dict):
        given = given.fields("sort") or given
        word = given.one_of("by", *_SORTS)
    else:
        word = given.one_of("sort", *_SORTS)
    return word  # type: ignore[return-value]  # one of the three


def _price(ceiling: Fields | None, name: str) -> int | None:
    """HCT per million tokens, a number or a text, as wei per token."""
    if ceiling is None:
        return None
    value = ceiling.get(name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            ceiling.refuse(name, f"{ceiling.name(name)} is no number: it is HCT per million tokens.")
        ceiling = type(ceiling)({**ceiling.values, name: value}, ceiling.where)
    number = ceiling.number(name, 0, 10**9)
    return None if number is None else int(Decimal(str(number)) * one()) // MILLION


def _whole(peers: set[str], client: Client) -> bool:
    """Whether the layers of some peers join from the first to the last."""
    between, reached = client.chooser.between, {0}
    for advert in sorted(between.within(client.adverts()), key=lambda each: each.layer_start):
        if advert.peer in peers and advert.layer_start in reached:
            reached.add(advert.layer_stop)
    return between.layers in reached


def _named(peers: tuple[str, ...], known: list[str], where: str, *, strict: bool = True) -> list[str]:
    """The whole ids that are meant. With `strict`, who is not known is refused."""
    found = []
    for index, peer in enumerate(peers):
        matches = [each for each in known if each.startswith(peer)]
        if len(matches) > 1 and peer not in matches:
            raise bad(
                f"{where}[{index}]",
                f"{where}[{index}] is the beginning of {len(matches)} peers: write more of it.",
            )
        if not matches and strict:
            raise bad(
                f"{where}[{index}]", f"{where}[{index}]: nobody called {peer[:60]!r} serves this model now."
            )
        found += [peer] if peer in matches else matches
    return found
