"""What an audit decides: which stages to audit, how far apart two computations are, and what that means.

Three comparisons are told apart, each with bounds of its own, because honest computations differ by different
amounts in them (`hc-verifier calibrate` measures by how much):

- ``prefill``: the same backend profile, all inputs run as one prefill. Cheap, and the first thing tried.
- ``replay``: the same profile, step after step as it was served. As dear as serving, exact or nearly so; tried
  only when the prefill left a doubt.
- ``foreign``: another build, processor or setting.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from hypercluster.market.errors import MarketError
from hypercluster.market.trust.receipt import MILLIONTHS, MOST_TOLERANCE, Finding

Kind = Literal["body", "tail"]
"""What a stage puts out: activations, or candidates with their logits."""
Tier = Literal["prefill", "replay", "foreign"]

FORMAT = 1
ACCEPT_MARGIN = 1.1
REJECT_MARGIN: dict[Tier, float] = {"prefill": 2.0, "replay": 2.0, "foreign": 3.0}
"""times the worst honest median; more among strangers, of whose machines calibration has seen few"""
ACCEPT_MARGIN_ROW = 1.5
REJECT_MARGIN_ROW: dict[Tier, float] = {"prefill": 4.0, "replay": 4.0, "foreign": 10.0}
"""of the one worst row, which has a long tail: a longer text holds a worse one"""
MIN_ACCEPT = 1e-6
MIN_REJECT = 1e-4
MAX_ACCEPT = MOST_TOLERANCE / MILLIONTHS
"""no row further off than this ever passes: the proof of a contradiction rests on it (docs/verification.md)"""
HUGE = 1e9
"""stands for an error without measure, as of a row of zeros"""


class BadBounds(MarketError):
    """A file of bounds is missing, malformed, or of another model."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far claimed outputs are from those computed again.

    Attributes:
        median, maximum: over the rows, of the relative error: |claimed - own| / |own| for activations; for
            candidates the same of their log-probabilities.
        agreement: mean share of the claimed candidates that are among one's own; 1 for activations.
        exact: all rows are the same, bit for bit.
        rows: how many were compared.
    """

    median: float
    maximum: float
    agreement: float
    exact: bool
    rows: int

    def within(self, tolerance: int) -> bool:
        """Whether no row is further off than a verdict's tolerance, in millionths, so that the proof of a contradiction
        spares two of them.
        """
        return self.maximum * MILLIONTHS <= tolerance


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Bounds of one comparison: up to ``accept_*`` is honest, beyond ``reject_*`` is not, between is grey."""

    accept_median: float
    accept_maximum: float
    accept_agreement: float
    reject_median: float
    reject_maximum: float
    reject_agreement: float

    def __post_init__(self) -> None:
        ordered = (
            0 < self.accept_median <= self.reject_median < math.inf
            and 0 < self.accept_maximum <= self.reject_maximum < math.inf
            and 1 >= self.accept_agreement >= self.reject_agreement >= 0
            and self.accept_maximum <= MAX_ACCEPT
        )
        if not ordered:
            raise BadBounds(
                f"Bounds must rise from accept to reject, and accept rows up to {MAX_ACCEPT:g} at most."
            )

    @classmethod
    def around(cls, honest: list[Difference], tier: Tier) -> Self:
        """Bounds that accept 1.1 times the worst honest median seen and 1.5 times the worst row, and reject what is
        beyond some times of these, by the kind of comparison.
        """
        median = max(difference.median for difference in honest)
        maximum = max(difference.maximum for difference in honest)
        missing = 1.0 - min(difference.agreement for difference in honest)
        return cls(
            accept_median=max(ACCEPT_MARGIN * median, MIN_ACCEPT),
            accept_maximum=min(max(ACCEPT_MARGIN_ROW * maximum, MIN_ACCEPT), MAX_ACCEPT),
            accept_agreement=max(0.0, 1.0 - ACCEPT_MARGIN * missing),
            reject_median=max(REJECT_MARGIN[tier] * median, MIN_REJECT),
            reject_maximum=max(REJECT_MARGIN_ROW[tier] * maximum, MIN_REJECT),
            reject_agreement=max(0.0, 1.0 - REJECT_MARGIN[tier] * missing - 0.02),
        )

    def judge(self, difference: Difference) -> Finding:
        """Pass what is within all accept bounds, fail what is beyond any reject bound, else grey."""
        d = difference
        if d.exact or (
            d.median <= self.accept_median
            and d.maximum <= self.accept_maximum
            and d.agreement >= self.accept_agreement
        ):
            return Finding.PASS
        if (
            d.median > self.reject_median
            or d.maximum > self.reject_maximum
            or d.agreement < self.reject_agreement
        ):
            return Finding.FAIL
        return Finding.GREY


