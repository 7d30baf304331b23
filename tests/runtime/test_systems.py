"""What other systems lack: names of `os` and `signal`, modules, a character set of all letters."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import maskcon
from maskcon.data.sets import glyphs
from tests.conftest import FAST, write_tree

SOURCE = Path(maskcon.__file__).parent
# What Python's documentation has for Unix alone.
OS = """
    O_DIRECTORY O_NOFOLLOW O_CLOEXEC O_NONBLOCK O_SYNC O_DSYNC O_NOCTTY WNOHANG chown chroot
    copy_file_range ctermid eventfd fchdir fchown fork forkpty fstatvfs getegid geteuid getgid
    getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid initgroups killpg
    lchown lockf major makedev memfd_create minor mkfifo mknod nice openpty pathconf
    posix_fadvise posix_fallocate posix_spawn pread preadv pwrite pwritev readv
    sched_getaffinity sched_getscheduler sched_setaffinity sched_yield sendfile setegid seteuid
    setgid setpgid setpriority setsid setuid statvfs sync sysconf tcgetpgrp ttyname uname wait
    wait3 wait4 waitid writev
"""
SIGNAL = """
    SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGUSR1
    SIGUSR2 SIGWINCH alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt
    sigwait
"""
NOT_ON_WINDOWS = {"os": OS.split(), "signal": SIGNAL.split()}
UNIX_MODULES = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios")

# Every module is imported, and a run trained, judged and embedded, in a process where what maskcon
# imports as `os` and `signal` lacks those names. Other packages have branches of their own.
WORK = """
import builtins, os, pkgutil, signal, sys, types, warnings
from importlib import import_module
from pathlib import Path

absent, modules, fast = {absent!r}, {modules!r}, {fast!r}
imported = builtins.__import__
less = {{}}
for whole in (os, signal):
    less[whole.__name__] = types.ModuleType(whole.__name__)
    for name, value in vars(whole).items():
        if name not in absent[whole.__name__]:
            setattr(less[whole.__name__], name, value)

def without(name, scope=None, *words, **options):
    if str((scope or {{}}).get("__name__", "")).startswith("maskcon"):
        if name in modules:
            raise ModuleNotFoundError(name)
        if name in less:
            return less[name]
    return imported(name, scope, *words, **options)

builtins.__import__ = without
warnings.filterwarnings("error", category=EncodingWarning, module="maskcon")

import maskcon
for found in pkgutil.walk_packages(maskcon.__path__, "maskcon."):
    if not found.name.endswith("__main__"):
        import_module(found.name)

from maskcon import commands
from maskcon.benchmark.sides import _peaks
from maskcon.runtime import files

assert _peaks()["host"] == 0
assert not hasattr(files.os, "O_DIRECTORY")
here = Path.cwd()
with files.locked(here / "a.json"):
    files.write_json(here / "a.json", {{"\u00e4": 1}})
    files.write(here / "a.json", b"[2]", earlier=here / "b.json")
assert files.parse_json((here / "a.json").read_text(encoding="utf-8")) == [2]
with files.together() as new:
    for name in "xy":
        new.write(here / name, b"1")
with files.replacing_folder(here / "folder") as folder:
    files.write(folder / "file", b"2")
with files.appending(here / "x", size=0) as file:
    file.write(b"3")
files.rename(here / "x", here / "z")
assert (here / "z").read_bytes() == b"3" and (here / "folder" / "file").read_bytes() == b"2"
commands.train(out="run", data="data", workers=1, **fast)
assert "recall@1" in commands.eval("run")
assert commands.embed("run", out="v.npz")["images"] == 48
commands.train(out="run", resume=True)
print("done")
"""


def test_all_that_other_systems_lack_has_a_fallback(tmp_path):
    """Nothing is imported, locked, written, trained or read with what Windows has not."""
    write_tree(tmp_path / "data", glyphs.make(train=32, test=16))
    script = WORK.format(absent=NOT_ON_WINDOWS, modules=UNIX_MODULES, fast=FAST)
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr


def test_names_that_other_systems_lack_are_looked_for_first():
    """By `hasattr` or `getattr`, in each function that uses one."""
    for path in sorted(SOURCE.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            text = ast.unparse(function)
            for holder, names in NOT_ON_WINDOWS.items():
                for name in re.findall(rf"\b{holder}\.(\w+)", text):
                    guarded = f"hasattr({holder}, '{name}')" in text
                    assert name not in names or guarded, f"{path}: {function.name}: {holder}.{name}"


def test_text_is_read_and_written_in_a_known_encoding():
    for path in sorted(SOURCE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = getattr(getattr(call, "func", None), "attr", "")
            if isinstance(call, ast.Call) and name in ("read_text", "write_text"):
                said = {keyword.arg for keyword in call.keywords}
                assert "encoding" in said or call.args, f"{path}:{call.lineno}"
