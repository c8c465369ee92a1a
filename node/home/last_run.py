"""What a node remembers in its home from one run to the next, so that a restart forgets neither port nor price."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hypercluster.market.money.claiming import HCT_PER_COIN, MULTIPLE, ClaimRule

log = logging.getLogger(__name__)

FILE = "node.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LastRun:
    """The last run: multiaddrs that were listened on, the prices asked at its start (wei), and when it claimed."""

    listen: tuple[str, ...] = ()
    direct: str = ""
    price_wei: int | None = None
    prompt_price_wei: int | None = None
    hct_per_coin: int = HCT_PER_COIN
    claim_multiple: int = MULTIPLE

    @property
    def claim(self) -> ClaimRule:
        """When it claimed by itself."""
        return ClaimRule(hct_per_coin=self.hct_per_coin, multiple=self.claim_multiple)


def remembered(home: Path) -> LastRun:
    """What the last run of this home left; nothing where there is none, or where it cannot be read."""
    try:
        told: dict[str, Any] = json.loads((home / FILE).read_text())
        known = {name: told[name] for name in LastRun.__dataclass_fields__ if name in told}
        return LastRun(**{**known, "listen": tuple(known.get("listen", ()))})
    except FileNotFoundError:
        return LastRun()
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        log.warning("%s is not read: %s", home / FILE, error)
        return LastRun()


def remember(home: Path, **changes: Any) -> None:
    """Keep fields of LastRun for the next run. Raises OSError."""
    now = replace(remembered(home), **changes)
    part = (home / FILE).with_suffix(".part")
    part.write_text(json.dumps(asdict(now), indent=2) + "\n")
    part.replace(home / FILE)
