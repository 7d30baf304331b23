"""What `explore` tells before it begins."""

import re

import pytest
import torch

from maskcon.commands import choice
from maskcon.commands._explore import MADE, _unlearned, expectation
from maskcon.commands.sources import find_set, resolved
from maskcon.data.pictures import Arrays, Files
from maskcon.data.sets import glyphs
from maskcon.encoder import Encoder, joined
from maskcon.runtime.progress import Silent
from maskcon.search import index as indexes
from maskcon.search import ivf
from tests.conftest import picture_tree, untrained_run

SECONDS = r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?"


def test_the_time_without_labels_is_told_by_some_of_the_pictures(tmp_path):
    encoder = Encoder.load(untrained_run(tmp_path / "run", seed=0), device="cpu")
    random = torch.Generator().manual_seed(0)
    for count in (3, 30, 2 * MADE):
        pixels = torch.randint(256, (count, 3, 16, 16), generator=random, dtype=torch.uint8)
        line = expectation(encoder, Arrays(pixels))
        found = re.fullmatch(
            rf"it will take about {SECONDS}: {SECONDS} for {count} vectors, of which those that "
            rf"are known take no time, and {SECONDS} for their tree and map "
            rf"\(measured on {min(count, 24)} pictures and {min(count, MADE)} made vectors\)",
            line,
        )
        whole, *parts = (
            sum(int(part or 0) * unit for part, unit in zip(group, (3600, 60, 1), strict=True))
            for group in (found.groups()[i : i + 3] for i in (0, 3, 6))
        )
        assert abs(whole - sum(parts)) <= 1  # each is rounded
    assert expectation(encoder, Files([tmp_path / "none.jpg"])) is None


def test_many_pictures_are_not_searched_exactly_where_several_ask():
    assert indexes.kind_for_many(indexes.ALONE_UP_TO) == "auto"
    many = indexes.kind_for_many(indexes.ALONE_UP_TO + 1)
    assert many == ("ivf" if ivf.installed() else "auto")


def test_a_set_of_a_test_part_alone_has_vectors_too(tmp_path):
    if choice.ready(download=False) is None:
        pytest.skip("no pretrained network is on this machine")
    picture_tree(tmp_path / "photos" / "test", glyphs.make(train=8, test=4).train, side=16)
    config = resolved({"data": str(tmp_path / "photos")}, None)
    found = find_set(config, Silent())
    assert [*found.parts] == ["test"]
    _unlearned(tmp_path / "run", config, found, Silent())
    assert len(Encoder.load(tmp_path / "run").embed_readable(joined(found)).rows) == 8
