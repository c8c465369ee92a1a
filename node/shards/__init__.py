"""Model files, shards and manifests: everything about GGUF that happens before llama.cpp.

No file is trusted. What is cut and what is loaded is compared with the manifest, which names the model for everybody.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