@dataclass(frozen=True)
class Bounds:
    """The bounds of one model, by kind of output and comparison, and what they were derived from.

    ``measured`` holds one row per honest variation, for people to look at.
    """

    model_id: str
    limits: dict[Kind, dict[Tier, Thresholds]]
    measured: tuple[dict[str, Any], ...] = ()

    @classmethod
    def conservative(cls, model_id: str) -> Self:
        """Wide bounds for a model that was never calibrated: they find coarse faults and punish nobody for others."""
        tiers: dict[Tier, Thresholds] = {
            "prefill": Thresholds(0.03, 0.06, 0.97, 0.10, 0.25, 0.70),
            "replay": Thresholds(0.002, 0.005, 0.99, 0.02, 0.05, 0.90),
            "foreign": Thresholds(0.05, 0.10, 0.95, 0.15, 0.40, 0.60),
        }
        return cls(model_id, {"body": tiers, "tail": tiers})

    def of(self, kind: Kind, tier: Tier) -> Thresholds:
        """The bounds of one comparison."""
        return self.limits[kind][tier]

    def tolerance(self, kind: Kind, *, own: bool, rounding: int = 0) -> int:
        """How far a row may be from one's own prefill to pass, in millionths: what verdicts claim.

        Args:
            own: the row was computed under one's own profile.
            rounding: what activations lose at most by how they travel, in millionths.
        """
        if own:
            # An exact replay passes rows of which the prefill left a doubt.
            most = max(self.of(kind, "prefill").reject_maximum, self.of(kind, "replay").accept_maximum)
        else:
            most = self.of(kind, "foreign").accept_maximum
        lost = rounding if kind == "body" else 0
        return min(int(MILLIONTHS * min(most, MAX_ACCEPT)) + lost, MOST_TOLERANCE)

    def is_exact(self, kind: Kind, tier: Tier) -> bool:
        """Whether honest computations were the same bit for bit in this comparison."""
        return self.of(kind, tier).accept_maximum <= MIN_ACCEPT

    def save(self, path: Path) -> None:
        """Write them as JSON, in one move."""
        document = {
            "format": FORMAT,
            "model_id": self.model_id,
            "limits": {
                kind: {tier: asdict(limits) for tier, limits in tiers.items()}
                for kind, tiers in self.limits.items()
            },
            "measured": self.measured,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path, model_id: str) -> Self:
        """Read them. Raises BadBounds: no such file, malformed, or of another model."""
        try:
            document = json.loads(path.read_text())
            if document["format"] != FORMAT or document["model_id"] != model_id:
                raise BadBounds(f"{path} holds the bounds of another model or format: calibrate again.")
            limits: dict[Kind, dict[Tier, Thresholds]] = {
                kind: {tier: Thresholds(**document["limits"][kind][tier]) for tier in _TIERS}
                for kind in _KINDS
            }
            return cls(model_id, limits, tuple(document.get("measured", ())))
        except FileNotFoundError:
            raise BadBounds(f"There are no bounds at {path}: run `hc-verifier calibrate`.") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadBounds(f"The bounds in {path} cannot be used: {error}.") from error


_KINDS: tuple[Kind, ...] = ("body", "tail")
_TIERS: tuple[Tier, ...] = ("prefill", "replay", "foreign")


