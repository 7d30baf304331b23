"""Exact Recall@K beside FAISS's exact index and beside a product of matrices with topk."""

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from maskcon.benchmark.sides import Side, Turn, column, compare, target
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
MOST_MIB = 1024.0


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
    both = {
        f"{n}x{width}": compare(
            f"recall {n:,} x {width}",
            [_side(name, n, width, where) for name in names],
            baselines=names[:-1],
            repeats=repeats,
            unit="rows/s",
            settings={"rows": n, "width": width, "classes": CLASSES},
            device=device,
            progress=progress,
        )
        for n, width in sizes
    }
    records = {size: record for size, (record, _) in both.items()}
    record = _together(records)
    record["recall"] = {
        f"{size}: {name}": {k: v for k, v in turns[-1].items() if k.startswith("recall@")}
        for size, (_, answers) in both.items()
        for name, turns in answers.items()
    }
    record["growth_width"] = WIDTH
    record["growth"] = {
        name: _grow(name, growth, patience, where, progress)
        for name in names
        if name != "product and topk"
    }
    kind = column(device) or ""
    targets = []
    for size, part in records.items():
        if "FAISS flat" in names:
            measured = part["ratios"]["maskcon"]["FAISS flat"]
            targets.append(target(f"recall {size} vs FAISS flat", LEAST.get(kind), measured))
        mib = part["peak_host_mib"]["maskcon"]
        most = MOST_MIB if kind == "cpu" else None
        targets.append(target(f"recall {size}, peak memory in MiB", None, mib, most=most))
    return {**record, "targets": targets}


def _side(name: str, rows: int, width: int, device: str) -> Side:
    makers = {"FAISS flat": "faiss_flat", "product and topk": "plain", "maskcon": "ours"}
    options: dict[str, Any] = {"rows": rows, "width": width}
    if name != "FAISS flat":
        options = {**options, "device": device}
    return Side(name, f"{HERE}:{makers[name]}", options)


def _together(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One record of several, a side of each for each set."""
    first = next(iter(records.values()))
    joined: dict[str, Any] = {**first, "benchmark": "recall", "settings": {}}
    of_sides = ("speeds", "repeats", "peak_host_mib", "peak_device_mib", "prepare_seconds")
    for key in (*of_sides, "ranges", "ratios"):
        if key in first:
            joined[key] = {
                f"{size}: {name}": value
                for size, record in records.items()
                for name, value in record[key].items()
            }
    joined["ratios"] = {
        name: {f"{name.split(': ')[0]}: {base}": ratio for base, ratio in ratios.items()}
        for name, ratios in joined["ratios"].items()
        if name.endswith("maskcon")
    }
    for key in [key for key in joined if key.startswith("vs_")]:
        del joined[key]
    joined["settings"] = {"sizes": list(records), "repeats": first["settings"]["repeats"]}
    return joined


def _grow(
    name: str, growth: Sequence[int], patience: float, device: str, progress: Progress
) -> list[dict[str, Any]]:
    """Seconds and memory for each number of rows: measured once, or extrapolated."""
    lines: list[dict[str, Any]] = []
    for rows in growth:
        before = [line for line in lines if line["measured"]]
        if before:
            seconds = before[-1]["seconds"] * (rows / before[-1]["rows"]) ** 2
            # features, and their copy in the order of the classes or in the index
            added = 2 * 4 * WIDTH * (rows - before[-1]["rows"]) / 2**20
            mib = before[-1]["host_mib"] + (added if device == "cpu" else 0)
            if seconds > patience:
                lines.append({"rows": rows, "seconds": seconds, "host_mib": mib, "measured": False})
                continue
        _, answers = compare(
            f"recall {rows:,} x {WIDTH}",
            [_side(name, rows, WIDTH, device)],
            baselines=(),
            repeats=1,
            unit="rows/s",
            settings={},
            device=device,
            progress=progress,
        )
        (turn,) = answers[name]
        lines.append(
            {
                "rows": rows,
                "seconds": turn["seconds"],
                "host_mib": turn["host"],
                "measured": True,
            }
        )
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


def _turn(rows: int, find: Callable[[], dict[str, float]], warm_up: Callable[[], Any]) -> Turn:
    warm_up()

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        found = find()
        return {"count": rows, "seconds": time.perf_counter() - start, **found}

    return turn


def _of_neighbours(ids: Tensor, label: Tensor) -> dict[str, float]:
    hit = label[ids] == label[:, None]  # [N, k]
    return {f"recall@{k}": hit[:, :k].any(1).double().mean().item() for k in KS}


def ours(*, rows: int, width: int, device: str) -> Turn:
    """`negatives_before` and `recall`."""
    reuse_memory()
    features, label = (x.to(device) for x in _features(rows, width))

    def find(n: int = rows) -> dict[str, float]:
        return retrieval.recall(retrieval.negatives_before(features[:n], label[:n]), KS)

    return _turn(rows, find, lambda: find(min(rows, 2000)))


def plain(*, rows: int, width: int, device: str) -> Turn:
    """Chunks of the matrix of similarities, and their topk."""
    features, label = (x.to(device) for x in _features(rows, width))

    def find(n: int = rows) -> dict[str, float]:
        x, ids = features[:n], []
        for start in range(0, n, CHUNK):
            similarity = x[start : start + CHUNK] @ x.T
            similarity.diagonal(start).fill_(-torch.inf)
            ids.append(similarity.topk(max(KS)).indices)
        return _of_neighbours(torch.cat(ids), label[:n])

    return _turn(rows, find, lambda: find(min(rows, 2000)))


def faiss_flat(*, rows: int, width: int) -> Turn:
    """FAISS's exact index of inner products, on the processor."""
    import faiss

    features, label = _features(rows, width)
    x = features.numpy()

    def find(n: int = rows) -> dict[str, float]:
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

    return _turn(rows, find, lambda: find(min(rows, 2000)))
