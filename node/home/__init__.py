"""The home of a program on disk: its settings, its keys, its lock, and what opens its chain and its ledger.

Everything that a command needs before it can do anything, and nothing that talks to a peer.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
