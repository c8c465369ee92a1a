"""What to say when nobody is found: facts in, sentences out.

Every command that finds nothing, and every node that runs, asks here; so the same cause reads the same everywhere,
and no cause ends in "nobody serves layer 0" when more is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hypercluster.market.money.units import counted
from hypercluster.node.errors import Unfit
from hypercluster.node.network.adverts import CLOCK_SKEW
from hypercluster.node.network.bootstrap import Contact
from hypercluster.node.network.dialback import Reached
from hypercluster.node.network.hello import ServedModel

_NAMED = 5
"""models named in one sentence"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node knows of its network and of one model there."""

    contacts: tuple[Contact, ...] = ()
    """the addresses to join through"""
    mdns: bool = False
    peers: int = 0
    """connected now"""
    unfit: Mapping[Unfit, int] = field(default_factory=dict)
    """providers whose adverts were not taken, by reason"""
    unchecked: int = 0
    """providers whose adverts the chain did not answer for"""
    chain_error: str = ""
    """the chain's last one"""
    clock_offset: float | None = None
    """seconds by which the peers' clocks are ahead of this one"""
    clocks: int = 0
    """peers that said what time it is"""
    chain_ahead: float | None = None
    """seconds by which the chain's latest block is ahead of this clock"""
    others: tuple[ServedModel, ...] = ()
    """other models that peers serve"""
    reached: tuple[Reached, ...] = ()
    """what came of peers' dialling this node"""
    announced: tuple[str, ...] = ()
    """the addresses this node was told to announce"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client looked for, and what it knows of those that offer the model.

    `ranges` are the half-open layer ranges of all current adverts for it; those of `full` ones (no free session), of
    `distrusted` ones and of those left out for `short` (they hold fewer tokens than `tokens`) or `narrow` (fewer
    candidates than `top_k`) are listed apart as well.
    """

    model_id: str
    name: str
    layers: int
    ranges: Sequence[tuple[int, int]] = ()
    full: Sequence[tuple[int, int]] = ()
    distrusted: Sequence[tuple[int, int]] = ()
    failed: Sequence[tuple[int, int]] = ()
    """of providers that failed in this very completion"""
    short: Sequence[tuple[int, int]] = ()
    tokens: int = 0
    longest: int = 0
    """tokens that the longest session offered holds"""
    narrow: Sequence[tuple[int, int]] = ()
    top_k: int = 0
    widest: int = 0
    """candidates that the largest top_k offered gives"""
    unlike: Sequence[tuple[int, int]] = ()
    """of providers that take no rows of the type that was asked for"""


def why_no_path(facts: Facts, wanted: Wanted) -> str:
    """The one reason that explains best why there is no path, and what to do."""
    if wanted.ranges:
        return _among(wanted) + _doubts(facts)
    return why_nobody(facts, wanted)


def why_nobody(facts: Facts, wanted: Wanted) -> str:
    """Why not a single advert for a model is there, and what to do."""
    looked = f"Nobody is known who serves {_model(wanted.model_id, wanted.name)}"
    if facts.unchecked:
        return f"{looked}: {counted(facts.unchecked, 'advert')} could not be checked on the chain. {facts.chain_error}"
    if (clock := clock_notice(facts)) and (
        facts.unfit.get(Unfit.EXPIRED) or facts.unfit.get(Unfit.POST_DATED)
    ):
        return f"{looked}: the adverts seem {'expired' if facts.unfit.get(Unfit.EXPIRED) else 'post-dated'}. {clock}"
    if facts.unfit:
        return f"{looked}: {_unfit(facts)}. Their operators have to mend that." + _clock(facts)
    joined = [contact for contact in facts.contacts if contact.state == "joined"]
    if not joined and not facts.peers:
        return f"{looked}: {_nowhere(facts)}{_clock(facts)}"
    where = f"joined through {joined[0].address}" if joined else f"{counted(facts.peers, 'peer')} found"
    if facts.others:
        served = ", ".join(_model(each.model_id, each.name) for each in facts.others[:_NAMED])
        more = f" and {len(facts.others) - _NAMED} more" if len(facts.others) > _NAMED else ""
        return (
            f"{looked}. The network ({where}) serves {served}{more}: "
            "give the file or folder of one of these with --model, or serve the model yourself."
        )
    return (
        f"{looked} ({where}, {counted(facts.peers, 'peer')} connected): "
        f"wait for a provider, or serve it yourself.{_clock(facts)}"
    )


def notices(facts: Facts) -> tuple[str, ...]:
    """What a running node should tell its operator about its network, each a sentence or two."""
    said = []
    failed = [contact for contact in facts.contacts if contact.dead]
    if failed:
        said.append(f"{_dead(failed)} {'It is' if len(failed) == 1 else 'They are'} tried again and again.")
        if not facts.peers:
            said.append("This node is alone: nobody will find it.")
    if clock := clock_notice(facts):
        said.append(clock)
    said += reach_notices(facts)
    return tuple(said)


def clock_notice(facts: Facts) -> str:
    """That the own clock is off by more than adverts bear; empty if it is not, or nobody can tell."""
    offset, what = facts.clock_offset, f"{counted(facts.clocks, 'peer')} asked"
    if offset is None or abs(offset) <= CLOCK_SKEW:
        ahead = facts.chain_ahead
        if ahead is None or ahead <= CLOCK_SKEW or offset is not None:
            return ""
        offset, what = ahead, "the chain's latest block"
    side = "behind" if offset > 0 else "ahead of"
    return (
        f"The clock of this machine is {abs(offset):.0f} s {side} {what}: adverts live for a minute and are refused "
        "by whoever's clock differs, so set the clock (with NTP)."
    )


