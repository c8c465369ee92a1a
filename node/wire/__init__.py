"""The protocol: messages as frozen objects that cannot hold a value out of bounds, and their encoding.

Importing it loads neither llama.cpp nor libp2p nor web3, so that anybody may speak the protocol cheaply.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
