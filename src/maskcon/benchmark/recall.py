"""Exact Recall@K beside FAISS's exact index and beside a product of matrices with topk."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from maskcon.benchmark.sides import Comparison, Side, Turn, column, target, timed
from maskcon.errors import InputError
from maskcon.eval import retrieval
from maskcon.runtime.device import pick_device, reuse_memory
from maskcon.runtime.progress import Progress, Silent

KS = (1, 2, 5, 10)
CLASSES = 100
SIZES = ((10_000, 512), (50_000, 128))
GROWTH = (10_000, 20_000, 40_000, 80_000, 1_281_167)  # the last is ImageNet's train split
WIDTH = 512
CHUNK = 1024  # queries of the plain side and of FAISS at a time
HERE = __name__
LEAST = {"cpu": 1.0, "cuda": 20.0}
MOST_MIB = {"cpu": 1024.0}


def recall(
    *,
    sizes: Sequence[tuple[int, int]] = SIZES,
    growth: Sequence[int] = GROWTH,
    patience: float = 60.0,
    repeats: int = 5,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rows per second of an exact Recall@1, 2, 5, 10, every row querying all the others.

    The sides are ours, FAISS's exact flat index (on the processor; left out where FAISS is not
    installed) and a product of matrices with topk in chunks. All get the same features, and
    the record holds what each of them found.

    Args:
        sizes: (rows, width) of the sets.
        growth: rows of sets 512 wide, in rising order, to see how time and memory grow. One that
            would take longer than `patience` is not measured but extrapolated with the square
            of its rows, and marked so.
        patience: in seconds.
        repeats: turns of each side, of `sizes`.
        device: of ours and of the product: auto, cpu, cuda.
        progress: told how it goes.

    Returns:
        A record, as `maskcon.benchmark` describes it, with "growth" and "recall".
    """
    progress = progress or Silent()
    names = ["FAISS flat", "product and topk", "maskcon"]
    if find_spec("faiss") is None:
        progress.note("FAISS is not installed, and left out: pip install 'maskcon[faiss]'")
        names = names[1:]
    if any(n < 2 * CLASSES for n, _ in sizes) or list(growth) != sorted(growth):
        raise InputError(f"sizes {sizes}, growth {growth}: expected {2 * CLASSES} rows or more")
    where = str(pick_device(device))
    record, answers = Comparison(
        name="recall",
        sides=[_side(name, n, width, where) for n, width in sizes for name in names],
        baselines=names[:-1],
        unit="rows/s",
        settings={"sizes": [f"{n}x{width}" for n, width in sizes]},
        repeats=repeats,
        device=device,
        progress=progress,
    ).run()
    record["recall"] = {
        name: {k: v for k, v in turns[-1].items() if k.startswith("recall@")}
        for name, turns in answers.items()
    }
    record["growth_width"] = WIDTH
    record["growth"] = {
        name: _grow(name, growth, patience, where, progress)
        for name in names
        if name != "product and topk"
    }
    return {**record, "targets": _targets(record, column(device) or "")}


