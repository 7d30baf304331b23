"""What a person sees while a command works."""

from maskcon.runtime import progress
from maskcon.runtime.progress import duration, screen


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
