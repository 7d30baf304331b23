"""Tables on the screen."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from maskcon.cli import cli
from maskcon.cli.tables import lines
from maskcon.config import Config


def test_columns():
    table = [["", "seeds", "path"], ["maskcon", "0,1", "a"], ["coins", "12", "long/b"]]
    assert lines(table, left=(0, 2)) == [
        "         seeds  path",
        "maskcon    0,1  a",
        "coins       12  long/b",
    ]


def test_text_is_wrapped_and_columns_without_room_go_below():
    table = [["", *(f"metric {i}" for i in range(6))], ["a name of " * 6, *["12.34 ± 0.56"] * 6]]
    shown = lines(table, width=50)
    assert max(map(cell_len, shown)) <= 50
    assert "\n".join(shown).count("12.34 ± 0.56") == 6
    assert shown.count("") == 2  # three blocks
    assert lines(table)[1] == "  ".join([table[1][0], *["12.34 ± 0.56"] * 6])


def test_names_are_text():
    for name in ("[bold red]x[/]", ":smile:", "\x1b[31mred", "two\nlines", "\u202eback"):
        (_, line) = lines([["", "n"], [name, "1"]])
        assert "\x1b" not in line
        assert line.split()[-1] == "1"
    assert lines([["", "n"], ["[bold]x", "1"]])[1].startswith("[bold]x")


@given(
    st.lists(st.lists(st.text(max_size=60), min_size=4, max_size=4), min_size=2, max_size=4),
    st.sampled_from([40, 80, 100]),
)
@settings(max_examples=40, deadline=None)
def test_any_text_fits(table, width):
    assert max(map(cell_len, lines(table, left=(0, 1, 2, 3), width=width))) <= width


@pytest.fixture
def many(tmp_path) -> list[str]:
    """Runs of many metrics and long names."""
    metrics = [f"recall@{k}{end}" for end in ("", "/within_coarse") for k in (1, 2, 5, 10)]
    metrics += ["nmi/within_coarse/estimated", "clusters/estimated/high", "coarse_accuracy"]
    folders = []
    for i in range(9):
        config = Config(epochs=100 + i, backbone=f"timm/a_network_of_a_long_name_{i}").as_dict()
        run = {
            "status": "finished",
            "config": {**config, "w": 0.5, "tau": 0.1, "t": 0.1},
            "results": dict.fromkeys(metrics, 0.5 + i / 100),
            "data": {"name": "x"},
        }
        folder = tmp_path / f"run{i}"
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(run))
        folders.append(str(folder))
    return folders


@pytest.mark.parametrize("metrics", [(), ("--metrics", "recall@1,recall@2/within_coarse")])
def test_a_comparison_fits_a_terminal_of_100_columns(many, metrics):
    done = CliRunner().invoke(cli, ["compare", *many, *metrics], env={"COLUMNS": "100"})
    assert done.exit_code == 0, done.output
    shown = done.output.splitlines()
    assert max(map(cell_len, shown)) <= 100
    for i in range(9):
        assert done.output.count(f"{50 + i}.00") == (2 if metrics else 10)
    piped = CliRunner().invoke(cli, ["compare", *many, *metrics], env={"COLUMNS": None})
    assert len(piped.output.splitlines()) == (10 if metrics else 10 + 1 + 12)