def _targets(record: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    lines = []
    for size in record["settings"]["sizes"]:
        ratios = record["ratios"][f"{size}: maskcon"]
        faiss = ratios.get(f"{size}: FAISS flat")
        if faiss is not None:
            lines.append(target(f"recall {size} vs FAISS flat", LEAST.get(kind), faiss))
        mib, most = record["peak_host_mib"][f"{size}: maskcon"], MOST_MIB.get(kind)
        lines.append(target(f"recall {size}, peak memory in MiB", None, mib, most=most))
    return lines


def _side(name: str, rows: int, width: int, device: str) -> Side:
    makers = {"FAISS flat": "faiss_flat", "product and topk": "plain", "maskcon": "ours"}
    where = {} if name == "FAISS flat" else {"device": device}
    options = {"rows": rows, "width": width, **where}
    return Side(f"{rows}x{width}: {name}", f"{HERE}:{makers[name]}", options)


def _grow(
    name: str, growth: Sequence[int], patience: float, device: str, progress: Progress
) -> list[dict[str, Any]]:
    """Seconds and memory for each number of rows: measured once, or extrapolated."""
    lines: list[dict[str, Any]] = []
    last: dict[str, Any] | None = None  # that was measured
    for rows in growth:
        if last is not None:
            seconds = last["seconds"] * (rows / last["rows"]) ** 2
            # features, and their copy in the order of the classes or in the index
            added = 2 * 4 * WIDTH * (rows - last["rows"]) / 2**20 if device == "cpu" else 0
            if seconds > patience:
                mib = last["host_mib"] + added
                lines.append({"rows": rows, "seconds": seconds, "host_mib": mib, "measured": False})
                continue
        side = _side(name, rows, WIDTH, device)
        _, answers = Comparison(
            name=f"recall {rows:,} x {WIDTH}",
            sides=[side],
            baselines=(),
            unit="rows/s",
            settings={},
            repeats=1,
            device=device,
            progress=progress,
        ).run()
        (turn,) = answers[side.name]
        took, mib = turn["seconds"], turn["host"]
        last = {"rows": rows, "seconds": took, "host_mib": mib, "measured": True}
        lines.append(last)
    return lines


def _features(rows: int, width: int) -> tuple[Tensor, Tensor]:
    """Unit features around the centres of some classes, and the classes."""
    random = torch.Generator().manual_seed(0)
    label = torch.randint(CLASSES, (rows,), generator=random)
    features = torch.randn(CLASSES, width, generator=random)[label].mul_(0.5)
    for part in features.split(100_000):
        part += torch.randn(part.shape, generator=random)
        torch.nn.functional.normalize(part, dim=1, out=part)
    return features, label


def _turn(rows: int, find: Callable[[int], dict[str, float]], device: str = "cpu") -> Turn:
    find(min(rows, 2000))  # warm-up
    found: dict[str, float] = {}
    run = timed(lambda: found.update(find(rows)), rows, device)
    return lambda: {**run(), **found}


def _of_neighbours(ids: Tensor, label: Tensor) -> dict[str, float]:
    hit = label[ids] == label[:, None]  # [N, k]
    return {f"recall@{k}": hit[:, :k].any(1).double().mean().item() for k in KS}


def ours(*, rows: int, width: int, device: str) -> Turn:
    """`negatives_before` and `recall`."""
    reuse_memory()
    features, label = (x.to(device) for x in _features(rows, width))

    def find(n: int) -> dict[str, float]:
        return retrieval.recall(retrieval.negatives_before(features[:n], label[:n]), KS)

    return _turn(rows, find, device)


def plain(*, rows: int, width: int, device: str) -> Turn:
    """Chunks of the matrix of similarities, and their topk."""
    features, label = (x.to(device) for x in _features(rows, width))

    def find(n: int) -> dict[str, float]:
        x, ids = features[:n], []
        for start in range(0, n, CHUNK):
            similarity = x[start : start + CHUNK] @ x.T
            similarity.diagonal(start).fill_(-torch.inf)
            ids.append(similarity.topk(max(KS)).indices)
        return _of_neighbours(torch.cat(ids), label[:n])

    return _turn(rows, find, device)


def faiss_flat(*, rows: int, width: int) -> Turn:
    """FAISS's exact index of inner products, on the processor."""
    import faiss

    features, label = _features(rows, width)
    x = features.numpy()

    def find(n: int) -> dict[str, float]:
        index = faiss.IndexFlatIP(width)
        index.add(x[:n])
        ids = []
        for start in range(0, n, 16 * CHUNK):
            _, found = index.search(x[start : min(start + 16 * CHUNK, n)], max(KS) + 1)
            ids.append(torch.from_numpy(found))
        nearest = torch.cat(ids)
        own = nearest == torch.arange(n)[:, None]
        # the row itself is among the nearest, unless more than ten are its equals
        own[~own.any(1), -1] = True
        others = nearest[~own].view(n, max(KS))
        return _of_neighbours(others, label[:n])

    return _turn(rows, find)
