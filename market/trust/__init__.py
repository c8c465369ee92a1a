"""Receipts and verdicts, how far apart honest computations are, and what a client believes of a peer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
