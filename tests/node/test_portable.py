"""What a client imports and calls: nothing that only POSIX systems have, unless there is a way around it."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import hypercluster.node.cli.client.app as client

ROOT = Path(client.__file__).parents[3]
ROOMS = (
    *("node.cli.client", "node.client", "node.engine", "node.evidence", "node.home", "node.network"),
    *("node.replay", "node.shards", "node.wire", "node.identity", "node.rows", "node.threads", "market"),
)
"""what `hc-client` may come to run"""

POSIX_MODULES = frozenset(
    {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
)
POSIX_CALLS = {
    "os": frozenset(
        {
            *("chown", "chroot", "confstr", "ctermid", "fchdir", "fchmod", "fchown", "fork", "forkpty"),
            *("fdatasync", "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp"),
            *(
                "getpriority",
                "getsid",
                "getuid",
                "initgroups",
                "killpg",
                "lchown",
                "major",
                "minor",
                "mkfifo",
            ),
            *("mknod", "nice", "openpty", "pathconf", "pipe2", "posix_fadvise", "posix_fallocate"),
            *("posix_spawn", "pread", "preadv", "pwrite", "pwritev", "register_at_fork", "sched_getaffinity"),
            *("sched_setaffinity", "sched_yield", "sendfile", "setegid", "seteuid", "setgid", "setpgid"),
            *("setpriority", "setsid", "setuid", "statvfs", "sync", "sysconf", "tcgetpgrp", "tcsetpgrp"),
            *("ttyname", "uname", "wait", "wait3", "wait4", "waitid", "O_CLOEXEC", "O_DIRECTORY", "O_DIRECT"),
            *("O_DSYNC", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "O_TMPFILE"),
        }
    ),
    "signal": frozenset(
        {
            *("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP"),
            *("SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGXCPU", "alarm", "pthread_kill"),
            *("pthread_sigmask", "setitimer", "siginterrupt", "sigwait", "set_wakeup_fd"),
        }
    ),
    "socket": frozenset({"AF_UNIX", "fromfd", "socketpair"}),
}

WALK = """
import builtins, importlib, sys

names = sys.argv[1].split(",")
posix = set(sys.argv[2].split(","))
for name in names:
    importlib.import_module(name)  # with all that others have written, as this system has it
ours = [name for name in sys.modules if name.startswith("hypercluster")]
for name in ours:
    del sys.modules[name]
sys.platform = "win32"
real = builtins.__import__


def without(name, globals=None, locals=None, fromlist=(), level=0):
    asking = (globals or {}).get("__name__", "")
    if level == 0 and asking.startswith("hypercluster"):
        if name.partition(".")[0] in posix:
            raise ModuleNotFoundError(f"{asking} imports {name}")
        if name == "msvcrt":
            return None  # only the name is wanted here
    return real(name, globals, locals, fromlist, level)


builtins.__import__ = without
for name in names:
    importlib.import_module(name)
print(len(names), "modules")
"""


@cache
def modules() -> tuple[str, ...]:
    """Every module of the rooms, by its full name."""
    found = []
    for room in ROOMS:
        place = ROOT / room.replace(".", "/")
        for path in [place.with_suffix(".py")] if place.with_suffix(".py").exists() else place.rglob("*.py"):
            if path.stem != "__main__":
                parts = path.relative_to(ROOT).with_suffix("").parts
                found.append("hypercluster." + ".".join(parts).removesuffix(".__init__"))
    return tuple(sorted(found))


def test_all_that_a_client_imports_is_there_without_posix() -> None:
    """In a process that says it is Windows to our modules, with what only POSIX has hidden from them."""
    assert len(modules()) > 200
    done = subprocess.run(
        [sys.executable, "-c", WALK, ",".join(modules()), ",".join(POSIX_MODULES)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_call_on_a_clients_path_needs_posix() -> None:
    """Calls that only POSIX has stand behind a look at sys.platform."""
    found = []
    for name in modules():
        path = ROOT / Path(*name.split(".")[1:])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(file.read_text())
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If | ast.IfExp) and "sys.platform" in ast.unparse(node.test)
            for inner in ast.walk(node)
        }
        found += [
            f"{name}:{node.lineno} {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in POSIX_CALLS.get(node.value.id, ())
            and id(node) not in guarded
        ]
    assert not found, found
