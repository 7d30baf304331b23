"""An index of pictures: their vectors, with paths, labels and thumbnails."""

import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from maskcon.errors import InputError
from maskcon.eval.retrieval import ELEMENTS, Retrieval
from maskcon.search.first_look import FirstLook
from maskcon.search.ivf import Lists, installed

KINDS = ("auto", "exact", "ivf")
EXACT_UP_TO = 200_000  # pictures that "auto" searches exactly
QUERIES = 1024  # that are searched together
ALONE_UP_TO = 50_000  # pictures above which many who ask at once wait long for exact searches
SAMPLE = 500  # queries that the recall of an approximate search is measured with
RECALL = 0.99  # of the exact 10 nearest: as many lists are visited as this takes
LOSS = 0.01  # of it, for which lists are made anew
PROBES = 8  # lists that are visited, at least
CANDIDATES = 4  # of the lists for each neighbour, of which the nearest are chosen exactly
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("coarse", pa.string()),
        ("fine", pa.string()),
        ("digest", pa.binary()),  # of the pixels
        ("thumbnail", pa.large_binary()),  # JPEG
    ]
)


@dataclass(frozen=True)
class About:
    """What an index says of itself.

    Attributes:
        identity: of the encoder whose vectors it holds.
        run: the folder that the encoder was in.
        image_size: side of the encoder's input in pixels.
        version: of maskcon, that made it.
        kind: how it is to be searched, one of KINDS.
        recall: recall@10 of the lists against an exact search, where there are lists.
        quantization: what the lists keep a vector as, one of `ivf.QUANTIZATIONS`.
    """

    identity: str
    run: str
    image_size: int
    version: str
    kind: str = "auto"
    recall: float | None = None
    quantization: str = "int8"


def kind_for_many(count: int) -> str:
    """The kind of an index of so many pictures that several people search at once.

    An exact search looks at each vector, however many wait.
    """
    return "ivf" if count > ALONE_UP_TO and installed() else "auto"


def table(
    paths: Sequence[str],
    coarse: Sequence[str | None],
    fine: Sequence[str | None],
    digests: Sequence[bytes | None],
    thumbnails: Sequence[bytes | None],
) -> pa.Table:
    """What an index knows of pictures beside their vectors, one row each."""
    columns = (paths, coarse, fine, digests, thumbnails)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, SCHEMA, strict=True)]
    return pa.table(arrays, schema=SCHEMA)


