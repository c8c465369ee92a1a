"""A market in which programs are killed at random moments while others go on: seeded, with real processes."""

from __future__ import annotations

import http.client
import json
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypercluster.market.chain import DisputeTerms
from hypercluster.market.ledger import Ledger
from hypercluster.market.money.keystore import load_key
from hypercluster.market.money.units import HCT
from hypercluster.market.trust.audit import Bounds
from hypercluster.node.catalogue import VERSE
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.settings import VOUCHERS
from hypercluster.node.identity import peer_of_key
from hypercluster.node.shards.store import demo_model, open_model
from hypercluster.node.testnet.localnet import LocalNetwork, running_chain
from tests.soak.line import tapped
from tests.soak.town import Kind, Resident, Town

TERMS = DisputeTerms(
    seats=3,
    skew=10,
    evidence_window=120,
    draw_window=60,
    commit_window=90,
    reveal_window=90,
    serve_window=90,
    draw_delay=0,
)
UNBONDING_SECONDS = 1200
STAGES = ("0:4", "0:4", "4:8", "4:8")
WALLET = 4000 * HCT
BUDGET = 5 * HCT
"""of the key at the gateway"""
WEIGHTS: dict[Kind, float] = {"provider": 0.4, "client": 0.3, "verifier": 0.17, "gateway": 0.13}
AMBUSHES = {
    "openManyWithPermit": 0.3,
    "openWithPermit": 0.3,
    "topUpWithPermit": 0.3,
    "settleBatch": 0.04,
    "openCaseWithPermit": 0.4,
    "draw": 0.3,
    "commit": 0.3,
    "reveal": 0.3,
    "resolve": 0.3,
    "enlist": 0.2,
}
"""how likely whoever sends such a call is killed just before the chain has it, or just after, with no answer"""
PAUSE = (0.0, 1.0)
"""seconds between two kills, apart from those until the market is at work again"""
WAIT_SECONDS = 15.0
"""for that at most"""
MOST_AWAY = 1
"""servers that are still starting when the next one is killed"""
ANYHOW = 0.15
"""how likely somebody is killed whatever goes on"""
TWICE = 0.15
"""how likely two are killed at once, such as a provider and who has just lost it"""
LOST = 0.03
"""how likely the answer to any call is lost, and nobody is killed"""
MOST_AMBUSHES = 2
"""of one program within AMBUSH_SECONDS, since nobody keeps a deadline who is killed whenever he tries"""
AMBUSH_SECONDS = 100.0
CHEAT_EVERY = 60
"""kills after which another cheat opens"""


def terms_of(slow: int) -> DisputeTerms:
    """The windows of disputes, so many times as long: for a machine that has other things to do."""
    windows = ("evidence_window", "draw_window", "commit_window", "reveal_window", "serve_window")
    return replace(TERMS, **{name: slow * getattr(TERMS, name) for name in windows})


