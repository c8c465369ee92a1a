"""`hc-client watch`: finishes what this client left when it was closed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hypercluster.market.errors import MarketError
from hypercluster.market.money.units import round_hct
from hypercluster.node.cli.client.joining import with_bootstrap
from hypercluster.node.cli.client.options import Auditor, Dispute, Trust
from hypercluster.node.cli.console import Json, err, fail, password, print_json, say
from hypercluster.node.cli.opening import Model, opened
from hypercluster.node.cli.options import Bootstrap, seconds
from hypercluster.node.errors import NodeError
from hypercluster.node.home.resources import open_chain

if TYPE_CHECKING:
    from hypercluster.node.client.auditing.policy import Report
    from hypercluster.node.client.watchtower import Finished
    from hypercluster.node.shards.store import StoredModel


def watch(
    once: Annotated[bool, typer.Option("--once", help="End when nothing is left to be finished.")] = False,
    every: Annotated[float, seconds("Between looks at the chain.", least=0.2)] = 15.0,
    auditor: Auditor = "auto",
    dispute: Dispute = False,
    trust: Trust = None,
    model: Model = None,
    bootstrap: Bootstrap = None,
    json_: Json = False,
) -> None:
    """Finish what this client left when it was closed: cases, demands, audits, and channels that are closing.

    Example: [bold]hc-client watch --once[/]

    Runs until Ctrl-C, beside whatever else runs in this home; audits wait while another program spends from the
    wallet. Cases are seen through whether or not --dispute is given, which is for what audits find now. Whatever it is
    killed in, its next start goes on. With --json one document is printed at the end, of all that was finished.
    """
    import trio

    from hypercluster.node.client.auditing.assembly import Auditing
    from hypercluster.node.client.auditing.policy import Policy
    from hypercluster.node.client.auditing.trusting import read_trusted
    from hypercluster.node.client.purse import purse_of
    from hypercluster.node.client.watching import PROGRAM
    from hypercluster.node.client.watching import watch as work
    from hypercluster.node.home.lock import Hold, held
    from hypercluster.node.shards.store import kept_model
    from hypercluster.node.threads import first_cause

    settings = with_bootstrap(bootstrap)
    chain = open_chain(settings)
    with held(settings.home, Hold.WATCH, PROGRAM):
        stored = None if model is None else opened(model, settings)
        purse = purse_of(settings.home, chain, password(settings))
        shown = _Shown(json_)

        def find(model_id: str) -> StoredModel | None:
            if stored is not None and stored.manifest.model_id == model_id:
                return stored
            return kept_model(model_id, settings.home)

        if not once:
            say(f"Watching over the disputes, audits and channels of {purse.wallet}. Ctrl-C ends it.", err)
        trusted = read_trusted(trust) if trust is not None else frozenset[str]()
        auditing = Auditing(policy=Policy(disputes=dispute, trusted=trusted), auditor=auditor)
        main = partial(
            work,
            settings,
            chain,
            purse,
            auditing,
            models=find,
            on_finished=shown.finished,
            on_report=shown.audited,
            once=once,
            every=every,
        )
        try:
            trio.run(main)
        except BaseException as error:
            cause = first_cause(error, KeyboardInterrupt, MarketError, NodeError)
            if isinstance(cause, MarketError | NodeError):
                fail(str(cause), shown.document)
            if json_ and isinstance(cause, KeyboardInterrupt):
                print_json(shown.document)
            raise
        if json_:
            print_json(shown.document)
        elif shown.nothing:
            say("nothing was left to be finished")


class _Shown:
    """What was finished: told at once, or kept for the document at the end."""

    def __init__(self, json_: bool) -> None:
        self._json = json_
        self.document: dict[str, list[dict[str, Any]]] = {"finished": [], "audits": []}

    @property
    def nothing(self) -> bool:
        """Whether nothing was finished."""
        return not any(self.document.values())

    def finished(self, one: Finished) -> None:
        self.document["finished"].append(
            {one.what: one.which, "outcome": one.outcome, "slashed_wei": one.slashed_wei}
        )
        if not self._json:
            slashed = f", {round_hct(one.slashed_wei)} HCT slashed" if one.slashed_wei else ""
            say(f"{one.what} {one.which}: {one.outcome}{slashed}")

    def audited(self, request_id: str, report: Report) -> None:
        from hypercluster.node.cli.client.bills import report_json, report_line

        self.document["audits"].append({"request": request_id, **report_json(report)})
        if not self._json:
            say(report_line(report))
