"""The encoder that people load: the vectors of an evaluation, whatever pictures come as."""

import numpy as np
import pytest
import torch
from PIL import Image

import maskcon
from maskcon import commands
from maskcon.data import InMemory, from_arrays
from maskcon.errors import InputError
from maskcon.model.saved import save_encoder
from maskcon.vectors.once import embed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    data = from_arrays(images, [i % 2 for i in range(40)], [i % 4 for i in range(40)])
    options = {"backbone": "resnet10w16", "image_size": 16, "epochs": 1, "batch_size": 8}
    commands.train(data=data, out=place / "x", warmup_epochs=0, bank_size=16, **options)
    return place / "x"


@pytest.fixture(scope="module")
def encoder(folder) -> maskcon.Encoder:
    return maskcon.Encoder.load(folder)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (23, 16, 16, 3), dtype=np.uint8)


def test_vectors_are_those_of_the_evaluation(encoder, images):
    vectors = encoder.embed(images, batch_size=7)
    assert vectors.dtype == np.float32
    assert vectors.shape == (23, encoder.width)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    expected = embed(encoder.network, InMemory(tensor), encoder.preprocessing, encoder.precision)
    tolerance = 1e-5 if encoder.precision.name == "fp32" else 0.02
    np.testing.assert_allclose(vectors, expected.numpy(), atol=tolerance)


def test_every_form_of_pictures(encoder, images, tmp_path):
    expected = encoder.embed(images)
    paths = []
    for row, image in enumerate(images):
        paths.append(tmp_path / "loose" / str(row // 10) / f"{row:03d}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(paths[-1])
    table = tmp_path / "table.csv"
    table.write_text("path,label\n" + "".join(f"{p},{i % 2}\n" for i, p in enumerate(paths)))
    forms = [
        torch.from_numpy(images).permute(0, 3, 1, 2),
        list(images),
        [Image.fromarray(image) for image in images],
        paths,
        [str(path) for path in paths],
        tmp_path / "loose",
        table,
        from_arrays(images, [0, 1] * 11 + [0]),
    ]
    for form in forms:
        np.testing.assert_array_equal(encoder.embed(form), expected)
    alone = encoder.embed(paths[3])
    assert alone.shape == (1, encoder.width)
    split = from_arrays(images[:12], [0, 1] * 6, test=(images[12:], [0] * 11))
    np.testing.assert_array_equal(encoder.embed(split), expected)


def test_large_pictures_are_resized(encoder):
    picture = np.zeros((40, 70, 3), np.uint8)
    assert encoder.embed([picture, picture[:20]]).shape == (2, encoder.width)


def test_identity(folder, encoder):
    again = maskcon.Encoder.load(folder / "encoder.safetensors", precision="fp32")
    assert again.identity == encoder.identity
    with torch.no_grad():
        next(again.network.backbone.parameters()).mul_(2)
    assert again.identity != encoder.identity


def test_what_cannot_be_embedded(encoder, tmp_path, folder):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="1 of 1 pictures cannot be read"):
        encoder.embed([tmp_path / "a.png"])
    (tmp_path / "a.png").unlink()
    for empty in ([], np.empty((0, 8, 8, 3), np.uint8), tmp_path):
        with pytest.raises(InputError, match="there are no pictures"):
            encoder.embed(empty)
    with pytest.raises(InputError, match="no path that exists"):
        encoder.embed(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="batch_size is 0"):
        encoder.embed(np.zeros((1, 8, 8, 3), np.uint8), batch_size=0)
    with pytest.raises(InputError, match=r"has no encoder.json"):
        maskcon.Encoder.load(tmp_path)


def test_progress_is_told(encoder, images):
    lines = []

    class Told:
        def update(self, line: str) -> None:
            lines.append(line)

        def note(self, line: str) -> None: ...
        def close(self) -> None: ...

    encoder.embed(images, batch_size=10, progress=Told())
    assert [line.split("  ")[0] for line in lines] == [
        f"embedding: {n} of 23 images" for n in (10, 20, 23)
    ]


def test_encode_as_sentence_transformers_users_know_it(encoder, images, tmp_path):
    expected = encoder.embed(images)
    np.testing.assert_array_equal(encoder.encode(images, batch_size=256), expected)
    tensor = encoder.encode(images, convert_to_tensor=True, convert_to_numpy=False)
    assert tensor.device.type == encoder.device.type
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected)
    each = encoder.encode(images, convert_to_numpy=False)
    assert isinstance(each, list)
    np.testing.assert_array_equal(torch.stack(each).cpu().numpy(), expected)
    features = encoder.encode(images, normalize_embeddings=False)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    assert np.ptp(lengths) > 1e-3
    np.testing.assert_allclose(features / lengths, expected, atol=1e-6)
    with torch.no_grad(), encoder.precision.autocast():
        squares = torch.from_numpy(images).permute(0, 3, 1, 2).to(encoder.device)
        said = encoder.network(encoder.preprocessing.normalise(squares)).feature.float().cpu()
    np.testing.assert_allclose(features, said.numpy(), atol=1e-5 * float(lengths.max()), rtol=2e-2)


def test_one_picture_has_one_vector(encoder, images, tmp_path):
    expected = encoder.embed(images[:1])[0]
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    content = (tmp_path / "one.png").read_bytes()
    tensor = torch.from_numpy(images[0]).permute(2, 0, 1)
    for one in (images[0], tensor, Image.fromarray(images[0]), content, tmp_path / "one.png"):
        assert encoder.encode(one).shape == (encoder.width,)
        np.testing.assert_allclose(encoder.encode(one), expected, atol=1e-5)
    assert encoder.encode([images[0]]).shape == (1, encoder.width)
    assert encoder.encode(images[0], convert_to_tensor=True).shape == (encoder.width,)
    assert encoder.encode(images[0], convert_to_numpy=False).shape == (encoder.width,)


def test_features_are_not_made_of_vectors(encoder, images, folder, tmp_path):
    for row in (0, 1):
        Image.fromarray(images[row]).save(tmp_path / f"{row}.png")
    commands.embed(folder, tmp_path, out=tmp_path / "x.parquet")
    assert encoder.encode(tmp_path / "x.parquet").shape == (2, encoder.width)
    with pytest.raises(InputError, match="vectors of unit length"):
        encoder.encode(tmp_path / "x.parquet", normalize_embeddings=False)


def test_its_network_learns(folder, images, tmp_path):
    """As docs/python.md does it: one step of plain PyTorch, and what follows is of new weights."""
    encoder = maskcon.Encoder.load(folder, device="cpu", precision="fp32")
    before, identity = encoder.embed(images), encoder.identity
    optimizer = torch.optim.SGD(encoder.network.parameters(), lr=1.0)
    squares = torch.from_numpy(images).permute(0, 3, 1, 2)
    feature = encoder.network(encoder.preprocessing.normalise(squares)).feature
    feature.square().mean().backward()
    own = dict(encoder.network.backbone.named_parameters())
    assert all(parameter.grad is not None for parameter in own.values())
    optimizer.step()
    assert encoder.identity != identity
    assert np.abs(encoder.embed(images) - before).max() > 1e-4
    save_encoder(tmp_path, encoder.network, encoder.preprocessing.described())
    again = maskcon.Encoder.load(tmp_path, device="cpu", precision="fp32")
    np.testing.assert_allclose(again.embed(images), encoder.embed(images), atol=1e-6)
