"""maskcon as a transformer of scikit-learn: images and coarse labels in, vectors out."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from maskcon.config import Config, refuse_idle, resolve
from maskcon.data import DataSet, Found, Part, fitting_size, hold
from maskcon.data.augment import with_named_views
from maskcon.data.pictures import Files, Pictures
from maskcon.data.readers.arrays import pictures_of
from maskcon.encoder import Encoder
from maskcon.errors import DivergedError, InputError, TrainingError, unreadable
from maskcon.methods import METHODS
from maskcon.methods.objective import Objective
from maskcon.model.fetching import fetching
from maskcon.model.network import Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.recommended import true_name
from maskcon.model.saved import DESCRIPTION, WEIGHTS, save_encoder
from maskcon.runtime.device import Precision, deterministic, pick_device
from maskcon.runtime.files import make_folder, output
from maskcon.runtime.progress import Progress, Silent, screen
from maskcon.runtime.seeds import kept_random_state
from maskcon.train.loop import fit_silently
from maskcon.train.state import Training

# Parameters of the constructor that are options of a run under the same name.
DIRECT = (
    *("method", "epochs", "backbone", "image_size", "batch_size", "lr", "device", "precision"),
    *("tau", "w", "t"),
)
# Options of a run that mean nothing here: where its images lie, and how it is evaluated.
MEANINGLESS = frozenset(
    {
        *("data", "label", "stop_after"),
        *(f.name for f in fields(Config) if f.metadata.get("group") in ("data", "output")),
    }
) - {"download"}
# Options that keep vectors of a frozen backbone on the disk, and judge a head on images left out.
WITH_FILES = frozenset({"freeze", "features"})


class CoarseToFine(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn from coarse labels vectors of images in which finer classes separate.

        vectors = CoarseToFine(epochs=20).fit(images, coarse).transform(images)

    Images are a uint8 array [n, H, W, 3] or [n, H, W] (grey), or a sequence of paths, of uint8
    arrays of any sizes or of Pillow images. Every image is trained on; nothing is left out to
    test with, and no file is written. With the same options and images the encoder is that of
    `maskcon train`, bit for bit on a processor.

    Args:
        method: name of the loss; `maskcon methods` lists them.
        epochs: passes over the images.
        backbone: as `maskcon train --backbone`; on a few cores "resnet10w16" or "resnet10w32".
        image_size: side of the views in pixels; 0 is chosen from the images.
        batch_size: images of a step; 0 is 128, or fewer for a small set.
        lr: learning rate, at the end of the warm-up.
        tau: hyper-parameter of the method; None is its own default, and the only value for
            methods that do not have it.
        w: likewise.
        t: likewise.
        shape: (H, W, 3) or (H, W) of images that come flattened, [n, H * W * 3] or [n, H * W],
            as in pipelines that know two dimensions alone; levels are whole numbers 0..255.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto, fp32, bf16 or fp16.
        random_state: the seed of weights, order and views; a whole number, None for another
            one each time, or a NumPy RandomState.
        verbose: show how it goes.
        options: any other option of `maskcon train`, by the name of its field in
            `maskcon.config.Config`, and any other hyper-parameter of the method.

    Attributes:
        encoder_: the `maskcon.Encoder`.
        classes_: the coarse labels, sorted; empty where none were given.
        n_features_out_: F, the width of a vector.
        loss_curve_: mean loss of each epoch.
        n_features_in_: only after fitting flattened images.
    """

    def __init__(
        self,
        method: str = "maskcon",
        *,
        epochs: int = 20,
        backbone: str = "resnet18",
        image_size: int = 0,
        batch_size: int = 0,
        lr: float = 0.02,
        tau: float | str | None = None,
        w: float | str | None = None,
        t: float | str | None = None,
        shape: tuple[int, ...] | None = None,
        device: str = "auto",
        precision: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
        options: Mapping[str, Any] | None = None,
    ):
        self.method = method
        self.epochs = epochs
        self.backbone = backbone
        self.image_size = image_size
        self.batch_size = batch_size
        self.lr = lr
        self.tau = tau
        self.w = w
        self.t = t
        self.shape = shape
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose
        self.options = options

    def fit(self, X: Any, y: Any = None) -> "CoarseToFine":  # noqa: N803 - scikit-learn's name
        """Train on all images.

        Args:
            X: n images.
            y: coarse label of each [n], text or whole numbers; None only for methods that
                ignore labels, such as selfcon.

        Raises:
            InputError: an option, an image or a label cannot be used.
            TrainingError: the loss is not finite any more.
        """
        config = self._config()
        images = self._images(X, fitting=True)
        pictures: Pictures = Files(images) if _paths(images) else pictures_of(images, "X")
        codes, classes = _labels(y, len(pictures), config)
        if len(pictures) < 2:
            raise InputError(f"X has {len(pictures)} sample: training needs two or more images")
        with fetching(config.download), screen() if self.verbose else nullcontext() as progress:
            shown = progress or Silent()
            training, losses = _train(config, pictures, codes, classes, shown)
        self.encoder_ = Encoder(training.encoder, training.preprocessing, training.precision)
        self.classes_ = classes
        self.n_features_out_ = self.encoder_.width
        self.loss_curve_ = losses
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Vectors of images.

        Args:
            X: n images, of any sizes.

        Returns:
            float32 [n, F], unit length.

        Raises:
            NotFittedError: `fit` comes first.
            InputError: an image cannot be used.
        """
        check_is_fitted(self)
        images = list(self._images(X, fitting=False))  # samples, and never a single picture
        return self.encoder_.embed(images, progress=bool(self.verbose))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the encoder for `maskcon.Encoder.load`, `maskcon export` and others.

        Args:
            folder: made if it is not there; gets encoder.safetensors and encoder.json.
            overwrite: replace those that are there.
        """
        check_is_fitted(self)
        make_folder(Path(folder))
        earlier = [Path(folder) / name for name in (WEIGHTS, DESCRIPTION)]
        with output(folder, "folder", folder=True, earlier=earlier, overwrite=overwrite):
            save_encoder(Path(folder), self.encoder_.network, asdict(self.encoder_.preprocessing))

    @property
    def _n_features_out(self) -> int:
        """What `get_feature_names_out` of scikit-learn asks for."""
        return self.n_features_out_

    def _config(self) -> Config:
        """The configuration of a run with these parameters."""
        options = dict(self.options or {})
        for name in options:
            if name in DIRECT:
                raise InputError(f"options has {name!r}: give it as a parameter, {name}=...")
            if name == "seed":
                raise InputError("options has 'seed': give it as a parameter, random_state=...")
            if name in WITH_FILES:
                raise InputError(
                    f"options has {name!r}, which writes files and leaves images out: train with "
                    "maskcon.commands.train, and load the run with maskcon.Encoder.load"
                )
            if name in MEANINGLESS:
                raise InputError(
                    f"options has {name!r}, which means nothing here: the images and labels are "
                    "those given to fit, and all of them are trained on"
                )
        direct = {name: getattr(self, name) for name in DIRECT}
        optional = ("tau", "w", "t")
        given = {k: v for k, v in direct.items() if v is not None or k not in optional}
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(2**31 - 1)
        values = {**given, **options, "seed": seed}
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
        config = resolve(with_named_views(plain))
        refuse_idle(options, config)
        return replace(config, backbone=true_name(config.backbone))

    def _images(self, X: Any, *, fitting: bool) -> Any:  # noqa: N803
        """What `Encoder.embed` takes, of what a person gave; copies nothing that is usable.

        Raises:
            InputError: it cannot be images.
        """
        if isinstance(X, str | Path | Found):
            raise InputError(
                f"X is {str(X)!r}: expected a sequence of images. `maskcon train` takes folders, "
                "tables and data sets"
            )
        if hasattr(X, "tocsr"):
            raise InputError(f"X is a sparse matrix {list(X.shape)}: expected dense images")
        if hasattr(X, "to_numpy"):  # a column of pandas or polars
            X = X.to_numpy()  # noqa: N806
        if isinstance(X, np.ndarray) and X.dtype.kind in "OU":
            X = list(X.ravel() if X.ndim == 2 and X.shape[1] == 1 else X)  # noqa: N806
        if not isinstance(X, np.ndarray | Tensor):
            try:
                X = list(X)  # noqa: N806
            except TypeError as error:
                raise InputError(f"X is {X!r}: expected a sequence of images") from error
            if X and not _paths(X) and all(np.ndim(image) == 1 for image in X):
                X = np.array(X)  # noqa: N806
        if isinstance(X, np.ndarray | Tensor) and X.ndim == 2:
            X = self._unflattened(np.asarray(X))  # noqa: N806
            if fitting:
                self.n_features_in_ = math.prod(X.shape[1:])
        if not len(X):
            raise InputError("X has 0 samples: expected images")
        return X

    def _unflattened(self, rows: np.ndarray) -> np.ndarray:
        """Images uint8 [n, *shape] of rows [n, H * W * 3]."""
        if self.shape is None:
            raise InputError(
                f"X has the shape {list(rows.shape)}, and images have two sides: give uint8 "
                "[n, H, W, 3], or say how they were flattened with shape=(H, W, 3)"
            )
        shape = tuple(self.shape)
        if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
            raise InputError(f"shape is {shape}: expected (H, W, 3), or (H, W) of grey images")
        if rows.shape[1] != math.prod(shape):
            raise InputError(
                f"X has {rows.shape[1]} features, but {type(self).__name__} is expecting "
                f"{math.prod(shape)} features as input, since shape is {shape}"
            )
        levels = rows if rows.dtype == np.uint8 else rows.astype(np.float64)
        # written so that NaN is refused
        if rows.dtype != np.uint8 and not np.all(
            (levels >= 0) & (levels <= 255) & (levels == np.floor(levels))
        ):
            raise InputError(
                f"X is of {rows.dtype}, from {levels.min():g} to {levels.max():g}: expected levels "
                "of images, whole numbers from 0 to 255"
            )
        return levels.astype(np.uint8).reshape(len(rows), *shape)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.shape is not None
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        known = METHODS.get(self.method)
        added = (self.options or {}).get("ce_weight")
        tags.target_tags.required = known is None or known.labels or bool(added)
        tags.target_tags.one_d_labels = True
        tags.transformer_tags.preserves_dtype = []  # vectors are float32, whatever images are
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Plain values and arrays, so that a pickle opens on a machine without this device."""
        state = dict(super().__getstate__())
        if "encoder_" in state:
            encoder = state.pop("encoder_")
            weights = encoder.network.state_dict()
            state["_encoder"] = {
                "architecture": encoder.network.architecture,
                "preprocessing": asdict(encoder.preprocessing),
                "precision": encoder.precision.name,
                "device": str(encoder.device),
                "weights": {k: v.detach().cpu().numpy().copy() for k, v in weights.items()},
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Build the encoder again; on the processor where its device is not there."""
        kept = state.pop("_encoder", None) if "_encoder" in state else None
        super().__setstate__(state)
        if kept is None:
            return
        network = Network(kept["architecture"])
        network.load_state_dict({k: torch.from_numpy(v) for k, v in kept["weights"].items()})
        try:
            device = pick_device(kept["device"])
        except InputError:
            device = torch.device("cpu")
        self.encoder_ = Encoder(
            network.to(memory_format=torch.channels_last),
            Preprocessing.of(kept["preprocessing"]),
            Precision.pick(kept["precision"], device),
        )


