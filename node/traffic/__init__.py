"""Traffic: many requests over many models, each in its turn, paid from one wallet and written down.

`connect` gives a Market that asks for completions, in an event loop or without one; the gateway is built on the same.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