@dataclass(frozen=True)
class Index:
    """Pictures that can be searched.

    Attributes:
        about: the encoder, and how it is searched.
        vectors: float32 [N, F], unit length.
        rows: a table of `SCHEMA`, N rows, no path twice.
        lists: for an approximate search; None for an exact one.
        anew: its file has no such lists, so that it should be written again.
    """

    about: About
    vectors: np.ndarray
    rows: pa.Table
    lists: Lists | None = None
    anew: bool = False
    _look: FirstLook = field(default_factory=FirstLook, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, about: About, vectors: np.ndarray, rows: pa.Table) -> "Index":
        """An index of vectors [N, F] and their rows; of rows with one path, the last counts."""
        return cls(about, *_last(vectors, rows)).linked()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kind(self) -> str:
        """How it is searched: "exact" or "ivf"."""
        return "exact" if self.lists is None else "ivf"

    def linked(self) -> "Index":
        """With lists, where its kind asks for them, and their recall measured.

        Lists that it has are kept, unless it has outgrown them, they are of another quantization,
        or they find less than before, since what was added lies far from what they were made for.
        """
        wanted = self.about.kind
        if wanted == "auto":
            wanted = "ivf" if len(self) > EXACT_UP_TO and installed() else "exact"
        if wanted == "exact" or not len(self):
            return replace(self, lists=None, about=replace(self.about, recall=None))
        lists, quantization = self.lists, self.about.quantization
        if lists is None or lists.outgrown(len(self)) or lists.quantization != quantization:
            lists = Lists.over(self.vectors, quantization)
        measured, recall = _measured(self, lists)
        if self.lists is lists and recall < min(RECALL, self.about.recall or RECALL) - LOSS:
            measured, recall = _measured(self, Lists.over(self.vectors, quantization))
        return replace(self, lists=measured, about=replace(self.about, recall=recall))

    def add(self, vectors: np.ndarray, rows: pa.Table) -> "Index":
        """With more pictures; those whose path is there already take its place."""
        stays = pc.invert(pc.is_in(self.rows["path"], value_set=rows["path"].combine_chunks()))
        vectors, rows = _last(vectors, rows)
        return self._changed(np.flatnonzero(stays.to_numpy()), vectors, rows)

    def _changed(self, kept: np.ndarray, vectors: np.ndarray, rows: pa.Table) -> "Index":
        """The rows that are kept, ascending, and then more."""
        lists = None if self.lists is None else self.lists.changed(kept, vectors)
        both = np.empty((len(kept) + len(vectors), self.vectors.shape[1]), np.float32)
        np.take(self.vectors, kept, axis=0, out=both[: len(kept)], mode="clip")  # without a copy
        both[len(kept) :] = vectors
        return Index(
            self.about,
            both,
            pa.concat_tables([self.rows.take(kept), rows]),
            lists,
        ).linked()

    def remove(self, patterns: Sequence[str]) -> tuple["Index", list[str]]:
        """Without the pictures whose path, or its end after a slash, is or matches a pattern.

        `*` stands for any characters, slashes too, so "old/*" is everything below any folder "old".

        Returns:
            The index, and the paths that were removed.

        Raises:
            InputError: a pattern matches nothing.
        """
        paths = self.rows["path"].to_pylist()
        gone = np.zeros(len(paths), bool)
        for pattern in patterns:
            matches = _matcher(pattern)
            found = np.array([matches(path) for path in paths], bool)
            if not found.any():
                such = f"; they are such as {paths[0]!r}" if paths else ": it is empty"
                raise InputError(f"no path in the index matches {pattern!r}{such}")
            gone |= found
        kept = np.flatnonzero(~gone)
        index = self._changed(kept, self.vectors[:0], self.rows.slice(0, 0))
        return index, [paths[row] for row in np.flatnonzero(gone)]

    def bounded(self, k: int) -> int:
        """How many pictures there are to be found where k are asked for.

        Raises:
            InputError: none are asked for, or there are none.
        """
        if not len(self):
            raise InputError("the index is empty: add pictures, maskcon index INDEX DATA --add")
        if k < 1:
            raise InputError(f"k is {k}: expected 1 or more")
        return min(k, len(self))

    def search(
        self, queries: np.ndarray, k: int, without: Sequence[np.ndarray] | None = None
    ) -> Retrieval:
        """The k nearest pictures of each query, by cosine similarity.

        Args:
            queries: float32 [Q, F], unit length.
            k: neighbours; no more than there are pictures are found.
            without: rows that each query leaves out.

        Returns:
            ids (rows) and scores [Q, k], nearest first; -1 and -inf where there are fewer.

        Raises:
            InputError: the index is empty, k is not in 1..N, or the queries have another width.
        """
        k = self.bounded(k)
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1] or not len(queries):
            raise InputError(
                f"queries are {list(queries.shape)}: expected [Q, {self.vectors.shape[1]}]"
            )
        if not np.isfinite(queries).all():
            raise InputError("a query's vector is not finite: the encoder has diverged")
        without = without or [np.empty(0, np.int64)] * len(queries)
        found = []
        for start in range(0, len(queries), QUERIES):
            some = queries[start : start + QUERIES]
            left_out = without[start : start + QUERIES]
            if self.lists is not None:
                found.append(_through(self.lists, self.vectors, some, k, left_out))
            elif len(some) == 1:
                found.append(self._of_one(some, k, left_out[0]))
            else:
                found.append(_exact(self.vectors, some, k, left_out))
        return Retrieval(torch.cat([f.ids for f in found]), torch.cat([f.scores for f in found]))

    def _of_one(self, query: np.ndarray, k: int, without: np.ndarray) -> Retrieval:
        """As `_exact`, of one query [1, F]; from the second on after a first look."""
        asked = np.ascontiguousarray(query, np.float32)
        rows = self._look.among(self.vectors, asked[0], k + len(without))
        if rows is None:
            return _exact(self.vectors, asked, k, [without])
        left_out = np.flatnonzero(np.isin(rows, without))
        found = _exact(self.vectors[rows], asked, k, [left_out])
        return Retrieval(torch.from_numpy(rows)[found.ids], found.scores)


