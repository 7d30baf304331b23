"""Tables of runs side by side."""

import re

import pytest

from maskcon.cli.tables import lines
from maskcon.runs.compare import Row, markdown_table, text_tables

NAMES = ["maskcon, w 1, tau 0.05", "grafit, w 0.5, init /a|b/*c_d*, backbone timm/vit_small_dinov2"]
NAMES += ["coins, w 0.8, backbone /home/me/projects/photos/weights/resnet18.safetensors", "supcon"]
METRICS = ["recall@1", "recall@1/within_coarse", "knn@200", "linear", "nmi", "ari", "accuracy"]
METRICS += ["label_distance/maskcon/best_tau", "semi-supervised/1%/fine-tuned"]


def rows(count: int) -> list[Row]:
    """Rows of three seeds; no two values are alike."""
    return [
        Row(name, [0, 1, 2], [""] * 3, {m: [(i + 10 * j) / 1e3] * 3 for j, m in enumerate(some)})
        for some in [METRICS[:count]]
        for i, name in enumerate(NAMES)
    ]


def test_many_metrics_are_read_in_100_columns():
    """Names stand in a table of their own, whole; so do metrics and values."""
    shown = [line for table, left in text_tables(rows(9)) for line in lines(table, left, 100)]
    assert max(map(len, shown)) <= 100
    for place, name in enumerate(NAMES):
        assert any(re.fullmatch(rf"{'ABCD'[place]}  {re.escape(name)}\s+0,1,2", s) for s in shown)
    assert shown[5].split() == [*"ABCD"]
    for number, metric in enumerate(METRICS):
        wanted = [row.metrics[metric][0] for row in rows(9)]
        share = 1 if metric.startswith("label_distance") else 100
        words = shown[6 + number].replace(" ± 0.00", "").split()
        assert words[0] == metric
        assert [float(word) / share for word in words[1:]] == pytest.approx(wanted)


def cells(text: str) -> list[list[str]]:
    """The cells of a table in Markdown, letter by letter."""
    found = []
    for line in text.splitlines():
        row, cell, letters = [], "", iter(line[1:])
        for letter in letters:
            if letter == "|":
                row, cell = [*row, cell.strip()], ""
            else:
                cell += next(letters) if letter == "\\" else letter
        assert not cell
        found.append(row)
    return found


def test_markdown_has_every_name_metric_and_value():
    for count in (3, 9):
        head, rule, *body = cells(markdown_table(rows(count)))
        assert set(rule[1:]) == {"---:"}
        if count == 9:  # a line for each metric
            head, *body = map(list, zip(head, *body, strict=True))
        assert head == ["", *METRICS[:count]]
        assert [row[0] for row in body] == NAMES
        assert [row[1] for row in body] == [f"{i / 10:.2f} ± 0.00" for i in range(4)]


def test_a_letter_for_each_row():
    tables = text_tables([rows(9)[0]] * 30)
    assert [row[0] for row in tables[0][0][1:]][24:29] == ["Y", "Z", "AA", "AB", "AC"]
