"""Local networks for trying things out and for tests: a chain, nodes, the demos, nodes that cheat.

Never imported by what earns.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
