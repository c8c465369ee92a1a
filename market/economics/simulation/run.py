"""Run a scenario and keep what happened: one row per tick, and one per provider at the end."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hypercluster.market.economics.graph import Floats
from hypercluster.market.economics.simulation.scenario import Scenario
from hypercluster.market.economics.simulation.world import World
from hypercluster.market.errors import MarketError

Row = Mapping[str, float | int | str]


class NoOutput(MarketError):
    """Results cannot be written in the format asked for."""


@dataclass(frozen=True)
class Result:
    """A run: ``ticks`` with one row per tick, ``providers`` with one row per provider alive at the end."""

    ticks: list[dict[str, float]]
    providers: list[dict[str, float]]

    def mean(self, name: str, last: float = 0.5) -> float:
        """Return the mean of a tick column over the ``last`` share of the run."""
        values = [row[name] for row in self.ticks[int(len(self.ticks) * (1 - last)) :]]
        return float(np.nanmean(values))

    def column(self, name: str) -> Floats:
        """Return a tick column, float64 [ticks]."""
        return np.array([row[name] for row in self.ticks])


def simulate(
    scenario: Scenario,
    *,
    shock: Callable[[World, int], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Run ``scenario``; the same scenario gives the same result.

    Args:
        scenario: what to run, seed included.
        shock: called before every tick with the world and the tick's number, to interfere.
        progress: called after every tick with the number of ticks done.
    """
    world = World(scenario)
    rows = []
    for number in range(scenario.ticks):
        if shock:
            shock(world, number)
        before = (world.asked, world.refused, world.elsewhere, world.broken, world.moves)
        weight, started = world.paid_weight, world.started
        world.tick()
        rows.append(_observe(world, number, before, weight, started))
        if progress:
            progress(number + 1)
    return Result(rows, _providers(world))


def _observe(
    world: World, number: int, before: tuple[int, ...], weight: float, started: int
) -> dict[str, float]:
    alive = world.alive
    now = (world.asked, world.refused, world.elsewhere, world.broken, world.moves)
    asked, refused, elsewhere, broken, moves = (b - a for a, b in zip(before, now, strict=True))
    speed = np.zeros(world.scenario.layers + 1)
    rate = world.scenario.capacity / world.layer_ms
    np.add.at(speed, world.start[alive], rate[alive])
    np.subtract.at(speed, world.stop[alive], rate[alive])
    per_layer = np.cumsum(speed)[:-1]
    tokens = world.tick_tokens
    opened = world.started - started
    price = world.price[alive] / (world.stop - world.start)[alive]
    return {
        "tick": number,
        "providers": int(alive.sum()),
        "asked": asked,
        "refused": refused,
        "elsewhere": elsewhere,
        "broken": broken,
        "moves": moves,
        "sessions": len(world.left),
        "tokens_per_s": tokens / world.scenario.tick_s,
        "paid_per_token": world.tick_paid / tokens if tokens else np.nan,
        "ms_per_token": world.tick_ms / tokens if tokens else np.nan,
        "hops": float((world.hops >= 0).sum() / max(len(world.hops), 1)),
        "weight": (world.paid_weight - weight) / opened if opened else np.nan,
        "revenue": world.tick_paid,
        "price": float(world.price[alive].mean()),
        "price_per_layer": float(price.mean()),
        "price_spread": float(price.std() / price.mean()),
        "busy": float(1.0 - world.free[alive].mean() / world.scenario.capacity),
        "weakest_layer": float(per_layer.min() / per_layer.mean()),
        "layer_spread": float(per_layer.std() / per_layer.mean()),
    }


def _providers(world: World) -> list[dict[str, float]]:
    energy = world.energy
    return [
        {
            "provider": int(i),
            "start": int(world.start[i]),
            "stop": int(world.stop[i]),
            "layer_ms": float(world.layer_ms[i]),
            "cost_ms": float(world.cost_ms[i]),
            "price": float(world.price[i]),
            "earned": float(world.earned[i]),
            "profit": float(world.earned[i] - energy[i] * world.served[i]),
            "tokens": float(world.served[i]),
        }
        for i in np.flatnonzero(world.alive)
    ]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write ``rows`` to a .csv or .parquet file (Parquet needs polars)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)
        return
    if path.suffix != ".parquet":
        raise NoOutput(f"{path} must end in .csv or .parquet.")
    try:
        import polars
    except ImportError as error:
        raise NoOutput(
            "Parquet needs polars: install it with `pip install polars`, or write .csv."
        ) from error
    polars.DataFrame([dict(row) for row in rows]).write_parquet(path)
