"""Views of people's own, and views that change at an epoch."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from maskcon import CoarseToFine, commands
from maskcon.config import resolve
from maskcon.data import DATA_SETS, NamedSet
from maskcon.data.augment import VIEWS, View, own, view_of, views, with_named_views
from maskcon.data.augment.stages import Stage, stage_at, stages
from maskcon.data.images import InMemory
from maskcon.data.plans import PrefillPlan, StepPlan
from maskcon.errors import InputError
from maskcon.train.state import Training
from tests.conftest import FAST, as_found

CPU = torch.device("cpu")
MINE = v2.Compose([v2.RandomResizedCrop(16, (0.3, 1.0)), v2.RandomHorizontalFlip()])
FLOATS = v2.Compose([MINE, v2.ToDtype(torch.float32, scale=True)])
JITTERED = View("mine after a crop", changes=VIEWS["moco"].changes)


@pytest.fixture(autouse=True)
def only_known():
    """A test that adds views leaves none."""
    kept = dict(VIEWS)
    yield
    VIEWS.clear()
    VIEWS.update(kept)


def given(view: Any) -> str:
    return with_named_views({"query_view": view})["query_view"]


def test_views_in_turn():
    assert stages("query_view", "moco:10,simclr") == (Stage("moco", 10), Stage("simclr", math.inf))
    three = stages("query_view", "weak:2, a.b:C:3 ,plain")
    assert [stage_at(three, epoch).kind for epoch in (0, 1, 2, 4, 5, 900)] == [
        *("weak", "weak", "a.b:C", "a.b:C", "plain", "plain")
    ]
    assert stages("key_view", "a.b:C") == (Stage("a.b:C", math.inf),)
    assert stages("key_view", "(Compose(a, b:1))") == (Stage("(Compose(a, b:1))", math.inf),)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("moco,simclr", "key_view is 'moco,simclr': expected a view, or VIEW:EPOCHS"),
        ("moco:0,simclr", "expected a view, or VIEW:EPOCHS"),
        ("moco:-1,simclr", "expected a view, or VIEW:EPOCHS"),
        ("moco:1.5,simclr", "expected a view, or VIEW:EPOCHS"),
        (":3,simclr", "expected a view, or VIEW:EPOCHS"),
        ("moco:10", "the last view stays to the end"),
        ("moco:10,simclr:20", "the last view stays to the end"),
        ("moco:10,", "the last view stays to the end"),
        ("", "the last view stays to the end"),
        ("moco:2,simclr", "no epoch of 2 sees simclr: leave it out, or train longer"),
        ("mocco", "key_view: there is no view 'mocco': choose one of plain, weak, strong"),
        ("tests.data.no:X", "cannot be imported"),
        ("tests.data.test_views:NONE", "cannot be imported .AttributeError"),
        ("tests.data.test_views:FAST", "expected a View or a transform"),
        ("tests.data.test_views:Tensor", "expected a View or a transform"),
        ("(Compose)", "was given as an object: give it again"),
    ],
)
def test_views_that_there_are_not(text, match, tiny):
    with pytest.raises(InputError, match=match):
        Training(resolve({**FAST, "epochs": 2, "key_view": text}), tiny)


def test_each_epoch_has_its_view(tiny):
    """Batches whose views change among those that are made together are those made alone."""
    images = tiny.train.images
    rule = images.crop_rule(None, True)
    plan = StepPlan(rule, ("moco:1,plain:1,simclr", "weak"), 32, 0)  # three steps an epoch
    assert [plan.kinds(step)[0] for step in range(9)] == ["moco"] * 3 + ["plain"] * 3 + [
        "simclr"
    ] * 3
    assert PrefillPlan(rule, "moco:1,weak", 40, 32, 0).kinds(0) == ("moco",)

    def made(plan: StepPlan, together: int) -> list[Tensor]:
        grouped = type("Grouped", (InMemory,), {"together": lambda self, batch_size: together})
        stream = grouped(images.pixels).views(plan, range(1, 9), size=32, workers=1, device=CPU)
        return [view.clone() for _, of_step in stream for view in of_step]

    alone = made(plan, 1)
    for together in (2, 4, 50):
        assert all(map(torch.equal, made(plan, together), alone))
    for epoch, kind in enumerate(("moco", "plain", "simclr")):
        one = made(StepPlan(rule, (kind, "weak"), 32, 0), 1)
        part = slice(2 * max(3 * epoch - 1, 0), 2 * (3 * epoch + 2))
        assert all(map(torch.equal, one[part], alone[part]))


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("maskcon", "moco:1,simclr"),
        ("maskcon", MINE),
        pytest.param("wcl", "moco:1,simclr", marks=pytest.mark.heavy),
    ],
)
def test_a_resumed_run_sees_the_views_of_an_unbroken_one(method, query, tmp_path, tiny):
    options = {**FAST, "epochs": 2, "method": method, "query_view": given(query), "seed": 3}

    def trained(steps: int) -> Training:
        training = Training(resolve(options), tiny)
        training.fill_bank()
        while training.steps < steps:
            training.step(training.batch())
        return training

    whole = trained(9)
    part = trained(4)  # inside the first epoch of six steps
    again = Training(resolve(options), tiny)
    again.load_state_dict(part.state_dict())
    while again.steps < 9:
        again.step(again.batch())
    ours, theirs = again.encoder.state_dict(), whole.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_transform_draws_for_each_picture(photographs):
    """As torchvision alone with the same seed, whatever the batch, and no state is touched."""
    kind = given(v2.Compose([v2.RandomResizedCrop(32, (0.3, 1.0)), v2.ColorJitter(0.4, 0.4)]))
    view, change = view_of(kind), view_of(kind).changes[0]
    drawn = change.draw(96, torch.Generator().manual_seed(0))
    before = photographs.clone()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    ours = view.apply(photographs, [[drawn]])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(before, photographs)
    for image, seed, made in list(zip(photographs, drawn.tolist(), ours, strict=True))[:10]:
        torch.manual_seed(seed)
        alone = v2.Compose([v2.RandomResizedCrop(32, (0.3, 1.0)), v2.ColorJitter(0.4, 0.4)])(image)
        assert torch.equal(made, alone)
    assert torch.equal(ours[40:50], view.apply(photographs[40:50], [[drawn[40:50]]]))
    assert len(drawn.unique()) == 96


def test_a_transform_has_a_name_that_stays():
    """The same in every process, since a resumed run must find its own again."""
    assert given(MINE) == given(MINE)
    assert given(MINE).startswith("(Compose( RandomResizedCrop(size=(16, 16), scale=(0.3, 1.0)")
    assert "0x" not in given(type("Odd", (), {"__call__": lambda self, image: image})())
    assert given(JITTERED) == "(mine after a crop)"
    assert given("weak") == "weak"
    assert given(3) == 3
    two = with_named_views({"query_view": lambda x: x * 0, "key_view": lambda x: 255 - x})
    image = torch.full((1, 3, 8, 8), 5, dtype=torch.uint8)
    made = [views(image, two[option], size=8) for option in ("query_view", "key_view")]
    assert [round(float(one.unique()) * 255) for one in made] == [0, 250]
    both = with_named_views({"query_view": MINE, "key_view": MINE})
    assert both["query_view"] == both["key_view"]
    assert with_named_views({"lr": 0.1}) == {"lr": 0.1}


def test_transforms_by_name(photographs, monkeypatch):
    """Levels as bytes and as floats in 0..1 are the same."""
    draws = [
        views(photographs, name, size=16, generator=torch.Generator().manual_seed(0))
        for name in ("tests.data.test_views:MINE", "tests.data.test_views:FLOATS")
    ]
    assert torch.equal(*draws)
    cropped = views(photographs, "tests.data.test_views:JITTERED", size=16)
    assert cropped.shape == (96, 3, 16, 16)


@pytest.mark.parametrize(
    ("transform", "match"),
    [
        (v2.RandomResizedCrop(8), r"makes \[3, 8, 8\] of a picture \[3, 16, 16\]"),
        (v2.ToPILImage(), "makes Image of a picture"),
        (v2.Compose([FLOATS, v2.Normalize([0.5] * 3, [0.2] * 3)]), "leave v2.Normalize out"),
        (lambda image: image.long(), "expected uint8, or floats in 0..1"),
        (lambda image: image[:, 99], "fails on a picture uint8 .3, 16, 16.: IndexError"),
    ],
)
def test_transforms_that_make_no_picture(transform, match, tiny):
    options = with_named_views({**FAST, "query_view": transform})
    with pytest.raises(InputError, match=match):
        Training(resolve(options), tiny)


def test_a_transform_through_the_command_and_the_estimator(tmp_path, tiny, monkeypatch):
    small = NamedSet("a few glyphs", make=lambda: as_found(tiny))
    monkeypatch.setitem(DATA_SETS, "glyphs", small)
    options = {**FAST, "method": "ressl"}
    seen = []

    def mine(image: Tensor) -> Tensor:
        seen.append(image.shape)
        return MINE(image)

    run = commands.train(out=tmp_path / "a", query_view=mine, key_view="weak", **options)
    assert len(seen) == 1 + 96
    named = run["config"]["query_view"]
    assert named.startswith("(tests.data.test_views.test_a_transform_through_the_command")
    assert commands.train(out=tmp_path / "a", resume=True, query_view=mine)["results"]
    own._GIVEN.pop(named)  # as another process would find it
    with pytest.raises(InputError, match="was given as an object: give it again"):
        commands.train(out=tmp_path / "a", resume=True)
    images = tiny.train.images.pixels.permute(0, 2, 3, 1).numpy()
    options = {"projection": 8, "bank_size": 32, "query_view": MINE}
    network = {"epochs": 1, "backbone": "resnet10w8", "image_size": 16}
    CoarseToFine("selfcon", **network, options=options).fit(images)


def test_ressl_has_a_weak_key_beside_mocos_query(tiny):
    training = Training(
        resolve({**FAST, "method": "ressl", "query_view": "moco", "key_view": "weak"}), tiny
    )
    assert training.batches._plan.kinds(0) == ("moco", "weak")
    assert training.step(training.batch()).isfinite()
