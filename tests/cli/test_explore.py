"""What `explore` tells before it begins."""

import re

import torch

from maskcon.commands._explore import MADE, expectation
from maskcon.data.pictures import Arrays, Files
from maskcon.encoder import Encoder
from maskcon.search import index as indexes
from maskcon.search import ivf
from tests.conftest import untrained_run

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
