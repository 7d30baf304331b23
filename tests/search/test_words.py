"""Words as queries, by a network of random weights; open_clip, called by hand, is the oracle."""

import asyncio
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from maskcon import Encoder, commands
from maskcon.app import searching
from maskcon.app.guard import Access
from maskcon.app.indexed import serving
from maskcon.app.operations import Refused
from maskcon.errors import InputError
from maskcon.model import words
from maskcon.model.network import Architecture, Network
from maskcon.search import file as index_file
from tests.conftest import Outline, typed, untrained_run

open_clip = pytest.importorskip("open_clip")

SIZE = 32
TEXTS = ["green apple", "a photo of a dog", "green apple, a second time"]
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": SIZE, "layers": 1, "width": 16, "patch_size": 8, "head_width": 8}
CLIP = {"embed_dim": 12, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}
# as SigLIP's text tower is made, but for its tokenizer
SIGLIP_TEXT = {**TEXT, "context_length": 64, "no_causal_mask": True, "pool_type": "last"}
SIGLIP = {
    **{"embed_dim": 12, "init_logit_bias": -10, "custom_text": True, "vision_cfg": VISION},
    "text_cfg": {**SIGLIP_TEXT, "proj_bias": True},
}
OPENAI = {"mean": [0.481, 0.458, 0.408], "std": [0.269, 0.261, 0.276], "resize_mode": "shortest"}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
KINDS = {"clip": (CLIP, OPENAI), "siglip": (SIGLIP, HALF)}


def network(folder, kind: str, seed: int = 0):
    """A folder as the hub has it, of random weights."""
    folder.mkdir()
    model, images = KINDS[kind]
    about = {"model_cfg": model, "preprocess_cfg": images}
    (folder / words.CONFIG).write_text(json.dumps(about))
    torch.manual_seed(seed)
    made = open_clip.create_model(f"local-dir:{folder}")
    torch.manual_seed(seed + 1)
    with torch.no_grad():
        for value in made.parameters():  # some begin with zeros
            value += 0.05 * torch.randn_like(value)
    save_file(made.state_dict(), folder / words.WEIGHTS)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    return network(tmp_path_factory.mktemp("networks") / request.param, request.param)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return network(tmp_path_factory.mktemp("networks") / "clip", "clip")


@pytest.fixture(scope="module")
def photos(tmp_path_factory, photographs):
    """Pictures of the size that the network takes."""
    place = tmp_path_factory.mktemp("photos")
    for row, image in enumerate(photographs[:12]):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{row:02}.png")
    return place