@dataclass(eq=False)
class Storm:
    """What was done so far, by what it was aimed at."""

    town: Town
    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    """what came of the requests at the gateway"""
    calm: bool = False
    """nobody is killed any more"""

    def __post_init__(self) -> None:
        self._ambushes = random.Random(f"ambushes {self.seed}")
        self._lock = threading.Lock()
        self._lately: dict[str, list[float]] = {}

    @property
    def count(self) -> int:
        """Kills so far."""
        return self.kills.total()

    def meddle(self, who: str, call: str, send: Callable[[], bytes]) -> bytes | None:
        """Decide on a transaction: pass it on, kill who sends it before or after, or lose the answer."""
        with self._lock:
            strikes = self._ambushes.random() < AMBUSHES.get(call, 0.0) and self._may_strike(who)
            before = self._ambushes.random() < 0.4
            loses = call != "" and self._ambushes.random() < LOST and not self.calm
        if not strikes:
            answer = send()
            if loses:
                self.lost[call] += 1
            return None if loses else answer
        if before and self._ambush(who, f"before {call}"):
            return None
        answer = send()
        if not before and self._ambush(who, f"after {call}"):
            return None
        return answer

    def _may_strike(self, who: str) -> bool:
        now = time.monotonic()
        lately = [each for each in self._lately.get(who, []) if each > now - AMBUSH_SECONDS]
        if (
            self.calm
            or len(lately) >= MOST_AMBUSHES
            or not any(each.name == who for each in self.town.residents)
        ):
            return False
        self._lately[who] = [*lately, now]
        return True

    def _ambush(self, who: str, moment: str) -> bool:
        """Kill who sends a transaction; False where it has become calm meanwhile."""
        resident = self.town.named(who)
        with self._lock:
            if not self.calm and self.town.kill(resident):
                self.kills[f"{resident.kind} {moment}"] += 1
            return not self.calm

    def rage(self, kills: int, on_kill: Callable[[int], None], seconds: float = math.inf) -> None:
        """Kill until there were so many kills, or for so long; new cheats open in between."""
        end = time.monotonic() + seconds
        chosen = random.Random(f"choices {self.seed}")
        cheats = 1
        while self.count < kills and time.monotonic() < end:
            time.sleep(chosen.uniform(*PAUSE))
            for _ in range(2 if chosen.random() < TWICE else 1):
                self._strike(chosen)
            on_kill(min(self.count, kills))
            if self.count >= cheats * CHEAT_EVERY:
                cheats += 1
                self.town.settle(cheat(self.town, cheats))
        with self._lock:
            self.calm = True

    def _strike(self, chosen: random.Random) -> None:
        """Kill somebody; most of the time once the market is at work, and within a moment of that."""
        kind: Kind = chosen.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        resident, anyhow = chosen.choice(self.town.of(kind)), chosen.random() < ANYHOW
        rest = chosen.uniform(0.0, 1.0)
        deadline = time.monotonic() + WAIT_SECONDS
        while not (anyhow or self._at_work(resident)) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(rest)
        starting = resident.kind != "client" and not resident.ready()
        if self.town.kill(resident):
            self.kills[f"{kind} {'as it starts' if starting else 'at work'}"] += 1

    def _at_work(self, resident: Resident) -> bool:
        """Whether it pays right now, or serves while somebody pays; and not too many are away."""
        servers = [each for each in self.town.of("provider", "verifier", "gateway") if each.honest]
        if sum(not each.ready() for each in servers) > MOST_AWAY:
            return False
        payers = self.town.of("client", "gateway")
        return _pays(resident) if resident in payers else resident.ready() and any(map(_pays, payers))


def _pays(payer: Resident) -> bool:
    """Whether vouchers of a request that has not ended are written down."""
    journal = payer.home / VOUCHERS
    return payer.alive and journal.exists() and journal.stat().st_size > 0


@contextmanager
def storm(home: Path, seed: int, slow: int = 1) -> Iterator[Storm]:
    """A market of four honest providers, a cheat, three verifiers, a gateway with traffic, two clients and a slanderer;
    everything has ended after the block, and the chain goes on until then.
    """
    with running_chain(
        home, grace_seconds=60, unbonding_seconds=slow * UNBONDING_SECONDS, terms=terms_of(slow)
    ) as network:
        held: list[Storm] = []
        with tapped(network.url, lambda *told: held[0].meddle(*told)) as line:
            town = Town(network, line, seed)
            held.append(Storm(town, seed, calm=True))
            try:
                _people(town, held[0])
                held[0].calm = False
                yield held[0]
            finally:
                town.end()


def cheat(town: Town, number: int) -> Resident:
    """A provider that serves another model than it says, cheaply, with a stake of its own."""
    return _provider(town, f"cheat-{number}", "0:4", price="0.5", cheat="other-model")


