"""A payee is killed while it is paid; what it acknowledged is then claimed on a real chain."""

from __future__ import annotations

import random
import secrets
import signal
import subprocess
import sys
import threading
from pathlib import Path

import coincurve
import pytest
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.units import HCT
from hypercluster.market.money.voucher import ChannelDescriptor

PRICE = 7
DEPOSIT = HCT
KEY = coincurve.PrivateKey(b"\x07" * 32)

PAYEE = """
import sys
import coincurve
from hypercluster.market.ledger import Ledger

key, price = coincurve.PrivateKey(b"\\x07" * 32), int(sys.argv[2])
ledger = Ledger(sys.argv[1])
(row,) = ledger.payee.channels()
channel, paid = row.machine(), row.best
while True:
    paid += price
    signature = channel.domain.sign(key, channel.channel_id, paid)
    assert channel.admit(price, paid, signature)
    ledger.payee.store_voucher(channel.channel_id, channel.best, channel.signature, channel.billed)
    print(channel.billed, flush=True)
"""


@pytest.mark.slow
def test_everything_acknowledged_is_claimed(
    tmp_path: Path, chain: Chain, accounts: list[LocalAccount]
) -> None:
    payer, payee, url = Sender(chain, accounts[0]), Sender(chain, accounts[7]), f"sqlite:///{tmp_path}/l.db"
    channel = ChannelDescriptor(payer.address, payee.address, address_of(KEY), secrets.token_bytes(32))
    chain.channels.open(payer, channel, DEPOSIT)
    before, acknowledged = chain.token.balance(payee.address), 0
    with Ledger(url) as ledger:
        channel_id = ledger.payee.adopt(chain.channels.domain, channel, deposit=DEPOSIT).channel_id
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", PAYEE, url, str(PRICE)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            acknowledged = int(child.stdout.readline())  # it has started
            threading.Timer(random.uniform(0, 0.2), child.send_signal, [signal.SIGKILL]).start()
            lines = [line for line in child.stdout if line.endswith("\n")]
            acknowledged = int(lines[-1]) if lines else acknowledged
        assert child.returncode == -signal.SIGKILL
        with Ledger(url) as ledger:
            (row,) = ledger.payee.channels()
            assert row.best == row.billed >= acknowledged
            chain.channels.settle_batch(payee, payee.address, [(row.descriptor, row.best, row.signature)])
            assert chain.token.balance(payee.address) - before == row.best
            ledger.payee.note(channel_id, settled=chain.channels.state(channel_id).settled)
    chain.channels.close(payee, channel)
