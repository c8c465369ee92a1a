# The face of the room: what others use, loaded when it is first used. See docs/architecture.md, "Faces".

from .advert_file import AdvertFile
from .alternatives import k_best
from .deterrence import required_stake
from .frontier import pick
from .graph import (
    AdvertTable,
    BadNode,
    Node,
    NoPath,
    node_of,
)
from .parameters import (
    BadParameters,
    MarketParameters,
)
from .placement import (
    Machine,
    ModelSize,
)
from .pricing import (
    PriceStep,
    price_step,
)
from .routing import (
    Path,
    best_path,
    rivals,
)

__all__ = [
    "AdvertFile",
    "AdvertTable",
    "BadNode",
    "BadParameters",
    "Machine",
    "MarketParameters",
    "ModelSize",
    "NoPath",
    "Node",
    "Path",
    "PriceStep",
    "best_path",
    "k_best",
    "node_of",
    "pick",
    "price_step",
    "required_stake",
    "rivals",
]
