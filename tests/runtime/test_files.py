"""Files: whole or not there, not through links, one process at a time."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import maskcon
from maskcon.errors import InputError, TrainingError
from maskcon.runtime import files

SOURCE = Path(maskcon.__file__).parent


def python(code: str, *words: object) -> subprocess.Popen:
    """Start another process."""
    head = (
        "import sys, os, time, signal\nfrom pathlib import Path\nfrom maskcon.runtime import files"
    )
    return subprocess.Popen(
        [sys.executable, "-c", f"{head}\n{code}", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def write_both(folder: Path, second: bytes) -> None:
    with files.together() as new:
        new.write(folder / "a", b"new")
        new.write(folder / "b", second)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_another(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})
    files.write_json(path, {"x": 2})
    assert json.loads(path.read_text()) == {"x": 2}
    files.write(path, b"one, ", memoryview(b"two"), earlier=tmp_path / "before")
    assert path.read_bytes() == b"one, two"
    files.write(path, b"three", earlier=tmp_path / "before")
    assert (tmp_path / "before").read_bytes() == b"one, two"
    assert names(tmp_path) == ["a.json", "before"]


def test_a_process_killed_while_it_writes(tmp_path):
    """The earlier file is there; what is left is told from files, and cleared."""
    path = tmp_path / "a"
    files.write(path, b"earlier")
    code = """
with files.replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert python(code, path).wait() == -signal.SIGKILL
    assert path.read_bytes() == b"earlier"
    left = [p for p in tmp_path.iterdir() if p != path]
    assert [p.read_bytes() for p in left] == [b"half"]
    assert files.is_temporary(left[0])
    assert not files.is_temporary(path)
    files.clear_temporary(tmp_path)
    assert names(tmp_path) == ["a"]


