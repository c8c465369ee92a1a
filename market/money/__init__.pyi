# The face of the room: what others use, loaded when it is first used. See docs/architecture.md, "Faces".

from .budget import (
    Budget,
    LimitReached,
    Period,
    PeriodBudget,
)
from .channel import (
    PayeeChannel,
    PayerChannel,
)
from .claiming import (
    ClaimRule,
    Outlook,
)
from .keystore import (
    create_key,
    load_key,
)
from .signing import (
    NOBODY,
    address_of,
    checksum,
)
from .units import (
    HCT,
    check_wei,
    format_hct,
    format_price,
    in_token,
    parse_hct,
    parse_price,
    pay_in,
    round_hct,
)
from .voucher import (
    ChannelDescriptor,
    VoucherDomain,
    charge,
)

__all__ = [
    "HCT",
    "NOBODY",
    "Budget",
    "ChannelDescriptor",
    "ClaimRule",
    "LimitReached",
    "Outlook",
    "PayeeChannel",
    "PayerChannel",
    "Period",
    "PeriodBudget",
    "VoucherDomain",
    "address_of",
    "charge",
    "check_wei",
    "checksum",
    "create_key",
    "format_hct",
    "format_price",
    "in_token",
    "load_key",
    "parse_hct",
    "parse_price",
    "pay_in",
    "round_hct",
]
