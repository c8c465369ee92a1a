"""What can be read off a transcript without running the stage, and two classifiers that learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)
RIDGE = 1e-3
DIRECTIONS = 256
"""random features of the guess that is not linear"""
NEIGHBOURS = 8


@dataclass(frozen=True)
class Shown:
    """What a verifier is shown: rows of input and of output, float64 [n, width] each, and where single tokens begin."""

    inputs: Floats
    outputs: Floats
    prompt: int


class Reader:
    """Looks at transcripts, with what it learned from honest ones of the same stage that it computed once.

    Args:
        known: honest transcripts. From them it learns what outputs go with which inputs: by least squares, by least
            squares over random features, with what stood before, and by the nearest known row; which inputs follow
            which outputs; and in which directions outputs vary at all.
    """

    def __init__(self, known: Sequence[Shown], seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        inputs = np.concatenate([each.inputs for each in known])
        outputs = np.concatenate([each.outputs for each in known])
        self._mean, self._scale = inputs.mean(axis=0), inputs.std() + 1e-12
        width = inputs.shape[1]
        self._directions = draw.standard_normal((width, DIRECTIONS)) / np.sqrt(width)
        self._offsets = draw.uniform(0, 2 * np.pi, DIRECTIONS)
        self._straight = _fit(self._linear(inputs), outputs)
        self._bent = _fit(self._curved(inputs), outputs)
        self._before = _fit(np.concatenate([self._with_last(each.inputs) for each in known]), outputs)
        self._after = _fit(
            np.concatenate([self._linear(each.outputs[:-1]) for each in known]),
            np.concatenate([each.inputs[1:] for each in known]),
        )
        some = draw.permutation(len(inputs))[:4096]
        self._known, self._answers = self._linear(inputs)[some], outputs[some]
        left = outputs - self._linear(inputs) @ self._straight
        self._axes = np.linalg.svd(left - left.mean(axis=0), full_matrices=False)[2]
        self._spans = (left @ self._axes.T).std(axis=0) + 1e-12

    def features(self, shown: Shown) -> Floats:
        """Figures of one transcript, float64 [m]."""
        x, y = shown.inputs, shown.outputs
        size = np.linalg.norm(y, axis=1) + 1e-30
        rows: list[Floats] = [np.log(size), np.log(np.linalg.norm(x, axis=1) + 1e-30)]
        guesses = (
            self._linear(x) @ self._straight,
            self._curved(x) @ self._bent,
            self._with_last(x) @ self._before,
            self._nearest(x),
        )
        for guess in guesses:
            rows += [np.linalg.norm(y - guess, axis=1) / size, _cosine(y, guess)]
        # What an output makes likely to come next, the next input shows.
        next_guess = self._linear(y[:-1]) @ self._after
        rows += [np.linalg.norm(x[1:] - next_guess, axis=1), _cosine(x[1:], next_guess)]
        if x.shape == y.shape:
            added = y - x
            rows += [np.linalg.norm(added, axis=1) / size, _cosine(x, y), _cosine(x, added)]
        rows += [*_shapes(y), *_bits(y), *_neighbours(x, y)]
        left = (y - guesses[0]) @ self._axes.T / self._spans
        parts = np.array_split(left**2, 4, axis=1)
        rows += [np.log(part.mean(axis=1) + 1e-30) for part in parts]
        figures = [np.quantile(each, QUANTILES) for each in rows]
        figures += [
            np.array([each[: shown.prompt].mean(), each[shown.prompt :].mean(), each.std()]) for each in rows
        ]
        for left in (y - y.mean(axis=0), y - guesses[0]):
            spectrum = np.log(np.linalg.svd(left, compute_uv=False) + 1e-30)
            figures.append(spectrum[np.linspace(0, len(y) - 2, 8).astype(int)])
        return np.nan_to_num(np.concatenate(figures), posinf=1e9, neginf=-1e9)

    def _linear(self, inputs: Floats) -> Floats:
        return np.hstack([(inputs - self._mean) / self._scale, np.ones((len(inputs), 1))])

    def _curved(self, inputs: Floats) -> Floats:
        plain = self._linear(inputs)
        return np.hstack([plain, np.cos(plain[:, :-1] @ self._directions + self._offsets)])

    def _with_last(self, inputs: Floats) -> Floats:
        """The two rows before, the mean of all before, and one weighed by likeness: what attention looks at most."""
        plain = self._linear(inputs)
        before, earlier = (np.vstack([plain[:by] * 0, plain[:-by]]) for by in (1, 2))
        mean = np.cumsum(plain, axis=0) / np.arange(1, len(plain) + 1)[:, None]
        likeness = plain @ plain.T / np.sqrt(plain.shape[1])
        weights = np.tril(np.exp(likeness - likeness.max(axis=1, keepdims=True)), -1)
        alike = weights @ plain / (weights.sum(axis=1, keepdims=True) + 1e-30)
        return np.hstack([plain, before, earlier, mean, alike])

    def _nearest(self, inputs: Floats) -> Floats:
        plain = self._linear(inputs)
        apart = np.sum(self._known**2, axis=1) - 2 * plain @ self._known.T
        near = np.argpartition(apart, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        return np.asarray(self._answers[near].mean(axis=1), np.float64)


def _fit(given: Floats, wanted: Floats) -> Floats:
    square = given.T @ given
    ridge = RIDGE * float(np.trace(square)) / len(square) * np.eye(len(square))
    return np.asarray(np.linalg.solve(square + ridge, given.T @ wanted), np.float64)


def _cosine(x: Floats, y: Floats) -> Floats:
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    cosine: Floats = np.sum(x * y, axis=1) / (lengths + 1e-30)
    return cosine


def _shapes(y: Floats) -> list[Floats]:
    """Of the values in each row: mean, skew, tails, the largest, and how they follow each other."""
    spread = y.std(axis=1) + 1e-30
    normal = (y - y.mean(axis=1, keepdims=True)) / spread[:, None]
    return [
        y.mean(axis=1) / spread,
        (normal**3).mean(axis=1),
        np.log((normal**4).mean(axis=1)),
        np.log(np.abs(normal).max(axis=1)),
        np.abs(normal).mean(axis=1),
        (normal[:, 1:] * normal[:, :-1]).mean(axis=1),
    ]


def _bits(y: Floats) -> list[Floats]:
    """Zeros at the end of the binary32 numbers: what was added up, or rounded to f16, has them."""
    raw = y.astype("<f4").view("<u4")
    low = raw & (~raw + 1)
    zeros = np.where(raw, np.log2(np.maximum(low, 1).astype(np.float64)), 23.0)
    return [zeros.mean(axis=1), (raw & 1).mean(axis=1), zeros.max(axis=1)]


def _neighbours(x: Floats, y: Floats) -> list[Floats]:
    """The nearest other row by input and by output, how near it is, and the row before."""
    found = []
    for by in (x, y):
        squares = np.sum(by**2, axis=1)
        apart = squares[:, None] + squares - 2 * by @ by.T
        np.fill_diagonal(apart, np.inf)
        nearest = apart.argmin(axis=1)
        found += [
            np.log(np.maximum(apart.min(axis=1), 1e-12)),
            np.linalg.norm(y - y[nearest], axis=1) / (np.linalg.norm(y, axis=1) + 1e-30),
        ]
    before = np.vstack([y[:1], y[:-1]])
    found += [_cosine(y, before), np.linalg.norm(y - before, axis=1) / (np.linalg.norm(y, axis=1) + 1e-30)]
    return found


# --- classifiers -------------------------------------------------------------------------------------------------


def logistic(
    given: Floats, labels: npt.NDArray[np.bool_], asked: Floats, steps: int = 400
) -> npt.NDArray[np.bool_]:
    """Logistic regression with a quadratic penalty: what it says of `asked` [k, m] after `given` [n, m]."""
    mean, scale = given.mean(axis=0), given.std(axis=0) + 1e-9
    x, z = (np.clip((each - mean) / scale, -6, 6) for each in (given, asked))
    weights, bias = np.zeros(x.shape[1]), 0.0
    speed_w, speed_b = np.zeros_like(weights), 0.0
    for _ in range(steps):
        wrong = 1 / (1 + np.exp(-(x @ weights + bias))) - labels
        speed_w = 0.9 * speed_w - 0.05 * (x.T @ wrong / len(x) + 0.01 * weights)
        speed_b = 0.9 * speed_b - 0.05 * wrong.mean()
        weights, bias = weights + speed_w, bias + speed_b
    return np.asarray(z @ weights + bias > 0)


def boosted(
    given: Floats, labels: npt.NDArray[np.bool_], asked: Floats, rounds: int = 150
) -> npt.NDArray[np.bool_]:
    """Gradient boosting of trees with two levels, over quantiles of each figure."""
    cuts = np.quantile(given, np.linspace(0.02, 0.98, 25), axis=0)
    x, z = (
        np.stack([np.searchsorted(cuts[:, j], each[:, j]) for j in range(each.shape[1])], 1)
        for each in (given, asked)
    )
    score, said = np.zeros(len(x)), np.zeros(len(z))
    draw = np.random.default_rng(0)
    for _ in range(rounds):
        left = labels - 1 / (1 + np.exp(-score))
        some = draw.random(len(x)) < 0.7
        columns = draw.permutation(x.shape[1])[: max(8, x.shape[1] // 3)]
        first = _split(x[some], left[some], columns)
        for side in (False, True):
            here, there = ((each[:, first[0]] > first[1]) == side for each in (x, z))
            if (here & some).sum() < 20:
                continue
            second = _split(x[here & some], left[here & some], columns)
            for upper in (False, True):
                mine = here & ((x[:, second[0]] > second[1]) == upper)
                if (mine & some).sum() >= 5:
                    step = 0.1 * 4 * left[mine & some].mean()
                    score[mine] += step
                    said[there & ((z[:, second[0]] > second[1]) == upper)] += step
    return said > 0


def _split(x: npt.NDArray[np.intp], left: Floats, columns: npt.NDArray[np.intp]) -> tuple[int, int]:
    """The figure and the cut that tell most of what is left apart."""
    best, found = -1.0, (int(columns[0]), 0)
    for column in columns:
        count = np.bincount(x[:, column], minlength=26).cumsum()[:-1]
        total = np.bincount(x[:, column], left, minlength=26).cumsum()
        above, sums = len(x) - count, total[-1] - total[:-1]
        gain = np.where(
            (count > 4) & (above > 4),
            total[:-1] ** 2 / np.maximum(count, 1) + sums**2 / np.maximum(above, 1),
            -1,
        )
        if gain.max() > best:
            best, found = float(gain.max()), (int(column), int(gain.argmax()))
    return found
