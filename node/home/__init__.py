"""The home of a program on disk: its settings, its keys, and what opens its chain and its ledger.

Everything that a command needs before it can do anything, and nothing that talks to a peer.
"""
