"""Vectors of a frozen backbone, computed once: written to a file as they come, and kept.

A file is named by all that its numbers depend on: the backbone's weights, the input, the
pictures and how they are cut. A run with another method, seed or head finds it there; one that
was broken off goes on where it stopped.
"""

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maskcon.data import DataSet, Features, Images, InMemory, Split
from maskcon.data.plans import Plan, RowsInOrder
from maskcon.errors import InputError
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime import files
from maskcon.runtime.device import Precision
from maskcon.runtime.progress import Progress
from maskcon.vectors.encode import Loaded, encode
from maskcon.vectors.journal import KEY, Journal

FORMAT = 1  # of what is computed; another number computes anew
BATCH = 16  # squares at a time on a processor, whose caches hold the activations of no more
GPU_BATCH = 256
LARGEST = torch.finfo(torch.float16).max


def cache_home() -> Path:
    """Where vectors are kept by default: ~/.cache/maskcon/vectors."""
    return Path.home() / ".cache" / "maskcon" / "vectors"


@dataclass(frozen=True)
class Frozen:
    """A backbone that does not learn, and how it is used.

    Attributes:
        backbone: images to vectors; in evaluation mode, on its device.
        parts: widths of what its vectors are made of.
        preprocessing: of its input.
        precision: the precision that it computes in.
        views: of each train image; the first is the whole image, the others are crops.
        crop_scale, flip: of the crops.
        seed: of the crops.
    """

    backbone: nn.Module
    parts: tuple[int, ...]
    preprocessing: Preprocessing
    precision: Precision
    views: int
    crop_scale: float | None
    flip: bool
    seed: int

    @property
    def width(self) -> int:
        """F, of its vectors."""
        return sum(self.parts)

    def data_set(self, data: DataSet, folder: Path, workers: int, progress: Progress) -> DataSet:
        """The set with vectors in place of images, computed or found in a folder."""
        parts = {}
        for name, split, views in (
            ("train", data.train, self.views),
            ("test", data.test, 1),
            ("validation", data.validation, 1),
        ):
            if split is None:
                continue
            values = self._values(split, views, folder, workers, progress, name)
            normal = (self.preprocessing.mean, self.preprocessing.std)
            features = Features(values, normal, self.parts)
            parts[name] = Split(features, split.coarse, split.fine)
        validation = parts.get("validation")
        return replace(data, train=parts["train"], test=parts["test"], validation=validation)

    def _values(
        self,
        split: Split,
        views: int,
        folder: Path,
        workers: int,
        progress: Progress,
        name: str,
    ) -> Tensor:
        """Vectors of a split: float16 [N, V, F]."""
        found = []
        files.make_folder(folder)
        for view in range(views):
            # one file a view: a run that wants more of them computes those alone
            path = folder / f"{self._key(split, view)}.npy"
            if not path.exists():
                where = f"{name} view {view + 1} of {views}" if views > 1 else name
                progress.update(f"vectors, {where}: waiting for a run that computes the same")
                with files.locked(path, f"the vectors {path}", wait=files.FOREVER):
                    if not path.exists():  # another run may have computed them meanwhile
                        self._compute(split.images, view, path, workers, progress, where)
            found.append(self._read(path, len(split)))
        progress.note(f"vectors of {name} images: {len(split):,} x {views} x {self.width}")
        return torch.stack(found, 1)

    def _read(self, path: Path, count: int) -> Tensor:
        try:
            values = np.load(path, mmap_mode="c")  # its size is compared before it is in memory
            if values.dtype != np.float16 or values.shape != (count, self.width):
                raise ValueError(f"it is {values.dtype} {list(values.shape)}")
        except (OSError, EOFError, ValueError) as error:
            raise InputError(
                f"the kept vectors {path} are damaged: {error}; delete the file, and they are "
                "computed again"
            ) from error
        return torch.from_numpy(np.array(values))

    def _key(self, split: Split, view: int) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for name, value in sorted(self.backbone.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        in_memory = isinstance(split.images, InMemory)  # named by their labels, too, since 0.1
        pictures = split.fingerprint() if in_memory else split.images.digest
        used = FORMAT, pictures, len(split), self.preprocessing, self.precision.name
        cut = (view, self.crop_scale, self.flip, self.seed) if view else ()
        names = getattr(self.backbone, "names", ())  # of the blocks that a vector is made of
        told = repr((*used, *cut, names))
        digest.update(told.replace(repr(self.preprocessing), self.preprocessing.digested).encode())
        return digest.hexdigest()

    def _compute(
        self,
        images: Images,
        view: int,
        path: Path,
        workers: int,
        progress: Progress,
        where: str,
    ) -> None:
        """Write one view's vectors, going on with a file that was broken off."""
        count, size = len(images), self.preprocessing.image_size
        batch_size = GPU_BATCH if self.precision.device.type == "cuda" else BATCH
        keys = [row.to_bytes(KEY) for row in range(count)]
        about = {"vectors": path.stem, "rows": count}
        journal = Journal(path.with_suffix(".part"), about, self.width, "<f2", ours=True)
        with contextlib.closing(journal):
            missing = (row for row, key in enumerate(keys) if key not in journal.places)
            first = next(missing, count) // batch_size * batch_size  # batches stay as they were
            numbers = range(first // batch_size, -(-count // batch_size))
            plan = self._plan(images, view, batch_size)
            cut = images.squares(plan, numbers, size=size, workers=workers, exact=view == 0)
            for batch, vectors in encode(
                self.backbone,
                (Loaded(rows, images) for rows, (images,) in cut),
                self.preprocessing,
                self.precision,
                count=count,
                first=first,
                doing=f"vectors, {where}",
                progress=progress,
            ):
                # beyond float16's range nothing is a sensible vector, infinities least
                half = vectors.clamp(-LARGEST, LARGEST).half().cpu().numpy()
                journal.add([keys[row] for row in batch.rows], half)
            with files.replacing(path) as new:
                np.save(new, journal.vectors(np.array([journal.places[key] for key in keys])))
            journal.close(delete=True)

    def _plan(self, images: Images, view: int, batch_size: int) -> Plan:
        rule = images.crop_rule(self.crop_scale, self.flip)
        return RowsInOrder(rule, "weak" if view else "plain", batch_size, self.seed, view)
