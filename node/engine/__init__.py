"""The only room with llama.cpp in it: shards that compute, many sessions on one context, the client's sampler.

Nothing here knows of peers, money or the protocol; rows come in and rows go out (rows.py).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
