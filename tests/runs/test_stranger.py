"""What the record of a run that others made may ask for, where it is resumed or judged."""

import contextlib
import json
import shutil
import socket
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import safetensors.torch

from maskcon import commands
from maskcon.config import Config, resolve
from maskcon.data import find, load
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.model.backbones import build_backbone
from maskcon.model.saved import load_encoder
from maskcon.runs import folder as runs
from maskcon.train.state import Training
from tests.conftest import FAST, Told, write_tree

FIELDS = dict.fromkeys(("method", "backbone", "data", "key_view"), "foreign:thing")


@pytest.mark.parametrize(("field", "value"), [*FIELDS.items(), ("query_view", "weak:1,foreign:x")])
def test_a_record_imports_no_module(field, value, tmp_path, monkeypatch):
    write_tree(tmp_path / "data", glyphs.make(train=32, test=16))
    run = tmp_path / "x"
    commands.train(out=run, data=tmp_path / "data", **FAST)
    record = json.loads((run / "run.json").read_text())
    record["config"][field] = value
    (run / "run.json").write_text(json.dumps(record))
    (tmp_path / "foreign.py").write_text("raise ValueError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="foreign:"):
        commands.train(out=run, resume=True)
    assert "foreign" not in sys.modules
    if field == "key_view":
        assert "recall@1" in commands.eval(run)  # which makes no views
        with pytest.raises(InputError, match=r"cannot be imported \(ValueError: imported\)"):
            commands.train(out=run, resume=True, key_view=value)  # typed


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A run and its data, to be copied."""
    here = tmp_path_factory.mktemp("foreign")
    write_tree(here / "data", glyphs.make(train=32, test=16))
    commands.train(out=here / "x", data=here / "data", **FAST)
    return here


@pytest.fixture
def offline(monkeypatch):
    """The hosts and addresses that somebody asked for."""
    asked = []

    def refuse(*words, **options):
        asked.append(words)
        raise OSError("no network here")

    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return asked


ELSEWHERE = ("https://foreign.example/x", "timm/hf-hub:foreign/x", "foreign:x")
TEXTS = [f.name for f in fields(Config) if "str" in str(f.type) or "Literal" in str(f.type)]


def changed(here: Path, run: Path, file: str, **config: object) -> None:
    """A copy of the run whose record or encoder says something else."""
    shutil.copytree(here / "x", run)
    content = json.loads((run / file).read_text())
    content["config" if file == "run.json" else "architecture"] |= config
    (run / file).write_text(json.dumps(content))


def tried(run: Path) -> None:
    """Resume it, judge it and embed with it; whatever is refused is refused in a message."""
    for call in (
        lambda: commands.train(out=run, resume=True),
        lambda: commands.eval(run),
        lambda: commands.embed(run, out=run.parent / "v.npz"),
    ):
        with contextlib.suppress(InputError):
            call()


@pytest.mark.heavy
@pytest.mark.parametrize("field", TEXTS)
def test_no_field_of_a_record_leads_to_a_network_or_a_module(
    field, foreign, offline, tmp_path, monkeypatch
):
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "foreign.py").write_text("raise ValueError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for number, value in enumerate(ELSEWHERE):
        if field in ("data_dir", "cache_dir") and number:  # which the run has no use for
            continue
        changed(foreign, tmp_path / f"x{number}", "run.json", **{field: value, "download": True})
        tried(tmp_path / f"x{number}")
    assert not offline
    assert "foreign" not in sys.modules
    assert not [*(tmp_path / "home").iterdir()]  # no folder either


@pytest.mark.parametrize("field", ["backbone", "stem", "heads", "frozen"])
def test_no_field_of_an_encoder_leads_to_a_network_or_a_module(field, foreign, offline, tmp_path):
    for number, value in enumerate([*ELSEWHERE, "timm/resnet10t", "resnet34"]):
        told = [value] if field in ("heads", "frozen") else value
        changed(foreign, tmp_path / f"x{number}", "encoder.json", **{field: told})
        with contextlib.suppress(InputError):
            load_encoder(tmp_path / f"x{number}")
    assert not offline
    assert "foreign" not in sys.modules


@pytest.mark.parametrize("backbone", ["resnet18", "timm/resnet10t"])
def test_weights_are_fetched_where_download_is_typed(
    backbone, foreign, offline, tmp_path, monkeypatch
):
    """A frozen network is built anew when its run goes on; so is one that had not begun."""
    for name in ("HF_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for number, extra in enumerate(({}, {"unfreeze": 1})):
        run = tmp_path / f"x{number}"
        changed(
            foreign, run, "run.json", backbone=backbone, init="imagenet", download=True, **extra
        )
        if not extra:
            (run / "last.ckpt").unlink()
            (run / "previous.ckpt").unlink(missing_ok=True)
        for options in ({}, {"init": "imagenet"}):
            with pytest.raises(InputError, match=r"not on this machine, .* say --download"):
                commands.train(out=run, resume=True, **options)
            assert not offline
        with pytest.raises(InputError, match="be reached, and its weights are not on this"):
            commands.train(out=run, resume=True, download=True)
        assert offline  # typed: it was tried
        offline.clear()


def test_data_of_a_record_are_told_before_they_are_opened(foreign, tmp_path):
    changed(foreign, tmp_path / "x", "run.json", data="/nowhere/at/all")
    for call in (
        lambda told: commands.train(out=tmp_path / "x", resume=True, progress=told),
        lambda told: commands.eval(tmp_path / "x", progress=told),
        lambda told: commands.embed(tmp_path / "x", out=tmp_path / "v.npz", progress=told),
    ):
        told = Told()
        with pytest.raises(InputError):
            call(told)
        assert f"the data are /nowhere/at/all, as {tmp_path / 'x' / 'run.json'} says" in told.notes


def test_a_pretrained_network_takes_its_own_normalisation(foreign, tmp_path):
    """One of random weights takes the data's; and a run goes on with what it stored."""
    weights, _ = build_backbone("timm/test_vit")
    safetensors.torch.save_file(weights.state_dict(), tmp_path / "w.safetensors")
    given = {**FAST, "backbone": "timm/test_vit", "image_size": 32}
    run = tmp_path / "x"
    begun = commands.train(out=run, data=foreign / "data", init=tmp_path / "w.safetensors", **given)
    own = {"image_size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    assert json.loads((run / "run.json").read_text())["preprocessing"] == own
    assert {name: load_encoder(run)[1][name] for name in own} == own
    config = resolve({**given, "data": str(foreign / "data")})
    data = load(find(config.data), image_size=32, workers=1)
    plain = Training(config, data).preprocessing
    assert (plain.mean, plain.std) == data.normalisation() != ((0.5,) * 3, (0.5,) * 3)
    pretrained = replace(config, init=begun["config"]["init"])
    assert Training(pretrained, data).preprocessing.mean == (0.5,) * 3
    stored = runs.preprocessing(run)
    assert Training(config, data, stored=stored).preprocessing == stored != plain
    record = json.loads((run / "run.json").read_text())
    record["preprocessing"]["mean"] = [0.25, 0.5, 0.75]
    (run / "run.json").write_text(json.dumps(record))
    assert runs.preprocessing(run).mean == (0.25, 0.5, 0.75)
    record["preprocessing"]["std"] = [0.0] * 3
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="its preprocessing is damaged: std is"):
        commands.train(out=run, resume=True)
    del record["preprocessing"]  # of a version that noted it beside the encoder alone
    (run / "run.json").write_text(json.dumps(record))
    assert runs.preprocessing(run) == stored
    (run / "encoder.json").unlink()
    assert runs.preprocessing(run) is None
