"""A verifier: runs stages again for pay, and judges cases on committees.

`run_verifier` is the whole process; VerifierTerms say what it sells.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
