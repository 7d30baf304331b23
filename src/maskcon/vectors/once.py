"""Each picture goes through a network once: vectors that a store knows are found in it.

What is kept is what a network says before the head that may be behind it, so that a run that trains
a head, and whoever uses the head afterwards, need each picture's vector once.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from maskcon.data.images import Images, InOrder
from maskcon.data.pictures import Pictures
from maskcon.data.scan import each
from maskcon.data.table import Split
from maskcon.errors import InputError
from maskcon.model.network import Headed, Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.saved import identity_of
from maskcon.runtime.cache import UNWANTED
from maskcon.runtime.device import Precision, where_exact
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress, Silent
from maskcon.vectors.encode import Loaded, Unread, encode, of_pictures, of_split
from maskcon.vectors.store import Source, Store

UNREADABLE = b""  # in place of a picture's digest


@dataclass(frozen=True)
class Made:
    """Vectors of some pictures.

    Attributes:
        rows: of the pictures, int64 [n].
        features: float32 [n, F].
        errors: (row, why) of pictures that cannot be read, which have no vector.
        kept: whether they were found, and nothing was computed.
    """

    rows: Tensor
    features: Tensor
    errors: tuple[tuple[int, str], ...] = ()
    kept: bool = False


@dataclass(frozen=True)
class Maker:
    """A network that makes vectors of pictures, and where they are kept.

    Attributes:
        network: normalised images to vectors, perhaps with a head; in evaluation mode, on the
            device of `precision`.
        name: of the network, for people.
        width: of the vectors before the head.
        preprocessing: of its input.
        precision: that it computes in.
        store: where its vectors are kept; None is nowhere.
    """

    network: nn.Module
    name: str
    width: int
    preprocessing: Preprocessing
    precision: Precision
    store: Store | None = None

    def made(
        self,
        digests: Callable[[Tensor | None], Sequence[bytes]],
        batches: Callable[[np.ndarray], Iterable[Loaded | Unread]],
        *,
        count: int,
        doing: str = "embedding",
        progress: Progress | None = None,
    ) -> Iterator[Made]:
        """The vectors of pictures: first those that are kept, then the others, which are kept.

        Args:
            digests: what tells each picture, where there is a store; of some rows, int64 [n],
                what tells them now: a vector of what has changed meanwhile is not kept.
            batches: loads the pictures of some rows, int64 [n] ascending; the rows of what it
                loads count among these.
            count: N, of the pictures.
            doing: what progress says that this is.
            progress: told how far it is.
        """
        progress = progress or Silent()
        keys: Sequence[bytes] = ()
        missing = np.ones(count, bool)
        store = None if self.store is None or self.store.trouble else self.store
        if store is not None:
            keys, source = digests(None), self._source
            for rows, vectors in store.find(source, keys):
                missing[rows] = False
                features = self._headed(torch.from_numpy(vectors))
                yield Made(torch.from_numpy(rows), features, kept=True)
        rest = np.flatnonzero(missing)
        if len(rest) < count:
            progress.note(f"{count - len(rest):,} of {count:,} vectors are known from before")
        if not len(rest):
            return
        made = encode(
            self.network if store is None else self._trunk,
            batches(rest),
            self.preprocessing,
            self.precision,
            count=count,
            first=count - len(rest),
            doing=doing,
            progress=progress,
        )
        for batch in made:
            features = batch.features
            rows = rest[batch.rows.numpy()]
            if store is not None and len(rows):
                now = digests(torch.from_numpy(rows))
                same = [place for place, row in enumerate(rows) if now[place] == keys[row]]
                if bool(features.isfinite().all()):
                    kept = [keys[row] for row in rows[same]]
                    store.add(source, kept, features[same].cpu().numpy())
                features = self._headed(features)
            errors = tuple((int(rest[row]), reason) for row, reason in batch.errors)
            yield Made(torch.from_numpy(rows), features, errors)
        if store is not None and store.trouble not in (None, UNWANTED):
            progress.note(f"vectors are not kept: {store.trouble}")

    @property
    def _trunk(self) -> nn.Module:
        network = self.network
        return network.trunk if isinstance(network, Headed) and network.trunk else network

    @property
    def _source(self) -> Source:
        return Source.of(self._trunk, self.name, self.width, self.preprocessing, self.precision)

    @torch.no_grad()
    def _headed(self, vectors: Tensor) -> Tensor:
        """What the head makes of vectors: float32 [n, F] on the device; they, without one."""
        vectors = vectors.to(self.precision.device)
        if self._trunk is self.network:
            return vectors
        with self.precision.autocast():
            features: Tensor = self.network(vectors)
        return features.float()


def maker(
    network: Network,
    preprocessing: Preprocessing,
    precision: Precision,
    store: Store | None = None,
) -> Maker:
    """Of the vectors of an encoder; what others made of pictures is kept nowhere."""
    width = network.width if network.inputs is None else network.inputs
    kept = store if network.takes_pictures else None
    name = network.architecture.backbone
    return Maker(network.backbone, name, width, preprocessing, precision, kept)


def of_loose(
    by: Maker, pictures: Pictures, *, threads: int, batch_size: int, progress: Progress
) -> Iterator[Made]:
    """The vectors of pictures that threads read, which may meet some that cannot be read."""

    def digests(rows: Tensor | None) -> list[bytes]:
        chosen = pictures if rows is None else pictures.take(rows.numpy())
        made = each(chosen.digest, len(chosen), threads, progress, "looking at pictures")
        limit = pictures.limit_told()
        return [UNREADABLE if isinstance(one, InputError) else one + limit for _, one in made]

    def batches(rows: np.ndarray) -> Iterator[Unread]:
        size = by.preprocessing.image_size
        chosen = pictures if len(rows) == len(pictures) else pictures.take(rows)
        return of_pictures(chosen, size=size, threads=threads, batch_size=batch_size)

    return by.made(digests, batches, count=len(pictures), progress=progress)


def of_images(
    by: Maker,
    images: InOrder,
    *,
    workers: int,
    batch_size: int = 0,
    doing: str = "embedding",
    progress: Progress | None = None,
) -> Iterator[Made]:
    """The vectors of the images of a split, not cropped, read by worker processes.

    Where they may be kept the images are `Images`, not only in their order.
    """

    def batches(rows: np.ndarray) -> Iterator[Loaded | Unread]:
        size, device = by.preprocessing.image_size, by.precision.device
        chosen = images if len(rows) == len(images) else images.take(torch.from_numpy(rows))
        return of_split(chosen, size=size, workers=workers, device=device, batch_size=batch_size)

    return by.made(
        lambda rows: cast(Images, images).digests(rows),
        batches,
        count=len(images),
        doing=doing,
        progress=progress,
    )


def embed(
    encoder: Network,
    images: InOrder | Split,
    preprocessing: Preprocessing,
    precision: Precision,
    workers: int = 1,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
    store: Store | None = None,
) -> Tensor:
    """Features before the projector, of unit length: float32 [N, F] on the encoder's device.

    Where that has no float64, which judges compute in, they are on the processor.

    The images are resized to squares, not cropped, those on the disk by as many processes as
    `workers`; the encoder runs in evaluation mode and is put back in the mode it was in.
    Only the features of a set are ever in memory, not its pictures. Of several `ranks` each
    embeds its part, and all have all features. Those of `Images` that a `store` knows are found
    there. Of a split whose vectors came with it, from a file, they are those.

    Raises:
        InputError: vectors that came with a split are another encoder's.
    """
    if isinstance(images, Split):
        if images.computed is not None:
            images.computed.check(identity_of(encoder, preprocessing))
            return torch.from_numpy(images.computed.vectors)
        images = images.images
    count = len(images)
    own = images.take(ranks.part(count))
    features = torch.empty(len(own), encoder.width, device=precision.device)
    was_training = encoder.training
    encoder.eval()
    kept = store if store is not None and cast(Images, images).has_pictures else None
    by = maker(encoder, preprocessing, precision, kept)
    for made in of_images(by, own, workers=workers, progress=progress):
        features[made.rows] = torch.nn.functional.normalize(made.features, dim=1)
    encoder.train(was_training)
    return ranks.all_gather(where_exact(features), count)
