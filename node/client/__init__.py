"""A client: chooses a path, pays each hop for each token, samples, and goes on when a hop dies.

`joined` gives a Client that is on the network; a Request goes in, events come out, and audits follow in the background.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
