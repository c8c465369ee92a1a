"""The only room with llama.cpp in it: shards that compute, many sessions on one context, the client's sampler.

Nothing here knows of peers, money or the protocol; rows come in and rows go out (rows.py).
"""
