"""E3: Ctrl-C ends what runs in good order, and once more ends the process with its last words."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal, sys, trio
from hypercluster.node.cli.client.interrupts import interrupts

async def main():
    async with interrupts(lambda: print("last words", flush=True)) as stop:
        with stop.guard():
            for _ in range(2 if sys.argv[1] == "echo" else 1):
                os.kill(os.getpid(), signal.SIGINT)
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.02)
            await trio.sleep_forever()
        await trio.sleep(0.1)
        print("ended", stop.seen, flush=True)
        if sys.argv[1] == "twice":
            with stop.guard():
                os.kill(os.getpid(), signal.SIGTERM)
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.5)
                    os.kill(os.getpid(), signal.SIGINT)
                    await trio.sleep_forever()

trio.run(main)
print("done")
"""


def _run(how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, timeout=600, check=False
    )


def test_e3_one_ctrl_c_lets_the_rest_follow() -> None:
    done = _run("once")
    assert (done.returncode, done.stdout) == (0, "ended 1\ndone\n")


def test_e3_a_signal_sent_to_the_process_and_to_its_group_is_one() -> None:
    """As `timeout` does it."""
    done = _run("echo")
    assert (done.returncode, done.stdout) == (0, "ended 1\ndone\n")


def test_e3_once_more_ends_the_process_though_something_hangs() -> None:
    done = _run("twice")
    assert (done.returncode, done.stdout) == (130, "ended 1\nlast words\n")
