"""Who offers what, which path is lightest, and where prices settle: the paper's market, without any I/O."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
