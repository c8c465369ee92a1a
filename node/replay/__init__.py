"""Running a transcript again and saying how far the answers are from it, within bounds that calibration finds.

Auditors of all kinds and committees judge by what stands here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
