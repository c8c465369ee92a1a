"""Markets of thousands of providers and clients in discrete time, seeded and reproducible.

`equilibrium` studies prices alone, `world` and `run` whole networks; `experiments` are those of
docs/economics.md.
"""