def _paths(images: Any) -> bool:
    """Whether these are paths, and not pixels."""
    return isinstance(images, list) and all(isinstance(image, str | Path) for image in images)


def _labels(y: Any, count: int, config: Config) -> tuple[Tensor, np.ndarray]:
    """Index of each image's class, int64 [n], and the classes, sorted."""
    if y is None:
        if Objective(METHODS[config.method], config.mixup, config.ce_weight).labels:
            raise InputError(
                f"{config.method} requires y to be passed, but the target y is None: give a "
                "coarse label for each image; selfcon needs none"
            )
        return torch.zeros(count, dtype=torch.long), np.array([])
    y = column_or_1d(y, warn=True)
    check_consistent_length(range(count), y)
    check_classification_targets(y)
    try:
        classes, codes = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise InputError(f"y has labels of different types ({error}): give text alone") from error
    return torch.from_numpy(codes.astype(np.int64)), classes


def _train(
    config: Config, pictures: Pictures, codes: Tensor, classes: np.ndarray, progress: Progress
) -> tuple[Training, list[float]]:
    """A finished training, and the mean loss of each epoch: a run without folder or test."""
    names = tuple(map(str, classes)) or ("(none)",)
    part = Part(pictures, codes, None)
    fits = fitting_size(Found("X", {"train": part}, names, ()))
    config = config.settled(len(part), fits)
    split, left_out = hold(part, config.image_size, config.readers, True, progress)
    if left_out:
        raise unreadable([reason for _, reason in left_out], len(part), "mend or remove them")
    data = DataSet("X", split, split, names, ())  # a test split must be there; nobody asks for it
    epochs: list[float] = []

    def note(epoch: int, loss: float) -> None:
        epochs.append(loss)
        progress.update(f"epoch {epoch}/{config.epochs}  loss {loss:.4f}")

    with kept_random_state(), deterministic(config.deterministic):
        training = Training(config, data, progress)
        try:
            fit_silently(training, note)
        except DivergedError as error:
            raise TrainingError(f"{error}. Fit again with a lower lr than {config.lr:g}") from error
        finally:
            progress.close()
    training.optimizer.zero_grad()  # gradients are as large as the network
    return training, epochs
