"""What a person sees while a command works."""

import pytest

from maskcon.runtime import progress
from maskcon.runtime.progress import Silent, duration, follower, screen


def test_short_work_says_nothing_where_there_is_no_terminal(capsys, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with screen() as told:
        told.update("at once")
        now += progress.PLAIN_EVERY
        told.update("after half a minute")
        told.update("right after it")
        told.note("something that stays")
    assert capsys.readouterr().out.splitlines() == ["after half a minute", "something that stays"]


def test_a_terminal_has_one_moving_line(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    with screen() as told:
        told.update("moving")
        told.note("staying")
    out = capsys.readouterr().out
    assert "moving" in out
    assert out.index("staying") > out.index("moving")
    assert "\x1b[2K" in out  # the line is removed at the end


def test_durations():
    assert [duration(s) for s in (41.6, 190, 7500)] == ["42s", "3m10s", "2h05m"]


def test_a_notebook_is_told_where_nobody_is_named():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cell = nbformat.v4.new_code_cell(
        "from maskcon.runtime.progress import follower\n"
        "told = follower(None)\n"
        "told.update('moving')\n"
        "told.note('staying')\n"
        "told.close()"
    )
    book = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    texts = [out["data"]["text/plain"] for out in cell.outputs if out.output_type == "display_data"]
    streams = "".join(out["text"] for out in cell.outputs if out.output_type == "stream")
    assert texts == [""]  # the moving line, which is empty at the end
    assert streams == "staying\n"


def test_a_script_is_told_nothing():
    assert isinstance(follower(None), Silent)
    told = Silent()
    assert follower(told) is told
