"""The estimator of scikit-learn: the same encoder as a run's, and scikit-learn's own checks.

scikit-learn's checks feed an estimator rows of numbers, [n, p] with p as they like. Images cannot
be that, so `OfNumbers` reads such rows as pictures one pixel high, and all that comes after it is
what is tested. Of the checks on numbers, those of what X may be (NaN, complex numbers, text, no
columns) then test scikit-learn's own validation and not ours; images have tests of their own below.
"""

import pickle
import re

import joblib
import numpy as np
import pytest
import sklearn
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

import maskcon
from maskcon import commands
from maskcon.data import from_arrays
from maskcon.errors import InputError, TrainingError

TINY = {"epochs": 1, "backbone": "resnet10w16", "image_size": 8, "precision": "fp32"}
OPTIONS = {"bank_size": 16, "workers": 1}
SLOW = (
    *("check_transformer_general", "check_transformer_data_not_an_array", "check_pipeline"),
    *("check_estimators_dtypes", "check_dtype_object"),
)
SKLEARN = tuple(map(int, sklearn.__version__.split(".")[:2]))


class OfNumbers(maskcon.CoarseToFine):
    """Rows of any numbers as grey pictures [1, p]."""

    def _images(self, X, *, fitting):  # noqa: N803
        from sklearn.utils.validation import validate_data

        rows = validate_data(self, X, reset=fitting)
        return np.clip(128 + 32 * rows, 0, 255).astype(np.uint8)[:, None, :]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def sklearns_checks():
    if SKLEARN < (1, 6):
        return [pytest.param(None, None, marks=pytest.mark.skip("needs scikit-learn 1.6"))]
    from sklearn.utils.estimator_checks import estimator_checks_generator

    found = []
    for estimator, check in estimator_checks_generator(OfNumbers(**TINY, options=OPTIONS)):
        name = check.func.__name__
        marks = [pytest.mark.heavy] if name.startswith(SLOW) else []
        found.append(pytest.param(estimator, check, marks=marks, id=name))
    return found


