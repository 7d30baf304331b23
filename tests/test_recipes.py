"""Every recipe that comes with maskcon: its options have an effect, and it trains."""

from dataclasses import replace

import pytest

from maskcon import commands
from maskcon.config import read_recipe, recipes, refuse_idle, resolve
from maskcon.methods import METHODS
from tests.conftest import FAST, as_found

FROZEN = ("frozen", "joined")  # of pretrained networks; test_head.py trains heads


@pytest.mark.parametrize("name", recipes())
def test_every_option_of_a_recipe_has_an_effect(name):
    given = read_recipe(name)
    refuse_idle(given, resolve(given))


@pytest.mark.parametrize("name", recipes())
def test_the_head_of_a_recipe_says_how_to_run_it_and_what_was_published(name):
    text = recipes()[name].read_text(encoding="utf-8")
    assert f"--recipe {name} " in text
    if read_recipe(name).get("data") is None and name != "frozen":
        assert "--data FOLDER" in text
    assert "published" in text.lower() or name in (
        "frozen",
        "quick",
        "cifar100_cpu",
        "cifar100_quick",
        "cifar100_scratch",
    )
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_full_recipe_is_the_defaults():
    assert resolve({}, recipe="full") == resolve({})


@pytest.mark.heavy
@pytest.mark.parametrize("name", [name for name in recipes() if name not in FROZEN])
def test_a_recipe_trains(name, tiny, tmp_path):
    """On another set, with a small network; long enough for views that come after ten epochs."""
    method = METHODS[read_recipe(name).get("method", "maskcon")]
    epochs = 11 if ":" in read_recipe(name)["query_view"] else 1
    small = {**FAST, "epochs": epochs, "warmup_epochs": epochs / 11, "eval_every": epochs}
    if not method.bank:
        del small["bank_size"]
    if "z" not in method.heads:
        del small["projection"]
    data = replace(as_found(tiny), name="glyphs")
    run = commands.train(
        out=tmp_path / "x", recipe=name, data=data, one_level=False, log_every=1, **small
    )
    assert run["config"]["method"] == read_recipe(name).get("method", "maskcon")
    assert run["status"] == "finished"


def test_hyper_parameters_of_a_recipe_are_for_its_own_method():
    other = resolve({"method": "grafit", "w": 0.8}, recipe=recipes()["joined"])
    assert dict(other.hyper) == {**METHODS["grafit"].hyper_parameters, "w": 0.8}
    assert other.ce_weight == 0.3
    assert resolve({"method": "maskcon"}, recipe=recipes()["joined"]).hyper["tau"] == 0.1


def test_hyper_parameters_of_a_recipe_without_a_method_are_for_any(tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text("t = 0.07\nepochs = 3\n")
    for method in ("supcon", "maskcon"):
        assert resolve({"method": method}, recipe=recipe).hyper["t"] == 0.07


def test_another_method_than_the_recipes_goes_on(tmp_path, tiny):
    words = {"recipe": tmp_path / "mine.toml", "method": "supce", "out": tmp_path / "run"}
    words["recipe"].write_text('method = "maskcon"\ntau = 0.1\nbackbone = "resnet10w16"\n')
    short = {
        "data": as_found(tiny),
        "image_size": 16,
        "batch_size": 8,
        "epochs": 1,
        "warmup_epochs": 0,
    }
    run = commands.train(**words, **short)
    assert commands.train(**words, **short, resume=True)["results"] == run["results"]
