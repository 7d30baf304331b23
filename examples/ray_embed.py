"""Embed pictures on Ray: a Parquet file of paths in, a Parquet file of vectors out.

    pip install 'ray[data]'
    python examples/ray_embed.py runs/x paths.parquet vectors.parquet --workers 2

`paths.parquet` has a column `path`; further columns `coarse`, `fine` and `split` are kept. Each of
the workers (actors, on any machine of a Ray cluster that sees the run and the pictures) loads the
encoder once and embeds batches; they write Parquet files beside the result, which are joined at the
end in the order of the paths. The result is what `maskcon embed` writes: `maskcon index` and `read`
take it.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from maskcon import Encoder
from maskcon.vectors import Embeddings, write


class Embed:
    """An encoder that stays in a worker."""

    def __init__(self, run: str):
        self.encoder = Encoder.load(run)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """A table with a column `path`, and one more, `vector`."""
        vectors = self.encoder.embed(batch["path"].to_pylist(), workers=1)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        return pa.table({"path": batch["path"], "vector": lists})


def embed(run: str, paths: str, out: str, *, workers: int = 1, batch_size: int = 256) -> None:
    """Embed the pictures of a table into a file.

    Args:
        run: a run folder, at a path that every worker sees.
        paths: a Parquet file with a column `path`, absolute.
        out: the Parquet file to write.
        workers: encoders that embed at the same time.
        batch_size: pictures of a batch.
    """
    given = pq.read_table(paths)
    with tempfile.TemporaryDirectory(dir=Path(out).absolute().parent) as parts:
        ray.data.read_parquet(paths, columns=["path"]).map_batches(
            Embed,
            fn_constructor_args=(str(Path(run).absolute()),),
            batch_format="pyarrow",
            batch_size=batch_size,
            num_cpus=0.5,  # as Ray counts: what reads the table must find a core on a small machine
            compute=ray.data.ActorPoolStrategy(size=workers),
        ).write_parquet(parts)
        made = pq.read_table(parts)  # in the order in which workers came to an end
    made = made.take(pc.index_in(given["path"], made["path"].combine_chunks()))
    column = made["vector"].combine_chunks()
    vectors = column.flatten().to_numpy().reshape(len(made), -1).astype(np.float32, copy=False)
    labels = {
        name: np.array(given[name].to_pylist(), object)
        for name in ("coarse", "fine", "split")
        if name in given.column_names
    }
    encoder = Encoder.load(run)
    write(
        out,
        Embeddings(
            vectors,
            paths=np.array(given["path"].to_pylist(), object),
            identity=encoder.identity,
            image_size=encoder.preprocessing.image_size,
            run=str(Path(run).absolute()),
            data=paths,
            **labels,
        ),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("paths")
    parser.add_argument("out")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    embed(given.run, given.paths, given.out, workers=given.workers)