def _people(town: Town, storm: Storm) -> None:
    network = town.network
    bounds = network.home / "bounds.json"
    stored = open_model(demo_model(), network.home)
    Bounds.conservative(stored.manifest.model_id).save(bounds)
    providers = [_provider(town, f"provider-{i + 1}", layers) for i, layers in enumerate(STAGES)]
    town.bootstrap = tuple(
        f"/ip4/127.0.0.1/tcp/{each.port}/p2p/{_peer(network, each.home)}" for each in providers
    )
    nodes = [*providers, *(_verifier(town, f"verifier-{i + 1}", bounds) for i in range(3)), cheat(town, 1)]
    for each in nodes:
        town.settle(each)
    town.wait(nodes)
    gateway = _gateway(town)
    town.settle(gateway)
    town.wait([gateway])
    for i in range(2):
        home = network.client(WALLET, f"client-{i + 1}").home
        town.settle(Resident(f"client-{i + 1}", "client", home, GENERATE))
    home = network.client(WALLET, "slanderer").home
    town.settle(Resident("slanderer", "client", home, ("tests.soak.slander",), again=(5.0, 20.0)))
    secret = (gateway.home / "key").read_text()
    for number in range(2):
        threading.Thread(target=_ask, args=(storm, gateway, secret, number), daemon=True).start()


AUDITED = ("--spread", "--audit-rate", "0.4", "--dispute", "--deposit", "0.002")
GENERATE = (
    "hypercluster.node.cli.client", "generate", "ROMEO:", "-n", "24", "--max-cost", "0.01", "--json",
    *AUDITED,
)  # fmt: skip


def _provider(town: Town, name: str, layers: str, price: str = "1", cheat: str = "") -> Resident:
    home, operator = town.network.enlist(name)
    port = Resident(name, "provider", home, ()).port
    program = ("hypercluster.node.cli.cheating", cheat) if cheat else ("hypercluster.node.cli.provider",)
    command = (
        *(*program, "run", "--layers", layers, "--price", price, "--price-rule", "fixed"),
        *("--sessions", "6", "--session-tokens", "256", "--idle", "15", "--throttle", "15"),
        *("--claim-every", "2", "--claim-multiple", "0", "--refresh", "3", "--keep-transcripts", "0.002"),
        *("--listen", f"/ip4/127.0.0.1/tcp/{port}"),
    )
    return Resident(name, "provider", home, command, operator, honest=not cheat, port=port)


def _verifier(town: Town, name: str, bounds: Path) -> Resident:
    home, operator = town.network.enlist(name)
    port = Resident(name, "verifier", home, ()).port
    command = (
        *("hypercluster.node.cli.verifier", "run", "--bounds", str(bounds), "--watch", "1", "--threads", "1"),
        *("--claim-every", "2", "--claim-multiple", "0", "--refresh", "3"),
        *("--listen", f"/ip4/127.0.0.1/tcp/{port}"),
    )
    return Resident(name, "verifier", home, command, operator, port=port)


def _gateway(town: Town) -> Resident:
    home = town.network.client(WALLET, "gateway").home
    with Ledger(f"sqlite:///{home / 'ledger.sqlite'}") as ledger:
        (home / "key").write_text(ledger.api_keys.create("soak", budget=BUDGET)[1])
    resident = Resident("gateway", "gateway", home, ())
    listen = f"127.0.0.1:{resident.port}"
    resident.command = ("hypercluster.node.cli.gateway", "run", "--listen", listen, *AUDITED)
    return resident


def _peer(network: LocalNetwork, home: Path) -> str:
    key = load_key(keys.key_file(home, Key.NODE), network.password_file.read_text())
    return peer_of_key(bytes(key.key))


def _ask(storm: Storm, gateway: Resident, secret: str, number: int) -> None:
    """Ask the gateway for one text after another, until the town ends; a broken answer is as good as any."""
    body = json.dumps(
        {"model": VERSE.name, "prompt": "JULIET:", "max_tokens": 24 + 16 * number, "stream": bool(number)}
    )
    while not gateway.dismissed.wait(0.3):
        line = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=90)
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {secret}"}
            line.request("POST", "/v1/completions", body, headers)
            answer = line.getresponse()
            text = answer.read()
            whole = b"[DONE]" in text if number else answer.status == 200
            storm.answers["whole" if whole else f"refused {answer.status}"] += 1
        except (OSError, http.client.HTTPException) as error:
            storm.answers[f"broken off ({type(error).__name__})"] += 1
            gateway.dismissed.wait(1.0)
        finally:
            line.close()
