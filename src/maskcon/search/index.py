"""An index of pictures: their vectors, with paths, labels and thumbnails."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from maskcon.errors import InputError
from maskcon.eval.retrieval import ELEMENTS, Retrieval
from maskcon.search.hnsw import Graph, installed

KINDS = ("auto", "exact", "hnsw")
EXACT_UP_TO = 200_000  # pictures that "auto" searches exactly
QUERIES = 1024  # that are searched together
SAMPLE = 1000  # queries that the recall of a graph is measured with
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
        recall: recall@10 of the graph against an exact search, where there is a graph.
    """

    identity: str
    run: str
    image_size: int
    version: str
    kind: str = "auto"
    recall: float | None = None


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
        graph: for an approximate search; None for an exact one.
        anew: its file has no such graph, so that it should be written again.
    """

    about: About
    vectors: np.ndarray
    rows: pa.Table
    graph: Graph | None = None
    anew: bool = False

    @classmethod
    def of(cls, about: About, vectors: np.ndarray, rows: pa.Table) -> "Index":
        """An index of vectors [N, F] and their rows; of rows with one path, the last counts."""
        last = {path: row for row, path in enumerate(rows["path"].to_pylist())}
        if len(last) < len(rows):
            kept = np.array(sorted(last.values()), np.int64)
            vectors, rows = vectors[kept], rows.take(kept)
        return cls(replace(about, recall=None), vectors, rows).linked()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kind(self) -> str:
        """How it is searched: "exact" or "hnsw"."""
        return "exact" if self.graph is None else "hnsw"

    def linked(self) -> "Index":
        """With a graph, where its kind asks for one, and the graph's recall measured."""
        wanted = self.about.kind
        if wanted == "auto":
            wanted = "hnsw" if len(self) > EXACT_UP_TO and installed() else "exact"
        if wanted == "exact" or not len(self):
            return replace(self, graph=None, about=replace(self.about, recall=None))
        linked = replace(self, graph=Graph.over(self.vectors))
        return replace(linked, about=replace(self.about, recall=_recall(linked)))

    def add(self, vectors: np.ndarray, rows: pa.Table) -> "Index":
        """With more pictures; those whose path is there already take its place."""
        stays = pc.invert(pc.is_in(self.rows["path"], value_set=rows["path"].combine_chunks()))
        kept = np.flatnonzero(stays.to_numpy())
        return Index.of(
            self.about,
            np.concatenate([self.vectors[kept], vectors]),
            pa.concat_tables([self.rows.take(kept), rows]),
        )

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
        index = Index.of(self.about, self.vectors[kept], self.rows.take(kept))
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
            if self.graph is not None:
                found.append(_through(self.graph, self.vectors, some, k, left_out))
            else:
                found.append(_exact(self.vectors, some, k, left_out))
        return Retrieval(torch.cat([f.ids for f in found]), torch.cat([f.scores for f in found]))


def _exact(
    vectors: np.ndarray, queries: np.ndarray, k: int, without: Sequence[np.ndarray]
) -> Retrieval:
    """Every similarity, in blocks that fit into memory; the best k of each block are kept."""
    asked = torch.from_numpy(np.ascontiguousarray(queries, np.float32))
    step = max(k, ELEMENTS // max(len(queries), vectors.shape[1]))
    ids = torch.empty(len(queries), 0, dtype=torch.long)
    scores = torch.empty(len(queries), 0)
    for start in range(0, len(vectors), step):
        block = torch.from_numpy(np.array(vectors[start : start + step]))
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


def _through(
    graph: Graph, vectors: np.ndarray, queries: np.ndarray, k: int, without: Sequence[np.ndarray]
) -> Retrieval:
    """What the graph finds near, sorted by exact similarity."""
    wanted = min(len(vectors), k + max((len(rows) for rows in without), default=0))
    near = graph.near(queries, wanted)  # [Q, wanted]
    scores = np.einsum("qf,qkf->qk", queries, vectors[near])
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


def _recall(index: Index) -> float:
    """Share of the exact 10 nearest of a sample of pictures that the graph finds."""
    rows = np.unique(np.linspace(0, len(index) - 1, min(SAMPLE, len(index))).astype(np.int64))
    k = min(10, len(index) - 1)
    if not k:
        return 1.0
    queries, itself = np.array(index.vectors[rows]), [np.array([row]) for row in rows]
    found = index.search(queries, k, itself).ids
    exact = replace(index, graph=None).search(queries, k, itself).ids
    hits = (found[:, :, None] == exact[:, None, :]).any(2)
    return float(hits.double().mean())


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a path, or its end after a slash, is or matches a pattern: * stands for any text."""

    def translated(text: str) -> str:
        return ".*".join(map(re.escape, text.split("*")))

    ends = re.compile(rf"(?:.*/)?{translated(pattern)}", re.DOTALL).fullmatch
    here = re.compile(translated(os.path.abspath(pattern)), re.DOTALL).fullmatch  # noqa: PTH100
    return lambda path: bool(ends(path)) or bool(here(path))
