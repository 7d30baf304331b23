"""What installed packages add."""

import logging

from maskcon.runtime import plugins


def test_an_entry_is_loaded_once(installed):
    installed("toy_one", "made = [object()]", {"maskcon.toys": {"one": "toy_one:made"}})
    first = plugins.entries("maskcon.toys")
    assert list(first) == ["one"]
    assert plugins.entries("maskcon.toys") is first
    assert plugins.entries("maskcon.others") == {}


def test_what_cannot_be_loaded_is_named_and_left_out(installed, caplog):
    installed("toy_broken", "1 / 0", {"maskcon.toys": {"a": "toy_broken:made"}})
    installed("toy_empty", "", {"maskcon.toys": {"b": "toy_empty:made"}})
    installed("toy_whole", "made = 7", {"maskcon.toys": {"c": "toy_whole:made"}})
    with caplog.at_level(logging.WARNING, "maskcon"):
        assert plugins.entries("maskcon.toys") == {"c": 7}
        plugins.entries("maskcon.toys")
    assert sorted(record.getMessage().split(" is left out")[0] for record in caplog.records) == [
        "a of maskcon.toys, from the package toy_broken,",
        "b of maskcon.toys, from the package toy_empty,",
    ]
    assert "division by zero" in caplog.text


def test_names_of_maskcon_are_not_replaced(installed, caplog):
    points = {"maskcon.toys": {"ours": "toy_names:made", "theirs": "toy_names:made"}}
    installed("toy_names", "made = 7", points)
    assert plugins.with_own({"ours": 1}, "maskcon.toys") == {"ours": 1, "theirs": 7}
    assert plugins.with_own({"ours": 1}, "maskcon.toys") == {"ours": 1, "theirs": 7}
    assert caplog.text.count("maskcon has one of this name") == 1


def test_an_entry_of_a_kind_or_a_function_that_makes_one(installed, caplog):
    names = {"a": "toy_kinds:made", "b": "toy_kinds:make", "c": "toy_kinds:word", "d": "os:abort_"}
    installed("toy_kinds", "made = 7\ndef make(): return 8\nword = 'x'", {"maskcon.toys": names})
    assert plugins.with_own({}, "maskcon.toys", int) == {"a": 7, "b": 8}
    assert "c of maskcon.toys, from the package toy_kinds, is left out: TypeError" in caplog.text
    assert "d of maskcon.toys, from the package toy_kinds, is left out: Attribute" in caplog.text
