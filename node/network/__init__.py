"""The only room with libp2p in it: hosts, connections, discovery, and the order book of what is offered.

It carries messages and adverts, and says why somebody cannot be reached. What is sold over it is not its business.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
