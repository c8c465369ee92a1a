"""Why a dial failed, told from what the layers below raise."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import trio

from hypercluster.node.errors import Trouble, UnknownHost

_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM)


def trouble_of(error: BaseException) -> Trouble:
    """The trouble behind `error`: its causes say it, the error itself seldom does."""
    for each in _chain(error):
        if isinstance(each, UnknownHost):
            return Trouble.UNKNOWN_HOST
        if isinstance(each, ConnectionRefusedError):
            return Trouble.REFUSED
        if isinstance(each, (trio.TooSlowError, TimeoutError)):
            return Trouble.TIMEOUT
        if isinstance(each, OSError) and each.errno in _NO_ROUTE:
            return Trouble.NO_ROUTE
        if "mismatch" in f"{type(each).__name__} {each}".lower():
            return Trouble.WRONG_PEER
    return Trouble.NO_NODE


def reason_of(error: BaseException) -> str:
    """What the system or a name service said behind `error`, else its own words."""
    chain = list(_chain(error))
    system = (each for each in chain if isinstance(each, UnknownHost) or getattr(each, "errno", None))
    said = next(system, chain[-1])
    return str(said).rstrip(".") or type(said).__name__


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    rest = [error]
    while rest:
        each = rest.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        # py-libp2p's MultiError keeps what it wraps in a list, as groups do.
        wrapped = (*getattr(each, "exceptions", ()), *getattr(each, "errors", ()))
        rest += [one for one in wrapped if isinstance(one, BaseException)]
        rest += [one for one in (each.__cause__,) if one is not None]
