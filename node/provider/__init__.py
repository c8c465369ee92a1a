"""A provider: serves layers [start, stop) of a model to whoever pays, and answers for what it signed.

`run_provider` is the whole process; ProviderTerms say what it sells.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
