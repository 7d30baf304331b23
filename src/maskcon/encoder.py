"""A trained encoder as people use it: pictures in, vectors out."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.config import Config
from maskcon.data import Features, Found, computed_of, features_of, find, is_set
from maskcon.data.image_file import is_picture
from maskcon.data.pictures import Files, Joined, Pictures
from maskcon.data.readers import folder
from maskcon.data.readers.arrays import CONTENT, is_one, one_or_several
from maskcon.data.readers.vectors import FeatureRows
from maskcon.errors import InputError, unreadable
from maskcon.model import words as words_of
from maskcon.model.graph import computing
from maskcon.model.hub import is_named, located
from maskcon.model.network import Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.saved import identity_of, load_encoder
from maskcon.runtime.device import Precision
from maskcon.runtime.files import parse_json
from maskcon.runtime.progress import Progress, Silent, screen
from maskcon.vectors import as_data
from maskcon.vectors import file as embeddings
from maskcon.vectors.once import Made, maker, of_images, of_loose
from maskcon.vectors.store import Store

BATCH = 256


@dataclass(frozen=True)
class Vectors:
    """Some pictures of many, embedded.

    Attributes:
        rows: of the pictures, int64 [n].
        vectors: float32 [n, F], unit length.
        errors: (row, why) of those among them that cannot be read; they have no vector.
        kept: whether they were known from before, and nothing was computed.
    """

    rows: np.ndarray
    vectors: np.ndarray
    errors: tuple[tuple[int, str], ...]
    kept: bool = False


class Encoder:
    """A trained encoder: the backbone of a run, and how pictures become its input.

        encoder = maskcon.Encoder.load("runs/x")
        vectors = encoder.embed(["a.jpg", "b.jpg"])  # float32 [2, F], unit length

    Attributes:
        network: the torch module, in evaluation mode: `network(preprocessing.normalise(images))`
            of uint8 [N, 3, S, S] has gradients, and "feature" [N, F].
        preprocessing: size and normalisation of its input.
        width: F, of a vector.
        device: where it computes.
        source: the folder that it was loaded from, or hf:OWNER/NAME@COMMIT.
    """

    def __init__(
        self,
        network: Network,
        preprocessing: Preprocessing,
        precision: Precision,
        store: Store | None = None,
    ):
        self.network, self.store = network.to(precision.device).eval(), store
        self.preprocessing, self.precision = preprocessing, precision
        self.width, self.device = network.width, precision.device
        self.source = ""
        self._texts: Path | words_of.TextSide | None = None  # a folder until it is asked for

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str = "auto",
        precision: str | None = None,
        backend: str | None = None,
        store: Store | None = None,
        download: bool = False,
    ) -> "Encoder":
        """Load the encoder of a run.

        Args:
            path: a run folder, or the encoder.safetensors in it (encoder.json lies beside it); or
                hf:OWNER/NAME of the Hugging Face hub, with @REVISION a certain one; or a network
                with a text side, open_clip/MODEL@WEIGHTS or a folder with the files of one.
            device: auto, cpu, cuda, cuda:1, mps.
            precision: auto, fp32, bf16 or fp16; by default the run's own, where there is a
                run.json, else auto.
            backend: what runs the network: torch, onnx (onnxruntime) or openvino; the others than
                torch compute on the processor, onnx in fp32, openvino in bf16, too, where there are
                units for it. By default the run's own, where it is here.
            store: where vectors of pictures are looked for, and kept; `maskcon.vectors.Store()`
                is the one that commands use, None is none.
            download: fetch an encoder of the hub that is not on this machine.

        Raises:
            InputError: there is no encoder, or it is damaged.
        """
        if download and not is_named(path):
            raise InputError(f"download has no effect: {path} is no hf:OWNER/NAME; leave it out")
        place = located(path, download=download)
        network, description = load_encoder(place.folder)
        own, own_backend = _trained_in(place.folder)
        numbers = computing(own, precision, device, backend, own_backend=own_backend)
        made = cls(network, Preprocessing.of(description), numbers, store)
        made.source = place.name
        made._texts = place.folder if words_of.is_one(place.folder) else None
        return made

    @property
    def identity(self) -> str:
        """Tells this encoder's vectors from those of others: a digest of weights and input."""
        return identity_of(self.network, self.preprocessing)

    @property
    def has_words(self) -> bool:
        """Whether it has a text side, so that `embed_words` can be asked."""
        return self._texts is not None

    def embed_words(self, words: str | Sequence[str]) -> np.ndarray:
        """Vectors of texts, beside which those of pictures that they describe lie.

        Args:
            words: one text, or several.

        Returns:
            float32 [n, F], unit length: a text's cosine with a picture is their product.

        Raises:
            InputError: a text is empty, or the encoder has no text side.
        """
        texts = [words] if isinstance(words, str) else [*words]
        if not texts or not all(text.strip() for text in texts):
            raise InputError("there are no words to look for: give a text that is not empty")
        if self._texts is None:
            raise InputError(words_of.none_of(self.network, self.source))
        if isinstance(self._texts, Path):
            self._texts = words_of.TextSide(self._texts, self.device)
        return self._texts.embed(texts)

    def embed(
        self,
        images: Any,
        *,
        batch_size: int = BATCH,
        progress: bool | Progress = False,
        workers: int = 0,
    ) -> np.ndarray:
        """Vectors of pictures, in their order.

        Args:
            images: paths; arrays (uint8 [N, H, W, 3], [N, H, W], torch [N, 3, H, W], or a
                sequence of [H, W, 3] of any sizes); Pillow images; bytes of image files; one
                picture alone, as `maskcon.data.readers.arrays.one_or_several` takes it; the path of
                a folder, a table or a file of `maskcon embed`; or a set that `maskcon.data.find` or
                `from_arrays` returned, all of its splits. An encoder with a head takes the vectors
                of the model behind it as well: floats [n, F], and, if it was trained on vectors
                alone, a file of them.
            batch_size: pictures that go through the network together.
            progress: show a line on the terminal; or tell this object.
            workers: threads that read pictures; 0 is one for each core.

        Returns:
            float32 [n, F], unit length.

        Raises:
            InputError: there are no pictures, or some cannot be read; the message names them.
        """
        pictures = self._given_vectors(images) or _pictures(images)
        return self._all(pictures, batch_size, progress, workers)

    def encode(
        self,
        images: Any,
        *,
        batch_size: int = BATCH,
        show_progress_bar: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = True,
    ) -> np.ndarray | Tensor | list[Tensor]:
        """`embed`, with the arguments of sentence-transformers' `encode`.

        Args:
            images: as `embed` takes them; of one picture alone there is one vector, [F].
            batch_size: pictures that go through the network together.
            show_progress_bar: show a line on the terminal.
            convert_to_numpy: an array; otherwise a list with a tensor for each picture.
            convert_to_tensor: one tensor on `device`, whatever `convert_to_numpy` says.
            normalize_embeddings: vectors of unit length, as everywhere in maskcon; otherwise
                the network's features as they are.

        Returns:
            float32 [n, F], or [F] of one picture.

        Raises:
            InputError: as `embed`; or features are asked for of a file that has vectors of unit
                length.
        """
        one = is_one(images) or (isinstance(images, str | Path) and is_picture(Path(images)))
        pictures = self._given_vectors(images) or _pictures(images)
        if not normalize_embeddings and computed_of(pictures) is not None:
            raise InputError(
                f"{images} has vectors of unit length, which features cannot be made of: give "
                "pictures, or leave normalize_embeddings out"
            )
        unit = normalize_embeddings
        found = self._all(pictures, batch_size, show_progress_bar, 0, unit=unit)
        rows = found[0] if one else found
        if convert_to_tensor:
            return torch.from_numpy(rows).to(self.device)
        if convert_to_numpy:
            return rows
        tensors = [*torch.from_numpy(found).to(self.device)]
        return tensors[0] if one else tensors

    def _all(
        self,
        pictures: Pictures,
        batch_size: int,
        progress: bool | Progress,
        workers: int,
        *,
        unit: bool = True,
    ) -> np.ndarray:
        """Vectors of pictures, all of which must be readable."""
        how: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "unit": unit}
        with screen() if progress is True else nullcontext(progress or Silent()) as shown:
            made = self.embed_readable(pictures, progress=shown, **how)
        if made.errors:
            reasons = [why for _, why in made.errors]
            raise unreadable(reasons, len(pictures), "mend or remove them")
        return made.vectors

    def embed_readable(
        self,
        pictures: Pictures,
        *,
        batch_size: int = BATCH,
        progress: Progress | None = None,
        workers: int = 0,
        unit: bool = True,
    ) -> Vectors:
        """Vectors of all pictures that can be read, and why others cannot; as `stream`, at once."""
        vectors = np.empty((len(pictures), self.width), np.float32)
        read = np.zeros(len(pictures), bool)
        errors: list[tuple[int, str]] = []
        for part in self.stream(
            pictures, batch_size=batch_size, progress=progress, workers=workers, unit=unit
        ):
            vectors[part.rows] = part.vectors
            read[part.rows] = True
            errors += part.errors
        whole = vectors if read.all() else vectors[read]
        return Vectors(np.flatnonzero(read), whole, tuple(errors))

    def stream(
        self,
        pictures: Pictures,
        *,
        batch_size: int = BATCH,
        progress: Progress | None = None,
        workers: int = 0,
        unit: bool = True,
    ) -> Iterator[Vectors]:
        """Vectors some at a time; no more than a few batches of pictures are ever in memory.

        Those that the store knows come first, then the others, each lot in the pictures' order.
        Where a file of `maskcon embed` was read they are its vectors, and no picture is looked at.

        Args:
            pictures: as `maskcon.data` has them.
            batch_size: pictures that are read together.
            progress: told how far it is.
            workers: threads that read pictures; 0 is one for each core.
            unit: scale them to unit length; a file's are.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: expected 1 or more")
        progress = progress or Silent()
        computed = computed_of(pictures)
        if computed is not None:
            computed.check(self.identity)
            yield Vectors(np.arange(len(pictures)), computed.vectors, (), kept=True)
            return
        for made in self._made(pictures, batch_size, workers, progress):
            if not bool(made.features.isfinite().all()):
                raise InputError(
                    "the encoder's vectors are not finite: it has diverged; train it anew"
                )
            x = torch.nn.functional.normalize(made.features, dim=1) if unit else made.features
            x = x.float().view(-1, self.width).cpu()
            yield Vectors(made.rows.numpy(), x.numpy(), made.errors, made.kept)
        progress.close()

    def _made(
        self, pictures: Pictures, batch_size: int, workers: int, progress: Progress
    ) -> Iterator[Made]:
        features = features_of(pictures)
        by = maker(self.network, self.preprocessing, self.precision, self.store)
        if features is not None:
            by = replace(by, store=None)
            return of_images(by, features, workers=0, batch_size=batch_size, progress=progress)
        if not self.network.takes_pictures:
            raise InputError(
                "this encoder was trained on vectors that another model made: embed the pictures "
                f"with that model first, and give it the vectors, floats [n, {self.network.inputs}]"
            )
        threads = Config(workers=workers).readers
        return of_loose(by, pictures, threads=threads, batch_size=batch_size, progress=progress)

    def _given_vectors(self, images: Any) -> FeatureRows | None:
        """What was given, if it is vectors."""
        network = self.network
        a_file = isinstance(images, str | Path) and not network.takes_pictures
        if a_file and Path(images).suffix.lower() in embeddings.SUFFIXES:
            images = embeddings.read(images).vectors
        if not isinstance(images, np.ndarray | Tensor) or images.ndim != 2:
            return None
        vectors = torch.as_tensor(images)
        if not vectors.is_floating_point() or not len(vectors):
            return None
        if network.inputs is None:
            raise InputError(
                f"given are vectors {list(vectors.shape)}, and this encoder takes pictures alone"
            )
        names = [f"row {row}" for row in range(len(vectors))]
        return FeatureRows(Features(vectors.float()[:, None]), names, "the array")


def _pictures(images: Any) -> Pictures:
    """Whatever `Encoder.embed` takes, as pictures."""
    if isinstance(images, str | Path):
        path = Path(images)
        if path.is_file() and is_picture(path):
            images = [path]
        elif path.is_dir() and not is_set(path):
            images, _ = folder.loose(path)
        elif as_data.is_of_pictures(path):
            return as_data.of_file(embeddings.read(path), path)
        else:
            images = find(str(images))
    if isinstance(images, Found):
        return joined(images)
    if isinstance(images, Iterable) and not isinstance(images, np.ndarray | Tensor | CONTENT):
        images = list(images)
        if images and all(isinstance(image, str | Path) for image in images):
            return Files(images)
    pictures = one_or_several(images)
    if not len(pictures):
        raise InputError("there are no pictures to embed: give paths, arrays or a folder")
    return pictures


def joined(found: Found) -> Pictures:
    """The pictures of all splits of a set, one split after the other."""
    parts = [part.pictures for part in found.parts.values()]
    return parts[0] if len(parts) == 1 else Joined(parts)


def _trained_in(folder: Path) -> tuple[str, str]:
    """Precision and backend of the run in a folder; "auto" and "torch" where there is none."""
    try:
        run = parse_json((folder / "run.json").read_text(encoding="utf-8"))
        return str(run["precision"]), str(run["config"].get("backend", "torch"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "auto", "torch"
