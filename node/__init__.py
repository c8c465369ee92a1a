"""What runs: model shards, their engine, the network between nodes, providers and clients.

`connect` is what programs begin with: `from hypercluster.node import connect`.
"""

import os

import lazy_loader

# Read once by libgomp when llama.cpp loads it, hence here, before anything can. By default its threads spin for
# milliseconds at each barrier and after each computation, on cores that other providers, or anything else on the
# machine, have work for. 1000 turns outlast the short barriers within a computation and little more: as fast on
# an idle machine, many times faster on a busy one (docs/performance.md). What the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Where llama.cpp gives up, it would start a debugger on its own process, which may wait for ever and keeps open the
# pipes that others wait for the end of.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
