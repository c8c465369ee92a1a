"""The gateway: OpenAI's, Anthropic's and Ollama's APIs over the market, with keys that have budgets, and its pages.

An API reads its bodies into `Asked` and writes `Chunk`s in its own words; `Live` does what is between, for all of them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
