"""What provider and verifier share: being present on the network, being paid, refusing, periodic jobs.

A Presence is a node that is there; a Collector is who is paid for it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
