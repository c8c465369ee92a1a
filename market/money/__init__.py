"""Exact amounts, keys, signatures, vouchers, and both ends of a payment channel as state machines without I/O."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