def _exact(
    vectors: np.ndarray, queries: np.ndarray, k: int, without: Sequence[np.ndarray]
) -> Retrieval:
    """Every similarity, in blocks that fit into memory; the best k of each block are kept."""
    asked = torch.from_numpy(np.ascontiguousarray(queries, np.float32))
    step = max(k, ELEMENTS // max(len(queries), vectors.shape[1]))
    ids = torch.empty(len(queries), 0, dtype=torch.long)
    scores = torch.empty(len(queries), 0)
    for start in range(0, len(vectors), step):
        block = _where_they_lie(vectors[start : start + step])
        similarity = asked @ block.T  # [Q, step]
        for query, rows in enumerate(without):
            inside = rows[(rows >= start) & (rows < start + len(block))]
            similarity[query, torch.from_numpy(inside - start)] = -torch.inf
        top = similarity.topk(min(k, len(block)))
        _check_cosines(top.values)
        ids = torch.cat([ids, top.indices + start], dim=1)
        scores = torch.cat([scores, top.values], dim=1)
        scores, best = scores.topk(min(k, scores.shape[1]))
        ids = ids.gather(1, best)
    return Retrieval(torch.where(scores.isneginf(), -1, ids), scores)


def _where_they_lie(vectors: np.ndarray) -> torch.Tensor:
    """Vectors as a tensor that is only read, without a copy, which takes longer than the search."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(vectors)


def _through(
    lists: Lists, vectors: np.ndarray, queries: np.ndarray, k: int, without: Sequence[np.ndarray]
) -> Retrieval:
    """What the lists find near, sorted by exact similarity."""
    wanted = k + max((len(rows) for rows in without), default=0)
    near = lists.near(queries, min(len(vectors), CANDIDATES * wanted))  # [Q, C]
    scores = np.empty(near.shape, np.float32)
    step = max(1, ELEMENTS // (near.shape[1] * vectors.shape[1]))
    for start in range(0, len(queries), step):
        some = slice(start, start + step)
        scores[some] = np.einsum("qf,qcf->qc", queries[some], vectors[near[some]])
    scores[near < 0] = -np.inf
    _check_cosines(torch.from_numpy(scores))
    for query, rows in enumerate(without):
        scores[query, np.isin(near[query], rows)] = -np.inf
    best, order = torch.from_numpy(scores).topk(k)
    ids = torch.from_numpy(near).gather(1, order)
    return Retrieval(torch.where(best.isneginf(), -1, ids), best)


def _check_cosines(scores: torch.Tensor) -> None:
    """See that the vectors were finite; the scores of others sort before all."""
    if bool((scores.isnan() | scores.isposinf()).any()):
        raise InputError("a vector of the index is not finite: it is damaged; index anew")


def _last(vectors: np.ndarray, rows: pa.Table) -> tuple[np.ndarray, pa.Table]:
    """Vectors [N, F] and their rows; of rows with one path, the last."""
    last = {path: row for row, path in enumerate(rows["path"].to_pylist())}
    if len(last) == len(rows):
        return vectors, rows
    kept = np.array(sorted(last.values()), np.int64)
    return vectors[kept], rows.take(kept)


def _measured(index: Index, lists: Lists) -> tuple[Lists, float]:
    """Lists, and the share of the exact 10 nearest of a sample of pictures that they find.

    As many of them are visited as it takes for a share of `RECALL`, at least `PROBES`.
    """
    rows = np.unique(np.linspace(0, len(index) - 1, min(SAMPLE, len(index))).astype(np.int64))
    k = min(10, len(index) - 1)
    if not k:
        return lists, 1.0
    queries, itself = np.array(index.vectors[rows]), [np.array([row]) for row in rows]
    exact = replace(index, lists=None).search(queries, k, itself).ids
    probes, recall = PROBES, 0.0
    while True:
        visited = lists.visiting(probes)
        found = replace(index, lists=visited).search(queries, k, itself).ids
        recall = float((found[:, :, None] == exact[:, None, :]).any(2).double().mean())
        if recall >= RECALL or visited.probes < probes:
            return visited, recall
        probes *= 2


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path, or its end after a slash, is or matches a pattern: * stands for any text."""

    def translated(text: str) -> str:
        return ".*".join(map(re.escape, text.split("*")))

    ends = re.compile(rf"(?:.*/)?{translated(pattern)}", re.DOTALL).fullmatch
    here = re.compile(translated(os.path.abspath(pattern)), re.DOTALL).fullmatch  # noqa: PTH100
    return lambda path: bool(ends(path)) or bool(here(path))