def test_nothing_is_written_through_a_link(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    for name in ("a", "b", "c"):
        (tmp_path / name).symlink_to(elsewhere)
    files.write(tmp_path / "a", b"new")
    with files.together() as new:
        new.write(tmp_path / "b", b"new")
        new.write(tmp_path / "other", b"new")
    with pytest.raises(OSError, match="symbolic link"):
        files.appending(tmp_path / "c")
    assert elsewhere.read_text() == "mine"
    assert [(tmp_path / name).is_symlink() for name in "abc"] == [False, False, True]
    assert (tmp_path / "b").read_bytes() == b"new"
    (tmp_path / "c.lock").symlink_to(elsewhere)
    with pytest.raises(TrainingError, match="cannot be written"), files.locked(tmp_path / "c"):
        pass
    assert elsewhere.read_text() == "mine"


def test_a_folder_that_cannot_be_written():
    """/proc and /sys, since root may write to a folder whose mode says no."""
    with pytest.raises(TrainingError, match=r"/proc/a could not .*there is no earlier one"):
        files.write(Path("/proc/a"), b"x")
    with pytest.raises(TrainingError, match="/sys/a cannot"), files.locked(Path("/sys/a")):
        pass
    with (
        pytest.raises(TrainingError, match="/proc/a could"),
        files.replacing_folder(Path("/proc/a")),
    ):
        pass


@pytest.mark.parametrize("there", [True, False])
def test_a_set_of_which_one_cannot_be_renamed(tmp_path, there):
    """None of the files has changed: neither where there were earlier ones nor where none were."""
    if there:
        (tmp_path / "a").write_bytes(b"earlier")
    (tmp_path / "b").mkdir()  # a folder's place is not taken by a file
    before = names(tmp_path)
    with pytest.raises(TrainingError, match="b could not be written"):
        write_both(tmp_path, b"new")
    assert names(tmp_path) == before
    assert not there or (tmp_path / "a").read_bytes() == b"earlier"


def test_a_set_that_is_broken_off(tmp_path):
    (tmp_path / "a").write_bytes(b"earlier")
    with pytest.raises(TypeError):
        write_both(tmp_path, "no bytes")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"earlier"


def test_folders(tmp_path):
    folder = tmp_path / "a"
    with files.replacing_folder(folder) as new:
        (new / "x").write_text("1")
    with pytest.raises(ZeroDivisionError), files.replacing_folder(folder) as new:
        (new / "y").write_text(str(1 // 0))
    assert (names(tmp_path), names(folder)) == (["a"], ["x"])
    with files.replacing_folder(folder) as new:
        (new / "y").write_text("2")
    assert (names(tmp_path), names(folder)) == (["a"], ["y"])
    assert files.make_folder(tmp_path / "b" / "c") == [tmp_path / "b" / "c", tmp_path / "b"]


def test_appending(tmp_path):
    path = tmp_path / "a"
    for content in (b"one", b"two"):
        with files.appending(path) as file:
            file.write(content)
    with files.appending(path, size=4) as file:
        assert file.tell() == 4
        file.write(b"!")
    files.rename(path, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"onet!"
    assert names(tmp_path) == ["b"]


def test_two_processes_count(tmp_path):
    """Fifty times each, reading, changing and writing: no change is lost."""
    code = """
path = Path(sys.argv[1])
for _ in range(50):
    with files.locked(path, wait=files.WAIT):
        count = int(path.read_text()) if path.exists() else 0
        time.sleep(0.001)
        files.write(path, str(count + 1).encode())
"""
    path = tmp_path / "count"
    both = [python(code, path) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0], both[0].stderr.read()
    assert path.read_text() == "100"
    assert names(tmp_path) == ["count"]


def test_a_lock_names_its_holder(tmp_path):
    path = tmp_path / "a"
    code = """
with files.locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
    holder = python(code, path)
    assert holder.stdout.readline() == "held\n"
    for _ in range(2):  # who is refused does not change what it says
        with (
            pytest.raises(
                InputError,
                match=rf"^the file is in use by process {holder.pid} on .+, since 2\d{{3}}-",
            ),
            files.locked(path, "the file"),
        ):
            pass
    start = time.monotonic()
    with pytest.raises(InputError, match="a is in use by"), files.locked(path, wait=0.3):
        pass
    assert 0.3 <= time.monotonic() - start < 5
    holder.kill()
    holder.wait()
    assert (tmp_path / "a.lock").exists()
    with files.locked(path):  # what a killed process leaves is no obstacle
        assert files.is_temporary(tmp_path / "a.lock")
    assert names(tmp_path) == []


def test_check_output(tmp_path):
    file, folder = tmp_path / "a.csv", tmp_path / "b"
    assert files.check_output(str(file), suffixes=(".csv",)) == file
    file.touch()
    folder.mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for path, options, message in (
        (file, {"suffixes": (".x", ".y")}, r"ends in '.csv': give --out a name in \.x, \.y"),
        (file, {}, r"a.csv exists: give another --out, or --overwrite"),
        (file, {"instead": "--add"}, r"exists: give another --out, --add, or --overwrite"),
        (tmp_path / "link", {}, "link exists"),
        (file, {"folder": True}, "a.csv is a file: give --out a folder"),
        (folder, {"overwrite": True}, "b is a folder: give --out the name of a file"),
        (folder, {"folder": True, "earlier": [folder, file]}, "b exists"),
        (tmp_path / "no" / "x", {"option": "--json"}, "no is no folder: make it, or .* --json"),
    ):
        with pytest.raises(InputError, match=message):
            files.check_output(path, **options)
    files.check_output(file, overwrite=True)
    files.check_output(folder, folder=True, earlier=[folder / "x"])


# Other ways to write, and who may have them: scratch files that go with their process.
WRITING = (
    r"os\.replace|os\.rename|os\.fsync|os\.link|\.rename\(|\.write_bytes\(|\.write_text\(|\.touch\("
    r"|\bopen\([^)]*[\"'][rb+]*[wax]|\bopen\([^)]*[\"']r?b?\+|NamedTemporaryFile|mkstemp|shutil\.copy"
    r"|shutil\.move|\.tofile\(|np\.savez?\w*\(\w*path|\.savefig\(\w*path|save_file\(|OSFile|\.mkdir\("
)
EXCEPTIONS = {
    "runtime/files.py",
    "benchmark/answer.py",  # what the plain script writes, in a temporary folder
    "benchmark/embedding.py",  # a network's graph in a temporary folder
    "benchmark/loader.py",  # pictures, likewise
    "benchmark/sides.py",
    "data/readers/arrow.py",  # the pictures of Parquet files, which go with their reader
    "export/hub.py",  # fills a folder that takes its place when it is whole
}


def test_there_is_no_other_way_to_write():
    found = {
        f"{path.relative_to(SOURCE)}: {line.strip()}"
        for path in SOURCE.rglob("*.py")
        if path.relative_to(SOURCE).as_posix() not in EXCEPTIONS
        for line in path.read_text().splitlines()
        if re.search(WRITING, line) and "archive.open(" not in line
    }
    assert found == set()
    assert all((SOURCE / name).exists() for name in EXCEPTIONS)
