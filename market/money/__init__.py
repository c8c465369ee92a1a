"""Exact amounts, keys, signatures, vouchers, and both ends of a payment channel as state machines without I/O."""
