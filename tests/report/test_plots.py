"""The pictures of a run folder, drawn in full; in other tests they are blank."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from maskcon import commands
from maskcon.data import DataSet
from maskcon.report import plots
from maskcon.runs import folder as runs
from tests.conftest import FAST, as_found


def without_fine_labels(data: DataSet) -> DataSet:
    return replace(data, test=replace(data.test, fine=None))


def of_two_images(data: DataSet) -> DataSet:
    return replace(data, test=data.test.take(torch.arange(2)))


def of_many_odd_classes(data: DataSet) -> DataSet:
    """More than a legend of ten colours, with names that matplotlib would read."""
    coarse = torch.arange(len(data.test)) % 12
    names = tuple(f"{'_$'[i % 2]}x^{i}$" for i in range(12))
    return replace(data, test=replace(data.test, coarse=coarse), coarse_names=names)


@pytest.mark.parametrize("change", [without_fine_labels, of_two_images, of_many_odd_classes])
def test_every_kind_of_set_can_be_drawn(tiny, tmp_path, change):
    data = change(tiny)
    features = torch.nn.functional.normalize(torch.randn(len(data.test), 8))
    for draw in (plots.neighbours, lambda *given: plots.tsne_map({"config": {"seed": 0}}, *given)):
        draw(data, features).savefig(tmp_path / "drawn.png", dpi=20)
        assert min(Image.open(tmp_path / "drawn.png").size) > 20


def test_a_run_draws_what_it_found(tiny, tmp_path):
    out = tmp_path / "run"
    commands.train(data=as_found(tiny), out=out, **{**FAST, "epochs": 3, "eval_every": 1})
    loss, recall = plots.curves(runs.read(out), out).axes
    assert len(loss.lines[0].get_xdata()) > 1
    by_name = {line.get_label(): line.get_ydata() for line in recall.lines}
    found = runs.read(out)["results"]["recall@1"]
    assert by_name["recall@1"][-1] == pytest.approx(100 * found)
    for name in ("curves", "map", "neighbours"):
        picture = Image.open(out / f"{name}.png")
        assert picture.size[0] > 500
        assert len(picture.convert("RGB").getcolors(2**24)) > 50


pytestmark = pytest.mark.usefixtures("drawn")