def contradicts(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], tolerance: int) -> bool:
    """Whether two rows of activations, float [width], are too far apart to be both within `tolerance`, in millionths,
    of one row; as `Floats.differ` of the contracts.
    """
    t = 2.5 * min(tolerance, MOST_TOLERANCE) / MILLIONTHS
    x, y = first.astype(np.float64), second.astype(np.float64)
    return bool(np.sum((x - y) ** 2) > t * t * (np.sum(x * x) + np.sum(y * y)))


def is_sampled(secret: bytes, receipt_hash: bytes, rate: float) -> bool:
    """Say whether the stage that ends in this receipt is audited, with probability ``rate``.

    The draw is HMAC-SHA256 of the receipt under the client's secret: fixed by what the provider signed, and
    known to nobody else, so it cannot be guessed before signing nor shifted afterwards.
    """
    draw = hmac.digest(secret, receipt_hash, hashlib.sha256)[:8]
    return int.from_bytes(draw, "big") < rate * 2**64


def compare_rows(
    claimed: npt.NDArray[np.float32],
    own: npt.NDArray[np.float32],
    slack: npt.NDArray[np.float64] | None = None,
) -> Difference:
    """Compare activations, float32 [n, width] each, n >= 1.

    Where the claimed ones were rounded to steps, `slack` is how far each number may have been from what is claimed,
    float64 [n, width]: an error is what lies beyond. So it is no larger than before they were rounded.
    """
    if claimed.shape != own.shape or claimed.ndim != 2 or not len(claimed):
        return _nothing_in_common(len(claimed))
    if np.array_equal(claimed, own):
        return Difference(0.0, 0.0, 1.0, True, len(claimed))
    off = claimed.astype(np.float64) - own
    if slack is not None:
        off = np.maximum(np.abs(off) - slack, 0.0)
    apart = np.linalg.norm(off, axis=1)
    return _difference(apart, np.linalg.norm(own.astype(np.float64), axis=1), np.ones(len(own)), exact=False)


@dataclass(frozen=True, slots=True)
class Candidates:
    """For each of n rows the best tokens: ids int32 [n, k], logits float32 [n, k], logsumexp float64 [n]."""

    ids: npt.NDArray[np.int32]
    logits: npt.NDArray[np.float32]
    logsumexp: npt.NDArray[np.float64]


def compare_candidates(claimed: Candidates, own: Candidates) -> Difference:
    """Compare claimed candidates with one's own, of which there should be more: the claimed ones may be ordered
    otherwise where logits are close, and one that is not even among the wider choice counts as missing.
    """
    n = len(claimed.ids)
    if len(own.ids) != n or not n:
        return _nothing_in_common(n)
    k = claimed.ids.shape[1]
    apart, size, share = np.empty(n), np.empty(n), np.empty(n)
    exact = own.ids.shape[1] >= k and bool(
        np.array_equal(claimed.ids, own.ids[:, :k])
        and np.array_equal(claimed.logits, own.logits[:, :k])
        and np.array_equal(claimed.logsumexp, own.logsumexp)
    )
    for i in range(n):
        common, mine, theirs = np.intersect1d(claimed.ids[i], own.ids[i], return_indices=True)
        share[i] = len(common) / k
        claim = claimed.logits[i][mine] - claimed.logsumexp[i]
        truth = own.logits[i][theirs] - own.logsumexp[i]
        apart[i] = np.linalg.norm(claim - truth) if len(common) else HUGE
        size[i] = np.linalg.norm(truth) if len(common) else 1.0
    return _difference(apart, size, share, exact=exact)


def _difference(
    apart: npt.NDArray[np.float64],
    size: npt.NDArray[np.float64],
    share: npt.NDArray[np.float64],
    *,
    exact: bool,
) -> Difference:
    with np.errstate(all="ignore"):
        errors = np.where(apart == 0, 0.0, apart / size)
    errors = np.minimum(np.nan_to_num(errors, nan=HUGE, posinf=HUGE), HUGE)
    return Difference(float(np.median(errors)), float(errors.max()), float(share.mean()), exact, len(errors))


def _nothing_in_common(rows: int) -> Difference:
    return Difference(HUGE, HUGE, 0.0, False, rows)
