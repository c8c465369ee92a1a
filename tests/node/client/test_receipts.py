"""What a request leaves: a bundle that holds by itself, and in which whatever was changed is found and named."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import coincurve
import pytest
import trio
from typer.testing import CliRunner

from hypercluster.node.cli.client.app import app
from hypercluster.node.client.own_layers import Ends
from hypercluster.node.client.receipt_files import ReceiptFiles
from hypercluster.node.client.request import Allowance, Request
from hypercluster.node.evidence.bundle import (
    _STEP,
    Bundle,
    NoBundle,
    PaidSession,
    read_bundle,
    write_bundle,
)
from hypercluster.node.evidence.checking import check_bundle
from tests.node.client.test_client import PROMPT, World, hang_up, honest, world
from tests.node.helpers.providers import Wallet, new_wallet

__all__ = ["honest", "world"]


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Wallet, Path]:
    """The bundle of a request of two hops and six tokens, who paid, and the home where it is."""
    wallet, home = new_wallet(world.chain), tmp_path_factory.mktemp("home")

    async def run() -> str:
        async with world.client(wallet, home) as client:
            with trio.fail_after(300):
                request = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=6))
                return (await client.complete(request).finished()).request_id

    request_id = trio.run(run)
    return ReceiptFiles(home).load(request_id), wallet, home


def test_it_holds_and_says_what_the_bill_says(made: tuple[bytes, Wallet, Path], world: World) -> None:
    data, wallet, _ = made
    checked = check_bundle(data)
    assert checked.faults == ()
    assert checked.bundle.cost_wei == world.best_vouchers(wallet) == 200 + 5 * 200
    assert checked.bundle.model_id == world.stored.manifest.model_id
    assert checked.steps == 2 * 6
    assert [each.record.peer for each in checked.bundle.sessions] == [
        world.head.advert.peer,
        world.tail.advert.peer,
    ]


def test_whatever_byte_is_changed_is_found(made: tuple[bytes, Wallet, Path]) -> None:
    data, _, _ = made
    draw = random.Random(1)
    places = {*draw.sample(range(len(data)), 150), 0, len(data) - 1, len(data) - 2, data.index(b"\n")}
    for at in places:
        changed = bytearray(data)
        changed[at] ^= 1 << draw.randrange(8)
        assert finds(bytes(changed)), f"byte {at}"
    for cut in (0, 1, len(data) // 2, data.index(b"\n"), len(data) - 1):
        assert finds(data[:cut])
    assert finds(data + b" ")
    assert finds(data + data)
    assert finds(b" " + data)


def finds(data: bytes) -> bool:
    try:
        return bool(check_bundle(data).faults)
    except NoBundle:
        return True


def session_with(number: int, **changes: object) -> Callable[[Bundle], Bundle]:
    def change(bundle: Bundle) -> Bundle:
        sessions = list(bundle.sessions)
        sessions[number] = dataclasses.replace(sessions[number], **changes)  # type: ignore[arg-type]
        return dataclasses.replace(bundle, sessions=tuple(sessions))

    return change


def quoted(bundle: Bundle) -> Bundle:
    quote = dataclasses.replace(bundle.sessions[0].quote, price_wei=99)
    return session_with(0, quote=quote)(bundle)


def packed(number: int, change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Bundle], Bundle]:
    def apply(bundle: Bundle) -> Bundle:
        data = bundle.sessions[number].packed
        steps = [data[at : at + _STEP.size] for at in range(0, len(data), _STEP.size)]
        return session_with(number, packed=b"".join(change(steps)))(bundle)

    return apply


def flipped(at: int, step: int = 2) -> Callable[[list[bytes]], list[bytes]]:
    def change(steps: list[bytes]) -> list[bytes]:
        changed = bytearray(steps[step])
        changed[at] ^= 1
        return [*steps[:step], bytes(changed), *steps[step + 1 :]]

    return change


def other_model(bundle: Bundle) -> Bundle:
    sessions = tuple(
        dataclasses.replace(
            each,
            record=dataclasses.replace(each.record, model_id="0" * 64),
            quote=dataclasses.replace(each.quote, model_id=bytes(32)),
        )
        for each in bundle.sessions
    )
    return dataclasses.replace(bundle, model_id="0" * 64, sessions=sessions)


def reordered(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, sessions=bundle.sessions[::-1])


def another_peer(bundle: Bundle) -> Bundle:
    first, second = bundle.sessions
    return session_with(0, record=dataclasses.replace(first.record, peer=second.record.peer))(bundle)


def another_payee(bundle: Bundle) -> Bundle:
    first: PaidSession = bundle.sessions[0]
    return session_with(0, channel=dataclasses.replace(first.channel, payee=first.channel.payer))(bundle)


FORGERIES: dict[str, tuple[Callable[[Bundle], Bundle], str]] = {
    "a smaller bill": (lambda b: dataclasses.replace(b, cost_wei=1), "The bill says a cost of"),
    "a risk left out": (lambda b: dataclasses.replace(b, risked_wei=1), "The bill says a risk of"),
    "a cheaper session": (session_with(1, cost_wei=1), r"Session 2 \(layers 2:4.*its steps cost"),
    "another price": (quoted, "Session 1 .*not quoted by the provider"),
    "another model": (other_model, "step 0: its receipt is not signed"),
    "another provider": (another_peer, "Session 1 .*not"),
    "another payee": (another_payee, "Session 1 .*the channel that is named"),
    "a step left out": (packed(0, lambda steps: steps[:1] + steps[2:]), "Session 1 .*step 1: its receipt"),
    "the last step left out": (packed(0, lambda steps: steps[:-1]), "more steps went in than came out"),
    "steps swapped": (packed(1, lambda steps: [steps[1], steps[0], *steps[2:]]), "Session 2 .*step 0"),
    "another input": (packed(1, flipped(24)), "Session 2 .*step 2: its receipt"),
    "another output": (packed(0, flipped(56)), "Session 1 .*step 2: its receipt"),
    "another time": (packed(0, flipped(23)), "Session 1 .*step 2: its receipt"),
    "a larger voucher": (packed(0, flipped(24 + 64 + 64 + 5)), "Session 1 .*step 2: its voucher"),
    "another voucher": (packed(1, flipped(_STEP.size - 1)), "Session 2 .*step 2: its voucher"),
    "sessions in another order": (reordered, "A path begins at layer 2|goes on at layer"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_payer_who_forges_and_signs_anew_is_found_out_by_name(
    made: tuple[bytes, Wallet, Path], what: str
) -> None:
    data, wallet, _ = made
    forge, said = FORGERIES[what]
    bundle, _ = read_bundle(data)
    faults = check_bundle(write_bundle(forge(bundle), wallet.signer)).faults
    assert any(re.search(said, each) for each in faults), faults


@pytest.mark.parametrize("amount", ["1e999", "1200.7", "null"])
def test_an_amount_that_is_no_text_of_wei_is_not_read(made: tuple[bytes, Wallet, Path], amount: str) -> None:
    data = made[0].replace(b'"cost_wei":"1200"', f'"cost_wei":{amount}'.encode())
    assert data != made[0]
    with pytest.raises(NoBundle, match="no bundle of receipts"):
        check_bundle(data)


def test_a_stranger_cannot_sign_it(made: tuple[bytes, Wallet, Path]) -> None:
    data, _, _ = made
    bundle, _ = read_bundle(data)
    faults = check_bundle(write_bundle(bundle, coincurve.PrivateKey())).faults
    assert "the file is signed by" in faults[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"{}\n{}\n",
        b"[]\n[]\n",
        b"null\nnull\n",
        b"\xff\n\n",
        b"[" * 100_000,
        b'{"format":1}\n{}\n',
        b'{"format":2,"channels":"0x1","chain_id":-1}\n{}\n',
    ],
)
def test_what_is_no_bundle_is_called_that(data: bytes) -> None:
    with pytest.raises(NoBundle, match="no bundle of receipts"):
        check_bundle(data)


def test_on_the_command_line(
    made: tuple[bytes, Wallet, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, home = made
    monkeypatch.setenv("HC_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    request_id = json.loads(data.partition(b"\n")[0])["request"]
    runner = CliRunner()
    wrote = runner.invoke(app, ["receipts", request_id, "--json"])
    assert wrote.exit_code == 0, wrote.output
    file = tmp_path / f"{request_id}.receipts"
    assert file.read_bytes() == data
    seen = runner.invoke(app, ["verify", str(file), "--json"])
    assert seen.exit_code == 0, seen.output
    found = json.loads(seen.stdout)
    assert (found["holds"], found["cost_wei"], found["request_id"]) == (True, 1200, request_id)
    assert "All of it holds" in runner.invoke(app, ["verify", str(file)]).output
    (tmp_path / "changed").write_bytes(data.replace(b'"cost_wei":"1200"', b'"cost_wei":"1300"', 1))
    with pytest.raises(Exception, match="was changed after it was made"):
        runner.invoke(app, ["verify", str(tmp_path / "changed")], catch_exceptions=False)
    for wrong in ("ffff", "../keys", "*", ""):
        assert runner.invoke(app, ["receipts", wrong]).exit_code != 0


async def test_a_path_that_broke_is_in_it_with_what_was_risked(world: World, tmp_path: Path) -> None:
    wallet = new_wallet(world.chain)
    world.tail_lies.tell = hang_up
    async with world.client(wallet, tmp_path) as client:
        with trio.fail_after(300):
            request = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=4))
            done = await client.complete(request).finished()
    checked = check_bundle(ReceiptFiles(tmp_path).load(done.request_id))
    assert checked.faults == ()
    assert checked.bundle.risked_wei == done.risked_wei > 0
    assert checked.bundle.cost_wei == done.spent_wei
    assert len(checked.bundle.sessions) == len(done.bill.hops) == 3


@pytest.mark.parametrize(("ends", "begins"), [("0:2", 2), ("2:4", 0)])
async def test_it_holds_where_its_payer_computed_an_end_itself(
    world: World, tmp_path: Path, ends: str, begins: int
) -> None:
    """And says which: who left a session out cannot make it the payer's own layers without saying so."""
    wallet = new_wallet(world.chain)
    async with world.client(wallet, tmp_path, own=Ends(ranges=(ends,), threads=1)) as client:
        with trio.fail_after(300):
            request = Request(prompt=tuple(PROMPT), allowance=Allowance(tokens=4))
            done = await client.complete(request).finished()
    file = tmp_path / "bundle"
    file.write_bytes(ReceiptFiles(tmp_path).load(done.request_id))
    checked = check_bundle(file.read_bytes())
    assert (checked.faults, checked.bundle.begins, len(checked.bundle.sessions)) == ((), begins, 1)
    told = CliRunner().invoke(app, ["verify", str(file)]).output
    assert ("Layers 0:2 the payer computed itself" in told) == (begins > 0)
    with pytest.raises(NoBundle, match="-1 is no layer"):
        check_bundle(write_bundle(dataclasses.replace(checked.bundle, begins=-1), wallet.signer))
    other = dataclasses.replace(checked.bundle, begins=2 - begins)
    faults = check_bundle(write_bundle(other, wallet.signer)).faults
    assert faults == (f"A path begins at layer {begins}, not at {2 - begins}.",)


def test_the_oldest_days_go_where_there_is_no_more_room(tmp_path: Path) -> None:
    for day in ("2020-01-01", "2020-01-02"):
        folder = tmp_path / "receipts" / day
        folder.mkdir(parents=True)
        (folder / f"{day[-1]}a.receipts").write_bytes(b"x" * 100)
    files = ReceiptFiles(tmp_path, max_bytes=250)
    files.save("ab", b"x" * 100)
    with pytest.raises(NoBundle, match="no longer kept"):
        files.load("1a")
    assert files.load("2a") == files.load("ab") == b"x" * 100
    files.save("cd", b"x" * 1000)
    assert files.load("cd") == b"x" * 1000, "what is of today stays"
    with pytest.raises(NoBundle):
        files.load("2a")
