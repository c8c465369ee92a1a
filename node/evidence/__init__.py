"""What the two ends of a session can hold against each other: receipts, transcripts, verdicts.

Both ends compute the same receipts from the same steps, and keep the rows for as long as a dispute can ask for them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
