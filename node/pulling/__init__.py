"""Getting a model: whole or some of its layers, from the web or from peers, and giving blocks of it to others."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
