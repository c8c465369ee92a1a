"""The descriptors that a process needs for all the connections it takes: files and sockets count alike."""

from __future__ import annotations

import sys

from hypercluster.node.network.bounds import BOUNDS

if sys.platform != "win32":
    import resource

OWN = 1024
"""for what the node itself opens: listeners, connections that it dials, the ledger, transcripts, HTTP"""
OWN_AT_LEAST = 128
STRANGERS = sum(BOUNDS[name].at_once or 0 for name in ("connection", "handshake", "stream"))
NEEDED = OWN + STRANGERS


def raise_limit(needed: int = NEEDED) -> int:
    """Raise the soft limit of this process to `needed` descriptors, never lower it; how many it may have now.

    Windows has no such limit.
    """
    if sys.platform == "win32":
        return needed
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return needed if soft == resource.RLIM_INFINITY else soft
    wanted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return soft
    return wanted


def share_for(got: int) -> float:
    """The share of their places that strangers get with `got` descriptors; 1 where there are enough."""
    return 1.0 if got >= NEEDED else max(0.02, (got - OWN_AT_LEAST) / NEEDED)


def complaint(got: int) -> str:
    """What to tell an operator whose system allows fewer descriptors than needed; empty if there are enough."""
    if got >= NEEDED:
        return ""
    return (
        f"This system allows a process {got} open files and connections, and a node that strangers besiege needs "
        f"{NEEDED}: it takes fewer connections at once. Raise the limit (ulimit -Hn {NEEDED}, or "
        f"LimitNOFILE={NEEDED} for a service of systemd)."
    )
