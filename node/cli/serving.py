"""What `hc-provider run` and `hc-verifier run` share: the home that they hold, options, what they say at the start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from hypercluster.market.money.units import round_price
from hypercluster.node.cli.console import err, say, show
from hypercluster.node.cli.options import host_name, host_port, multiaddr, seconds, whole
from hypercluster.node.cli.start import settle
from hypercluster.node.errors import HostError
from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key
from hypercluster.node.home.last_run import LastRun
from hypercluster.node.home.lock import Hold, held, key_held
from hypercluster.node.home.settings import Settings

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from hypercluster.market.chain import Chain
    from hypercluster.node.serving.presence import Presence
    from hypercluster.node.serving.terms import HttpTerms, Wallets

Listen = Annotated[
    list[str] | None,
    multiaddr(
        "Where to listen; may be given several times. Default: as the last time, at first a free port everywhere.",
        use="listen",
    ),
]
Announce = Annotated[
    list[str] | None, multiaddr("Address to tell others instead of the one listened on.", use="announce")
]
ClaimEvery = Annotated[float, seconds("Between looks at what to claim.", least=0.2)]
ClaimMultiple = Annotated[int, whole("Claim what is worth this many times its gas; 0 claims everything.")]
HctPerCoin = Annotated[int, whole("What one coin of the chain is worth in HCT.")]
Refresh = Annotated[float, seconds("Between adverts.", least=0.5)]
Threads = Annotated[
    int | None, whole("Threads that compute. Default: half of the processors.", least=1, most=1024)
]

Http = Annotated[
    list[str] | None,
    host_port(
        "Serve pages, /healthz, /readyz and /metrics here, such as 127.0.0.1:4080; may be given several times.",
        "--http",
    ),
]
AllowHost = Annotated[
    list[str] | None,
    host_name(
        "Name that browsers reach --http by, beside localhost and addresses; may be given several times."
    ),
]


def http_terms(
    program: str, home: Path, binds: list[str] | None, hosts: list[str] | None
) -> HttpTerms | None:
    """Where a node shows itself; None where no --http was given."""
    from hypercluster.node.serving.terms import HttpTerms

    if not binds:
        return None
    from hypercluster.node.web.desk import is_loopback

    for bind in binds:
        if not is_loopback(bind):
            say(
                f"{bind} can be reached from other machines: they read its metrics, and without TLS in front a link "
                "can be read on the way.",
                err,
            )
    return HttpTerms(binds=tuple(binds), hosts=tuple(hosts or ()), link_file=link_file(home, program))


def link_file(home: Path, program: str) -> Path:
    """Where a program that serves pages keeps what links are made with."""
    return home / f"{program}.link"


def print_link(program: str, json_: bool) -> None:
    """Print another one-time link to the pages of a program that runs from this home. Raises NoLink."""
    from hypercluster.node.web.login import new_link

    link = new_link(link_file(Settings().home, program))
    show({"link": link}, lambda found: found["link"], json_)


@contextmanager
def node_held(home: Path, program: str) -> Iterator[None]:
    """Nothing else runs with the node key of `home` until the end of the block. Raises HomeInUse, KeystoreError."""
    address = keys.address(home, Key.NODE)
    with held(home, Hold.NODE, program), key_held(address, home, program):
        yield


def unlocking(homes: Sequence[Path], secret: str) -> Future[list[LocalAccount]]:
    """The node keys of homes with one password, being unlocked by a thread while others import libraries.

    That takes a second for each. Whoever asks for the result gets KeystoreError where there is no such key, or the
    password is wrong.
    """
    import eth_account  # noqa: F401 - not in the thread, as two that import one library get in each other's way

    from hypercluster.node.threads import in_thread

    return in_thread(lambda: [keys.unlock(home, Key.NODE, secret) for home in homes], "unlocking keys")


def wallets_of(home: Path, chain: Chain, node: LocalAccount) -> Wallets:
    """The unlocked node key of a home, and its operator. Raises KeystoreError."""
    from hypercluster.market.chain import Sender
    from hypercluster.node.serving.terms import Wallets

    operator = keys.address(home, Key.OPERATOR)
    return Wallets(node_key=bytes(node.key), operator=operator, sender=Sender(chain, node))


@contextmanager
def kept_address(listen: list[str] | None, last: LastRun) -> Iterator[None]:
    """An address that is taken is the last run's, where nobody named one. Raises HostError."""
    try:
        yield
    except HostError as error:
        if listen or not last.listen:
            raise
        raise HostError(
            f"{error} It is the address of the last run, which others know this node by: "
            "end what listens there, or choose another one with --listen."
        ) from None


def say_ready(presence: Presence, *lines: str) -> None:
    """What a node prints when it is there for others."""
    settle()
    advert = presence.told
    for line in lines:
        say(line)
    say(f"peer {advert.peer}")
    say(f"price {round_price(advert.price_wei)} HCT per million tokens; others join through")
    for address in presence.running_node().addresses:
        say(f"  {address}")
    if presence.link:
        say(f"pages, by a link that opens once: {presence.link}")
