"""Receipts and verdicts, how far apart honest computations are, and what a client believes of a peer."""
