"""What the demos of `hc-testnet` show while they run and at their end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hypercluster.market.money.units import format_hct, format_price
from hypercluster.node.identity import short_peer
from hypercluster.node.testnet.telling import Telling

if TYPE_CHECKING:
    from hypercluster.market.economics.routing import Path as Route
    from hypercluster.market.economics.routing import Rival
    from hypercluster.node.testnet.cheat_demo import CheatResult
    from hypercluster.node.testnet.demo import DemoResult, PaidHop
    from hypercluster.node.testnet.link_demo import LinkCheatResult


@contextmanager
def shown(console: Console | None, progress: Console) -> Iterator[Telling]:
    """Show what a demo tells: text on `console`, if given, and the steps on `progress`."""
    with progress.status("Starting") as status:

        def at(text: str) -> None:
            if text:
                status.update(text)
                status.start()
            else:
                status.stop()

        def write(text: str) -> None:
            if console is not None:
                console.print(Text(text), end="", soft_wrap=True)

        yield Telling(status=at, news=lambda line: progress.print(f"[dim]{escape(line)}[/]"), text=write)


def show_demo(result: DemoResult, console: Console) -> None:
    """The books of the demo, for people."""
    table = Table(title="The path (prices in HCT per million tokens)", title_justify="left")
    for name in ("peer", "layers", "price", "prompt", "tokens", "paid HCT", "claimed HCT"):
        table.add_column(name, no_wrap=True)
    for hop in result.hops:
        bill = hop.bill
        table.add_row(
            short_peer(bill.peer),
            f"{bill.layer_start}:{bill.layer_stop}",
            format_price(bill.price_wei),
            format_price(bill.prompt_price_wei),
            str(bill.tokens),
            format_hct(bill.paid_wei),
            format_hct(hop.claimed_wei),
        )
    console.print()
    console.print(table)
    console.print(_steps(result.hops))
    verdict = "they agree to the wei" if result.reconciled else "THEY DO NOT AGREE"
    console.print(
        f"spent {format_hct(result.spent_wei)} HCT, earned {format_hct(result.earned_wei)} HCT: {verdict}; "
        f"{format_hct(result.locked_wei)} HCT are left in the channels"
    )
    passed = sum(report.finding == "pass" for report in result.completion.reports)
    console.print(
        f"a verifier ran {passed} of {len(result.hops)} stages again and found them right, for "
        f"{format_hct(result.completion.audit_wei)} HCT"
    )
    same = "the same tokens as" if result.identical_to_unsplit else "OTHER TOKENS THAN"
    console.print(f"{same} the unsplit model, run by llama.cpp on this machine")
    for rival in result.rivals:
        console.print(_why_not(rival, result.route, result.alpha))
    console.print(f"[dim]{result.seconds:.0f} s in all[/]")
    console.print(
        "Next: [bold]hc up[/] keeps such a network running, with a chat window and an API for your programs"
    )


def _steps(hops: Sequence[PaidHop]) -> Table:
    """Where the time of a step went at each hop, and whether its rows went on over a link."""
    table = Table(title="A step at each hop (medians, ms)", title_justify="left")
    for name in ("layers", "compute", "wire", "waiting", "its rows went on"):
        table.add_column(name, no_wrap=True)
    for place, hop in enumerate(hops, 1):
        bill, typical = hop.bill, hop.bill.timing.typical()
        steps, linked = len(bill.timing.total), bill.linked
        through = f", through the client in {steps - linked}" if linked < steps else ""
        way = f"over a link in {linked} of {steps} steps{through}" if linked else "through the client"
        table.add_row(
            f"{bill.layer_start}:{bill.layer_stop}",
            f"{typical.compute_ms:.2f}",
            f"{typical.wire_ms:.2f}",
            f"{typical.waited_ms:.2f}",
            way if place < len(hops) else "to the client, as candidates",
        )
    return table


def _why_not(rival: Rival, route: Route, alpha: float) -> str:
    node = rival.node
    taken = next(n for n in route.nodes if n.start < node.stop and node.start < n.stop)
    return (
        f"not taken: {short_peer(node.id)} for layers {node.start}:{node.stop} at {format_price(node.price_wei)} HCT "
        f"per M tokens and {node.total_ms:.1f} ms a token; with alpha {alpha:g} a path over it weighs "
        f"{rival.weight:.3f}, {rival.excess:.3f} more than over {short_peer(taken.id)} "
        f"({format_price(taken.price_wei)} HCT, {taken.total_ms:.1f} ms)"
    )


def show_cheat(result: CheatResult, console: Console) -> None:
    """What became of the cheat, for people."""
    table = Table(
        "peer", "layers", "tokens", "finding", "what was seen", title="Audits", title_justify="left"
    )
    for report in result.reports[-12:]:
        layers = f"{report.layer_start}:{report.layer_stop}"
        table.add_row(short_peer(report.peer), layers, str(report.tokens), report.finding, Text(report.note))
    console.print()
    console.print(table)
    if result.cheat == "none":
        console.print(f"{result.audited_steps} steps audited, {result.accusations} accusations")
    else:
        case = f"case {result.case}: " if result.case else ""
        console.print(
            f"{result.cheat}: {'found' if result.detected else 'NOT FOUND'} after {result.after_tokens} tokens; "
            f"{case}{result.verdict}; {format_hct(result.slashed_wei)} HCT slashed from {short_peer(result.culprit)}"
        )
        if result.own_case:
            console.print(f"its own case about itself, of which it served two members: {result.own_case}")
        console.print("later paths avoid it" if result.avoided else "LATER PATHS DO NOT AVOID IT")
    console.print(
        f"honest nodes lost {format_hct(result.honest_slashed_wei)} HCT; audits cost {format_hct(result.audit_wei)} HCT"
    )
    console.print(f"[dim]{result.seconds:.0f} s in all[/]")


def show_link_cheat(result: LinkCheatResult, console: Console) -> None:
    """What became of who cheats on its link, for people."""
    peer = short_peer(result.culprit)
    console.print()
    if result.left:
        console.print(
            f"{result.cheat}: {peer} did not show what it had signed for and was left in mid-answer"
        )
        console.print("later paths avoid it" if result.avoided else "LATER PATHS DO NOT AVOID IT")
    elif result.relayed:
        console.print(f"{result.cheat}: the client relays the rows of {peer} from now on, and blames nobody")
    else:
        console.print(f"{result.cheat}: NOTHING CAME OF IT")
    same = "the same tokens as" if result.identical_to_unsplit else "OTHER TOKENS THAN"
    console.print(f"{same} the unsplit model, run by llama.cpp on this machine")
    than = "less" if result.more_wei < 0 else "more"
    console.print(
        f"two completions cost {format_hct(result.spent_wei)} HCT, the first {format_hct(abs(result.more_wei))} HCT "
        f"{than} than the second; {format_hct(result.risked_wei)} HCT of unanswered steps may be claimed"
    )
    console.print(
        f"{result.accusations} accusations; {format_hct(result.slashed_wei)} HCT slashed from {peer}, "
        f"{format_hct(result.honest_slashed_wei)} HCT from honest nodes"
    )
    console.print(f"[dim]{result.seconds:.0f} s in all[/]")
