"""What every HTTP listener of ours shares: the server, who may ask, log-in by link, pages, health and metrics.

`serve` runs an application, `guarded` keeps strangers out of it; Logins know who opened the link.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
