"""Whether what each provider of a request was sent is what the one before it answered, as far as receipts tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from hypercluster.node.evidence.bundle import PaidSession, by_path


def seam_faults(sessions: Sequence[PaidSession], begins: int = 0) -> Iterator[str]:
    """What does not fit between the sessions of a request whose paths begin at layer `begins`, in sentences.

    Where somebody took over in the middle of an answer, rows that had come in several steps were sent in one, of which
    there is no root to compare; such steps are passed over, and so are those of who stood by for another, and those
    that were taken again from where they began: who broke sent their rows on, and signed for nothing.
    """
    # Who did nothing else was on no path.
    sessions = [each for each in sessions if not each.aside or each.aside < len(each.steps)]
    faults = [fault for path in by_path(sessions, begins) for fault in _path_faults(path, begins)]
    if faults and any(_replaced(each, sessions) for each in sessions):
        faults = [fault for each in sessions for fault in _mended_faults(each, sessions, begins)]
    yield from faults


def _path_faults(path: Sequence[PaidSession], begins: int) -> Iterator[str]:
    """Of a path over which all went from its first step to its last."""
    if path[0].record.layer_start != begins:
        yield f"A path begins at layer {path[0].record.layer_start}, not at {begins}."
    for first, second in pairwise(path):
        seam = first.record.layer_stop
        if second.record.layer_start != seam:
            yield f"A path goes on at layer {second.record.layer_start} where layer {seam} comes next."
            continue
        if len(second.steps) > len(first.steps):
            yield f"At layer {seam} more steps went in than came out."
        # What the one computed the other may have dropped before it began.
        answered = iter(first.steps)
        for number, got in enumerate(second.steps[second.aside :], second.aside):
            sent = (got.in_root, got.position, got.tokens)
            if all((gave.out_root, gave.position, gave.tokens) != sent for gave in answered):
                yield _other(number, second, first)
                break


def _mended_faults(session: PaidSession, sessions: Sequence[PaidSession], begins: int) -> Iterator[str]:
    """Of one session of a path in which others took somebody's place."""
    start = session.record.layer_start
    before = [each for each in sessions if each.record.layer_stop == start]
    if start == begins:
        return
    if not before:
        yield f"A path begins at layer {start}, not at {begins}."
        return
    answered = {(gave.out_root, gave.position, gave.tokens) for each in before for gave in each.steps}
    read_again = [
        range(gave.position, gave.position + gave.tokens)
        for each in before
        if _replaced(each, sessions)
        for gave in each.steps
        if gave.tokens > 1
    ]
    gone = _replaced(session, sessions)
    # What those had read who were there before it, and at first the step that they broke at.
    had = max((step.position + step.tokens for each in gone for step in each.steps), default=0)
    first = bool(gone)
    # Where the lowest begins of a step and those after it.
    lowest = [*accumulate((step.position for step in reversed(session.steps)), min)][::-1]
    for number, got in enumerate(session.steps[session.aside :], session.aside):
        again = number + 1 < len(lowest) and lowest[number + 1] <= got.position
        if (got.in_root, got.position, got.tokens) in answered:
            first = False
        elif not (first or again or got.position < had) and not any(
            got.position in rows and got.position + got.tokens <= rows.stop for rows in read_again
        ):
            yield _other(number, session, before[-1])
            return


def _replaced(session: PaidSession, sessions: Sequence[PaidSession]) -> list[PaidSession]:
    """Those who had some of its layers before it: who broke stands before who took its place."""
    place = next(at for at, each in enumerate(sessions) if each is session)
    mine = session.record
    return [
        each
        for each in sessions[:place]
        if each.record.layer_start < mine.layer_stop and mine.layer_start < each.record.layer_stop
    ]


def _other(number: int, session: PaidSession, before: PaidSession) -> str:
    return (
        f"Step {number} at layer {session.record.layer_start}: what {session.record.peer} was sent is not what "
        f"{before.record.peer} answered."
    )