@pytest.fixture(scope="module")
def index(clip, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("index") / "x.index"
    commands.index(clip, photos, out=out, device="cpu", precision="fp32")
    return out


def by_hand(folder, pictures, texts) -> tuple[np.ndarray, np.ndarray]:
    """Both sides as open_clip's own page calls them."""
    model, prepare = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    with torch.no_grad():
        images = torch.stack([prepare(Image.open(path)) for path in pictures])
        sides = (model.eval().encode_image(images), model.encode_text(tokens))
        return tuple((x / x.norm(dim=-1, keepdim=True)).numpy() for x in sides)


def test_both_sides_are_those_of_open_clip(folder, photos):
    pictures = sorted(photos.glob("*.png"))
    encoder = Encoder.load(folder, device="cpu", precision="fp32")
    images, texts = by_hand(folder, pictures, TEXTS)
    before = torch.random.get_rng_state()
    np.testing.assert_allclose(encoder.embed(pictures), images, atol=1e-5)
    np.testing.assert_allclose(encoder.embed_words(TEXTS), texts, atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert encoder.has_words
    assert encoder.width == 12
    np.testing.assert_allclose(encoder.embed_words("green apple")[0], texts[0], atol=1e-5)
    assert encoder.identity == Encoder.load(folder).identity
    for empty in ("", [], ["apple", " "]):
        with pytest.raises(InputError, match="no words to look for"):
            encoder.embed_words(empty)


def test_pictures_are_found_by_words(index, clip, photos):
    """As the products of open_clip's vectors sort them."""
    pictures = sorted(photos.glob("*.png"))
    images, texts = by_hand(clip, pictures, TEXTS)
    found = commands.search(index, [*TEXTS, str(pictures[3])], k=12)["queries"]
    assert [(q["path"], q["words"]) for q in found] == [
        (str(pictures[3]), None),
        *((None, text) for text in TEXTS),
    ]
    assert found[0]["left_out"] == [str(pictures[3])]
    for query, text in zip(found[1:], texts, strict=True):
        scores = images @ text
        order = np.argsort(-scores, kind="stable")
        assert [hit["path"] for hit in query["hits"]] == [str(pictures[row]) for row in order]
        assert [hit["score"] for hit in query["hits"]] == pytest.approx(scores[order], abs=1e-5)
        assert query["left_out"] == []


def test_a_file_goes_before_words(index, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (words_found,) = commands.search(index, "green apple")["queries"]
    assert words_found["words"] == "green apple"
    shutil.copy(photos / "05.png", tmp_path / "green apple")
    (picture,) = commands.search(index, "green apple")["queries"]
    assert (picture["words"], picture["path"]) == (None, "green apple")
    with pytest.raises(InputError, match=r"nowhere\.jpg"):  # nobody means these words
        commands.search(index, "nowhere.jpg")


def test_typed(index, photos, tmp_path):
    page, told = tmp_path / "x.html", tmp_path / "x.json"
    texts = ["green apple", "<b>green</b> apple"]
    words = ["search", index, *texts, photos / "01.png", "-k", "3", "--html", page, "--json", told]
    done = typed(*words)
    assert done.returncode == 0, done.stderr
    assert {*texts} <= {*done.stdout.splitlines()}
    assert {*texts} <= {text.strip() for text in Outline(page.read_text()).text}
    queries = json.loads(told.read_text())["queries"]
    assert [(query["words"], len(query["hits"])) for query in queries] == [
        (None, 3),
        *((text, 3) for text in texts),
    ]


def test_without_a_text_side_it_says_which_network_to_take(photos, tmp_path):
    run, file = untrained_run(tmp_path / "run", seed=0), tmp_path / "x.index"
    commands.index(run, photos, out=file)
    with pytest.raises(
        InputError, match=r"no picture or folder 'green apple'.*open_clip/ViT-B-32@"
    ):
        commands.search(file, "green apple")
    for name, whole in (
        ("timm/vit_base_patch16_clip_224.openai", "open_clip/ViT-B-16@openai"),
        ("timm/vit_base_patch16_siglip_224.v2_webli", "open_clip/ViT-B-16-SigLIP2@webli"),
    ):
        parts = {"stem": "large", "heads": (), "projection": 1, "classes": 1}
        tower = Network(Architecture(backbone=name, **parts), made=(torch.nn.Linear(2, 2), 2))
        said = words.none_of(tower, "runs/x")
        assert f"it is the image side of {whole} alone" in said
        assert f"maskcon index {whole} PICTURES" in said


def test_damaged_and_missing_files_are_told(clip, tmp_path):
    def changed(name: str):
        return shutil.copytree(clip, tmp_path / name)

    def refused(folder, match: str, *, texts: bool = False):
        encoder = Encoder.load(folder) if texts else None
        with pytest.raises(InputError, match=match):
            encoder.embed_words("apple") if encoder else Encoder.load(folder)

    (changed("a") / words.WEIGHTS).unlink()
    refused(tmp_path / "a", f"no {words.WEIGHTS}")
    (changed("b") / words.WEIGHTS).write_bytes(b"none")
    refused(tmp_path / "b", "fewer than the")
    about = json.loads((changed("c") / words.CONFIG).read_text())
    about["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (tmp_path / "c" / words.CONFIG).write_text(json.dumps(about))
    refused(tmp_path / "c", "code of others is never run")
    about["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "x/y", "tokenizer_kwargs": {}}
    (changed("d") / words.CONFIG).write_text(json.dumps(about))
    refused(tmp_path / "d", "tokenizer", texts=True)
    state = load_file(clip / words.WEIGHTS)
    state["visual.conv1.weight"] = state["visual.conv1.weight"][:, :, :2].contiguous()
    state["more"] = torch.zeros(10_000)
    save_file(state, changed("e") / words.WEIGHTS)
    refused(tmp_path / "e", "damaged")
    (changed("f") / words.CONFIG).write_text("{}")
    refused(tmp_path / "f", "damaged")


def test_names_are_those_of_open_clip():
    assert words.repository(words.USUAL) == "hf:timm/vit_base_patch32_clip_224.openai"
    assert words.repository("open_clip/ViT-B-16-SigLIP2@webli") == "hf:timm/ViT-B-16-SigLIP2"
    with pytest.raises(InputError, match=r"no network 'ViT-B-33'.*did you mean ViT-"):
        words.repository("open_clip/ViT-B-33@openai")
    with pytest.raises(InputError, match=r"one of .*laion2b_s34b_b79k"):
        words.repository("open_clip/ViT-B-32")


def test_weights_that_are_not_here_are_fetched_on_request_alone(photos, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(InputError, match=r"not in the hub's cache.*--download"):
        commands.index(words.USUAL, photos, out=tmp_path / "x.index")


def test_one_of_the_hubs_cache(clip, photos, tmp_path, monkeypatch):
    """The index remembers the commit that it was made with."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    place = tmp_path / "models--timm--vit_base_patch32_clip_224.openai"
    shutil.copytree(clip, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    out = tmp_path / "x.index"
    made = commands.index(words.USUAL, photos, out=out)
    assert made["run"] == f"hf:timm/vit_base_patch32_clip_224.openai@{commit}"
    (query,) = commands.search(out, "green apple", k=2)["queries"]
    assert len(query["hits"]) == 2


def test_other_commands_take_such_a_network(clip, photos, tmp_path):
    found = commands.embed(clip, photos, out=tmp_path / "x.parquet")
    assert (found["images"], found["width"]) == (12, 12)
    for row, path in enumerate(sorted(photos.glob("*.png"))):
        place = tmp_path / "tree" / f"c{row % 2}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    found = commands.discover(clip, tmp_path / "tree", out=tmp_path / "groups", groups=2)
    assert found["coarse"]
    with pytest.raises(InputError, match="its own files are the ones to pass on"):
        commands.export(clip, to="onnx", out=tmp_path / "x.onnx")


def test_served(index):
    from starlette.testclient import TestClient

    bearer = {"Authorization": "Bearer 0123456789abcdef0123"}
    there = index_file.read(index)[0]
    encoder = Encoder.load(there.about.run)
    expected = commands.search(index, "green apple", k=3)["queries"][0]["hits"]
    app = serving(there, encoder, Access("127.0.0.1", 0, token="0123456789abcdef0123"), "x")
    with TestClient(app, base_url="http://127.0.0.1", headers=bearer) as client:
        assert client.get("/").json()["words"] is True
        asked = {"words": "green apple", "count": 3}
        found = client.post("/api/search", json=asked).json()["found"]
        assert [one["similarity"] for one in found] == pytest.approx(
            [hit["score"] for hit in expected], abs=1e-5
        )
        for bad in ({"words": ""}, {"words": "x", "picture": 1}, {"words": 3}, {}):
            assert client.post("/api/search", json=bad).status_code == 422
        assert client.post("/api/search", json={"words": " "}).status_code == 409
        assert len(client.post("/api/search", json={"picture": 1}).json()["found"]) == 10


def test_served_without_a_text_side(run, photos, tmp_path):
    """Or without any encoder; none of them begins a process that decodes what is sent."""
    commands.index(run, photos, out=tmp_path / "x.index")
    searcher = searching.Searcher(index_file.read(tmp_path / "x.index")[0], None)
    for encoder in (None, Encoder.load(run)):
        searcher.encoder = encoder
        with pytest.raises(Refused, match="open_clip/") as refused:
            asyncio.run(searcher.like_words("green apple", 1))
        assert refused.value.status == 409
    searcher.close()