def reach_notices(facts: Facts) -> list[str]:
    """That nobody could dial this node, at an address it announces or at all."""
    if not facts.reached:
        return []
    told = [each for each in facts.reached if each.nobody and each.address in facts.announced]
    if not told and not any(each.yes for each in facts.reached):
        told = [each for each in facts.reached if each.nobody]
    if not told:
        return []
    which = ", ".join(each.address for each in told)
    why = told[0].trouble.value if told[0].trouble else "did not answer"
    return [
        f"Nobody could dial {which}: {counted(told[0].no, 'peer')} tried, and it {why}. "
        "Open the port in the firewall, forward it on the router, and name what others reach with --announce."
    ]


def _among(wanted: Wanted) -> str:
    """Why those that serve the model make no path."""
    model = _model(wanted.model_id, wanted.name)
    if hole := _hole(wanted.ranges, wanted.layers):
        start, stop = hole
        return (
            f"No path covers the {wanted.layers} layers of {model}: nobody serves layers {start}:{stop}; "
            "wait for a provider of them or serve them yourself."
        )
    if not covers(wanted.ranges, wanted.layers):
        ends = ", ".join(f"{start}:{stop}" for start, stop in sorted(set(wanted.ranges)))
        return (
            f"No path covers the {wanted.layers} layers of {model}: the ranges {ends} do not join, as each "
            "has to begin where another ends; wait for one that fits or serve it yourself."
        )
    left = list(wanted.ranges)
    for ranges, why in (
        (
            wanted.short,
            f"it holds {wanted.longest} tokens at most and {wanted.tokens} are asked for, prompt and answer together: "
            "ask for less with -n",
        ),
        (
            wanted.narrow,
            f"it gives {wanted.widest} candidates at most and {wanted.top_k} are asked for: lower --top-k",
        ),
        (wanted.unlike, "it takes no rows as they are to travel: leave --dtype out"),
        (wanted.distrusted, "this client distrusts it: see hc-client reputation"),
        (wanted.failed, "it failed in this completion"),
        (wanted.full, "it has no free session: try again soon"),
    ):
        for each in ranges:
            if each in left:
                left.remove(each)
        if ranges and not covers(left, wanted.layers):
            which = ", ".join(f"{start}:{stop}" for start, stop in sorted(set(ranges)))
            return (
                f"No path covers the {wanted.layers} layers of {model}: "
                f"what serves layers {which} cannot be used, as {why}."
            )
    return f"No path covers the {wanted.layers} layers of {model} within what was asked for."


def _doubts(facts: Facts) -> str:
    """What may have kept other adverts away."""
    said = []
    if facts.unchecked:
        unchecked = counted(facts.unchecked, "more advert")
        said.append(f" {unchecked} could not be checked on the chain. {facts.chain_error}")
    if facts.unfit:
        said.append(f" Besides, {_unfit(facts)}.")
    if dead := [contact for contact in facts.contacts if contact.dead]:
        said.append(f" {_dead(dead)}")
    return "".join(said) + _clock(facts)


def _nowhere(facts: Facts) -> str:
    dead = [contact for contact in facts.contacts if contact.state == "failed"]
    if dead:
        return f"{_dead(dead)} Correct --bootstrap or HC_BOOTSTRAP, or see whether that node runs."
    if facts.contacts and all(contact.state == "self" for contact in facts.contacts):
        return "the only address to join through is this node's own: name another one."
    if facts.contacts:
        return " ".join(contact.sentence for contact in facts.contacts)
    if facts.mdns:
        return "no node answers on the local network: give --bootstrap, or see whether multicast works here."
    return "there is no node to join through: give --bootstrap or set HC_BOOTSTRAP."


def _dead(contacts: Sequence[Contact]) -> str:
    return " ".join(contact.sentence for contact in contacts)


def _unfit(facts: Facts) -> str:
    texts = []
    for unfit, count in sorted(facts.unfit.items(), key=lambda item: -item[1]):
        texts.append(
            f"{counted(count, 'advert')} {'was' if count == 1 else 'were'} refused that {_plural(unfit, count)}"
        )
    return " and ".join(texts)


def _plural(unfit: Unfit, count: int) -> str:
    text = unfit.value
    if count == 1:
        return text
    return (
        text.replace("has ", "have ")
        .replace("is ", "are ")
        .replace("breaks ", "break ")
        .replace("offers ", "offer ")
        .replace("it came", "they came")
        .replace("behind it", "behind them")
    )


def _clock(facts: Facts) -> str:
    notice = clock_notice(facts)
    return f" {notice}" if notice else ""


def _model(model_id: str, name: str) -> str:
    return f"{name} ({model_id[:16]})" if name else f"model {model_id[:16]}"


def _hole(ranges: Sequence[tuple[int, int]], layers: int) -> tuple[int, int] | None:
    """The first run of layers that no range covers."""
    covered = 0
    for start, stop in sorted(ranges):
        if start > covered:
            return covered, start
        covered = max(covered, stop)
    return (covered, layers) if covered < layers else None


def covers(ranges: Sequence[tuple[int, int]], layers: int) -> bool:
    """Whether some chain of abutting half-open `ranges` leads from layer 0 to `layers`."""
    reached = {0}
    for start, stop in sorted(ranges):
        if start in reached:
            reached.add(stop)
    return layers in reached
