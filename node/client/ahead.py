"""What a session pays ahead: one voucher for this step and some of the next ones, so that those cost no signature, no
check of one and no sync of a disk. A provider that leaves with it was paid for as many tokens that it never gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hypercluster.node.client.account import OutgoingAccount
    from hypercluster.node.client.limits import Spending


class Ahead:
    """The vouchers of one session, each with up to `most_wei` for steps of it that are still to come. Other sessions of
    the channel leave that alone.
    """

    def __init__(self, account: OutgoingAccount, spending: Spending, most_wei: int) -> None:
        self._account, self._spending, self._most = account, spending, most_wei
        self.wei = 0
        """paid for steps that did not come yet, or, at the end, never came"""
        self._over = False

    def pay_within(self, spending: Spending) -> None:
        """Have what comes next count there."""
        self._spending = spending

    def voucher(self, cost: int) -> tuple[int, bytes]:
        """That of a step of `cost` wei: cumulative wei and its signature. Raises as OutgoingAccount.authorise."""
        held, most = self._bounds(cost)
        cumulative, signature, more = self._account.authorise_ahead(cost, self._spending, held, most)
        self.keep(more - held)
        return cumulative, signature

    def keep(self, wei: int) -> None:
        """Hold `wei` more (or less) of what was signed, for the next steps."""
        self.wei += wei
        self._account.held += wei

    def foresee(self, cost: int) -> None:
        """Sign the voucher of a next step of `cost` wei before it is needed, unless one that is out covers it."""
        self._account.foresee(cost, self._spending, *self._bounds(cost))

    def _bounds(self, cost: int) -> tuple[int, int]:
        """What of a step's cost was paid before, and how much may be paid ahead with it, in wei."""
        held = min(cost, self.wei)
        return held, max(0, self._most - self.wei + held)

    def end(self) -> None:
        """No more steps come: what was paid ahead counts as risked. The channel still has it as credit, but for what
        other sessions were paid with at the end of a deposit, which was signed once for both.
        """
        if not self._over:
            self._over = True
            self._account.share(self.wei, self._spending)
            self._account.held -= self.wei
            if self.wei:
                self._spending.book(self.wei, answered=False)
