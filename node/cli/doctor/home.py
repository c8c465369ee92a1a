"""What is on this machine: folder, keys, ledger, policy, room on the disk, and the engine."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.market.money.units import round_hct
from hypercluster.node.cli.doctor.findings import Finding, ill, odd, unknown, well
from hypercluster.node.home import keys

if TYPE_CHECKING:
    from hypercluster.node.home.keys import Key
    from hypercluster.node.home.settings import Settings

LITTLE_BYTES = 2 * 1024**3
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""of Linux; the word in brackets is what holds"""


def folder(settings: Settings) -> Iterator[Finding]:
    """The home, and the room on its disk."""
    home = settings.home
    if not home.is_dir():
        yield ill("home", f"There is no folder {home}.", "run init, or set HC_HOME.")
        return
    yield well("home", str(home))
    free = shutil.disk_usage(home).free
    seen = f"{free / 1024**3:.1f} GiB free on the disk of {home}"
    if free < LITTLE_BYTES:
        yield odd("disk", seen, "make room: ledger, transcripts and models are kept there.")
    else:
        yield well("disk", seen)


def stores(settings: Settings) -> Iterator[Finding]:
    """What is kept in the home, and what of it is nearly as much as may be."""
    from hypercluster.node.home.stores import STORES, size

    taken = {store: store.taken(settings.home) for store in STORES}
    for store, count in taken.items():
        if sentence := store.sentence(count):
            todo = f"allow more with {store.option}." if store.option else "nothing, if that is well."
            yield odd("stores", sentence, todo)
    full = max(STORES, key=lambda store: taken[store] / store.most)
    most = f"the fullest are the {full.name}, {size(taken[full])} of {size(full.most)}"
    yield well("stores", f"{size(sum(taken.values()))} in all; {most}")


def keys_of(settings: Settings, wanted: Sequence[Key]) -> Iterator[Finding]:
    """That the key files are there, private, and open with the password where that is in a file."""
    for key in wanted:
        address = keys.address(settings.home, key)
        file = keys.key_file(settings.home, key)
        if file.stat().st_mode & 0o077:
            yield ill(f"{key} key", f"Others can read {file}.", f"chmod 600 {file}")
        elif settings.password_file is None:
            yield unknown(
                f"{key} key",
                f"{address}; not unlocked",
                "set HC_PASSWORD_FILE to have it tried with a password.",
            )
        else:
            from hypercluster.node.cli.console import password

            keys.unlock(settings.home, key, password(settings))
            yield well(f"{key} key", f"{address}, unlocked")


def ledger(settings: Settings) -> Iterator[Finding]:
    """That the ledger opens."""
    from hypercluster.node.home.resources import open_ledger
    from hypercluster.node.home.settings import LEDGER

    if settings.ledger_url is None and not (settings.home / LEDGER).exists():
        yield unknown("ledger", "There is none yet: it is made when it is first needed.")
        return
    with open_ledger(settings) as opened:
        yield well(
            "ledger", f"opens, with {len(opened.payer.channels())} channels that this wallet pays from"
        )


def policy(settings: Settings) -> Iterator[Finding]:
    """That the wallet's policy can be read, and whether it bounds anything."""
    from hypercluster.node.home.policy import load_policy

    read = load_policy(settings.home)
    limits = {"a request": read.per_request_wei, "a day": read.per_day_wei, "all": read.total_wei}
    bounds = [f"{name} {round_hct(wei)} HCT" for name, wei in limits.items() if wei is not None]
    if bounds:
        yield well("policy", f"at most for {', '.join(bounds)}")
    else:
        yield odd("policy", "No limit bounds what this wallet spends.", "hc-client policy set per_day 1")


def engine() -> Iterator[Finding]:
    """That llama.cpp runs a model on this machine: a token of the one that ships with the package."""
    from importlib.metadata import version

    from hypercluster.node.engine.devices import accelerators
    from hypercluster.node.engine.engine import Engine
    from hypercluster.node.engine.speed import measure
    from hypercluster.node.shards.store import demo_model

    engine = Engine(
        demo_model(), first=True, last=True, n_ctx_total=64, max_sessions=1, threads=1, gpu_layers=0
    )
    try:
        took = measure(engine).decode_ms
    finally:
        engine.stop()
    for number, card in enumerate(accelerators()):
        yield well("card", f"{number}: {card.description} ({card.name}), {card.memory_bytes / 2**30:.1f} GiB")
    yield well(
        "engine",
        f"llama-cpp-python {version('llama-cpp-python')} runs: {took:.1f} ms a token of the demo model",
    )


def pages() -> Iterator[Finding]:
    """That the system gives the engine huge pages."""
    try:
        never = "[never]" in HUGE_PAGES.read_text()
    except (OSError, ValueError):
        return  # no Linux, or one that does not tell
    if never:
        yield odd(
            "pages",
            "Huge pages are off. Weights of types that are rearranged when they are loaded (Q4_0, Q4_K) then take"
            " about a tenth longer to read.",
            f"echo madvise > {HUGE_PAGES}, as root.",
        )
    else:
        yield well("pages", "the engine can have huge ones")