@pytest.mark.parametrize(("estimator", "check"), sklearns_checks())
@pytest.mark.filterwarnings("ignore")
def test_sklearns_own_checks(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def coarse() -> np.ndarray:
    return np.array(["a", "b"] * 20)


@pytest.fixture(scope="module")
def fitted(images, coarse) -> maskcon.CoarseToFine:
    return maskcon.CoarseToFine(**TINY, tau=0.1, options=OPTIONS).fit(images, coarse)


def test_the_encoder_is_that_of_a_run(fitted, images, coarse, tmp_path):
    found = from_arrays(images, coarse, test=(images[:8], coarse[:8]))
    commands.train(data=found, out=tmp_path / "x", tau=0.1, **TINY, **OPTIONS)
    encoder = maskcon.Encoder.load(tmp_path / "x")
    assert encoder.identity == fitted.encoder_.identity
    np.testing.assert_array_equal(encoder.embed(images), fitted.transform(images))


def test_what_fitting_leaves(fitted, images, coarse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    vectors = clone(fitted).fit_transform(images, coarse)
    assert torch.equal(torch.get_rng_state(), state)  # random numbers of others
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(vectors, fitted.transform(images))
    assert vectors.dtype == np.float32
    assert vectors.shape == (40, fitted.n_features_out_)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert fitted.classes_.tolist() == ["a", "b"]
    assert len(fitted.loss_curve_) == 1
    assert fitted.get_feature_names_out()[1] == "coarsetofine1"
    assert not hasattr(fitted, "n_features_in_")


def test_pickles(fitted, images, tmp_path):
    expected = fitted.transform(images)
    joblib.dump(fitted, tmp_path / "x.joblib")
    for again in (joblib.load(tmp_path / "x.joblib"), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(again.transform(images), expected)
        assert again.get_params() == fitted.get_params()
    assert isinstance(fitted.encoder_, maskcon.Encoder)  # pickling took nothing away


def test_a_pickle_opens_without_its_device(fitted, images):
    state = fitted.__getstate__()
    state["_encoder"]["device"] = "cuda:7"
    again = maskcon.CoarseToFine.__new__(maskcon.CoarseToFine)
    again.__setstate__(state)
    assert again.encoder_.device.type == "cpu"


def test_saved_it_is_an_encoder(fitted, images, tmp_path):
    fitted.save(tmp_path / "e")
    again = maskcon.Encoder.load(tmp_path / "e", precision="fp32")
    np.testing.assert_array_equal(again.embed(images), fitted.transform(images))


def test_every_form_of_images(fitted, images, coarse, tmp_path):
    expected = fitted.transform(images)
    paths = [tmp_path / f"{row}.png" for row in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    objects = np.empty(len(images), object)
    objects[:] = list(images)
    for form in (
        list(images),
        objects,
        paths,
        np.array([str(path) for path in paths]),
        [Image.fromarray(image) for image in images],
        torch.from_numpy(images).permute(0, 3, 1, 2),
    ):
        np.testing.assert_array_equal(fitted.transform(form), expected)
    again = clone(fitted).fit(paths, list(coarse))
    np.testing.assert_array_equal(again.transform(images), expected)
    grey = clone(fitted).fit(images[..., 0], coarse)
    assert grey.transform(images[:3, :, :, 0]).shape == (3, 128)


def test_a_column_of_pandas(fitted, images, coarse, tmp_path):
    pandas = pytest.importorskip("pandas")
    for row, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{row}.png")
    table = pandas.DataFrame({"path": [str(tmp_path / f"{r}.png") for r in range(40)], "y": coarse})
    estimator = clone(fitted).set_output(transform="pandas")
    for form in (table["path"], table[["path"]]):
        vectors = estimator.fit_transform(form, table["y"])
        assert list(vectors.columns[:1]) == ["coarsetofine0"]
        np.testing.assert_array_equal(vectors, fitted.transform(images))


def test_large_images_of_any_sizes(coarse, tmp_path):
    random = np.random.default_rng(0)
    paths = []
    for row in range(8):
        paths.append(tmp_path / f"{row}.jpg")
        picture = random.integers(0, 256, (90 + row, 120, 3), dtype=np.uint8)
        Image.fromarray(picture).save(paths[-1])
    estimator = maskcon.CoarseToFine(**{**TINY, "image_size": 72}, options=OPTIONS)
    vectors = estimator.fit(paths, coarse[:8]).transform(paths)
    assert vectors.shape == (8, 128)
    assert np.isfinite(vectors).all()


def test_flattened_images_in_pipelines(fitted, images, coarse):
    flat = images.reshape(40, -1)
    estimator = clone(fitted).set_params(shape=(8, 8, 3)).fit(flat, coarse)
    assert estimator.n_features_in_ == 192
    np.testing.assert_array_equal(estimator.transform(flat), fitted.transform(images))
    np.testing.assert_array_equal(estimator.transform(flat * 1.0), fitted.transform(images))
    pipeline = make_pipeline(clone(estimator), KNeighborsClassifier(1))
    grid = {"coarsetofine__lr": np.logspace(-3, -2, 2)}
    search = GridSearchCV(pipeline, grid, cv=2).fit(flat, coarse)
    assert search.predict(flat).tolist() == coarse.tolist()


def test_labels(fitted, images):
    numbers = clone(fitted).fit(images, np.array([7, 3] * 20))
    assert numbers.classes_.tolist() == [3, 7]
    unlabelled = clone(fitted).set_params(method="selfcon", tau=None).fit(images)
    assert unlabelled.classes_.tolist() == []


@pytest.mark.parametrize("seed", [None, np.random.RandomState(3), np.int64(3)])
def test_seeds(fitted, images, coarse, seed):
    estimator = clone(fitted).set_params(random_state=seed).fit(images, coarse)
    assert estimator.encoder_.identity != fitted.encoder_.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "maskcom"}, "there is no method 'maskcom' (did you mean maskcon"),
        ({"method": "supce"}, "method supce does not take tau"),
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": "many"}, "epochs is 'many': expected int"),
        ({"options": {"lr": 1.0}}, "give it as a parameter, lr=..."),
        ({"options": {"seed": 1}}, "random_state=..."),
        *(
            ({"options": {name: value}}, f"'{name}', which means nothing here")
            for name, value in {
                **{"test_share": 0.1, "val_share": 0.1, "max_pixels": 9, "confine": True},
                **{"one_level": True, "reread": True, "stop_after": 1, "log_every": 5},
            }.items()
        ),
        ({"options": {"freeze": True}}, "train with maskcon.commands.train"),
        ({"options": {"epoch": 1}}, "unknown option 'epoch' (did you mean epochs"),
        ({"backbone": "resnet11"}, "there is no backbone 'resnet11'"),
        ({"batch_size": 64}, "has 40 train images, fewer than a batch of 64"),
    ],
)
def test_parameters_that_cannot_be_used(fitted, images, coarse, change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        clone(fitted).set_params(**change).fit(images, coarse)


def test_images_and_labels_that_cannot_be_used(fitted, images, coarse, tmp_path):
    def refused(message: str, X, y=coarse, **change) -> None:  # noqa: N803
        with pytest.raises(ValueError, match=re.escape(message)):
            clone(fitted).set_params(**change).fit(X, y)

    flat = images.reshape(40, -1)
    refused("say how they were flattened with shape=(H, W, 3)", flat)
    refused("X has 192 features, but CoarseToFine is expecting 75", flat, shape=(5, 5, 3))
    refused("shape is (192,): expected (H, W, 3)", flat, shape=(192,))
    refused("whole numbers from 0 to 255", flat / 255, shape=(8, 8, 3))
    refused("whole numbers from 0 to 255", flat * np.nan, shape=(8, 8, 3))
    refused("expected uint8 [N, H, W, 3]", images / 255)
    refused("X is 'photos': expected a sequence of images", "photos")
    refused("X is None: expected a sequence of images", None)
    refused("X has 0 samples", [])
    refused("X has 1 sample", images[:1], coarse[:1])
    refused("inconsistent numbers of samples: [40, 3]", images, coarse[:3])
    refused("the target y is None", images, None)
    refused("Unknown label type", images, np.linspace(0, 1, 40))
    refused("all 40 train images of X have one coarse label", images, ["a"] * 40)
    (tmp_path / "a.png").write_bytes(b"no image")
    Image.fromarray(images[0]).save(tmp_path / "b.png")
    refused("1 of 2 pictures cannot be read", [tmp_path / "a.png", tmp_path / "b.png"], ["a", "b"])
    with pytest.raises(NotFittedError):
        clone(fitted).transform(images)
    with pytest.raises(TrainingError, match=r"Fit again with a lower lr than 1e\+10"):
        clone(fitted).set_params(lr=1e10, epochs=4).fit(images, coarse)


def test_verbose_says_how_it_goes(fitted, images, coarse, capsys, monkeypatch):
    monkeypatch.setattr("maskcon.runtime.progress.PLAIN_EVERY", 0.0)  # no half minute for these few
    clone(fitted).set_params(verbose=True).fit(images, coarse)
    assert re.search(r"bank: |epoch 1/1  loss ", capsys.readouterr().out)
