"""`maskcon serve` under load: clients that search by number beside one that uploads.

python benchmarks/serving.py [--pictures 100000] [--backbone resnet18] [--image-size 224]
    [--kind exact|ivf] [--clients 20] [--pause 0] [--seconds 20] [--threads 1]

Vectors are made: clusters on the sphere. A client asks again when it has its answer and has paused.
Beside how long answers took it says how much processor time the server, its decoder and the clients
took, which tells more where a machine does other things too, and how much memory.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from maskcon.model.network import Architecture, Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.saved import identity_of, save_encoder
from maskcon.search import file as index_file
from maskcon.search.index import About, Index, table

TICKS = os.sysconf("SC_CLK_TCK")
COUNT = 20  # pictures that a search finds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--kind", default="exact")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each answer")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1, help="of the server's torch")
    parser.add_argument("--no-upload", action="store_true")
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        file = made(Path(folder), given)
        environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
        command = [sys.executable, "-m", "maskcon", "serve", str(file)]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        ) as server:
            assert server.stdout is not None
            try:
                address = server.stdout.readline().split(" at ")[1].strip()
                print(json.dumps({**vars(given), **asyncio.run(load(address, server.pid, given))}))
            finally:
                os.killpg(server.pid, signal.SIGKILL)


def made(folder: Path, given: argparse.Namespace) -> Path:
    """An index of clusters, and the encoder that uploads go through."""
    torch.manual_seed(0)
    parts = {"backbone": given.backbone, "heads": ("z",), "projection": 128, "classes": 2}
    stem = "small" if given.image_size <= 64 else "large"
    network = Network(Architecture(**parts, stem=stem))
    statistics = {"mean": [0.5] * 3, "std": [0.25] * 3}
    described = {"image_size": given.image_size, **statistics}
    (folder / "run").mkdir()
    save_encoder(folder / "run", network, described)
    rng = np.random.default_rng(0)
    count, width = given.pictures, network.width
    centres = rng.standard_normal((max(1, count // 50), width), dtype=np.float32)
    vectors = centres[rng.integers(0, len(centres), count)]
    vectors += 0.5 * rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    identity = identity_of(network.eval(), Preprocessing.of(described))
    about = About(identity, str(folder / "run"), given.image_size, "0", kind=given.kind)
    none = [None] * count
    names = [f"/photos/{row:06}.jpg" for row in range(count)]
    index_file.write(Index.of(about, vectors, table(names, none, none, none, none)), folder / "x")
    return folder / "x"


async def load(address: str, group: int, given: argparse.Namespace) -> dict:
    """What the clients met with."""
    place, _, token = address.partition("/?token=")
    host, _, port = place.removeprefix("http://").partition(":")
    upload = request(f"/api/search?count={COUNT}", photograph(), "image/jpeg", host, token)
    if not given.no_upload:
        await asking(host, int(port), lambda: upload, time.monotonic() + 1, 0, [])  # warm
    until = time.monotonic() + given.seconds
    searches: list[float] = []
    uploads: list[float] = []
    rng = np.random.default_rng(1)

    def by_number() -> bytes:
        asked = {"picture": int(rng.integers(given.pictures)), "count": COUNT}
        body = json.dumps(asked).encode()
        return request("/api/search", body, "application/json", host, token)

    before, own = processor(group), time.process_time()
    clients = [
        asking(host, int(port), by_number, until, given.pause, searches)
        for _ in range(given.clients)
    ]
    if not given.no_upload:
        clients.append(asking(host, int(port), lambda: upload, until, 0, uploads))
    began = time.monotonic()
    await asyncio.gather(*clients)
    took = time.monotonic() - began
    used, own = processor(group) - before, time.process_time() - own
    return {
        **{
            f"p{q}_ms": round(1000 * float(np.quantile(searches, q / 100)), 1) for q in (50, 95, 99)
        },
        "searches": len(searches),
        "searches_per_s": round(len(searches) / took, 1),
        "uploads": len(uploads),
        "upload_p50_ms": round(1000 * float(np.median(uploads)), 1) if uploads else None,
        "server_cpu_s": round(used, 2),
        "clients_cpu_s": round(own, 2),
        "wall_s": round(took, 1),
        "memory_mib": memory(group),
    }


async def asking(host, port, make, until, pause, taken) -> None:
    """A client: it asks over one connection, one request after the other."""
    reader, writer = await asyncio.open_connection(host, port)
    while time.monotonic() < until:
        began = time.monotonic()
        writer.write(make())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        taken.append(time.monotonic() - began)
        if pause:
            await asyncio.sleep(pause)
    writer.close()


def request(path: str, body: bytes, kind: str, host: str, token: str) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def photograph() -> bytes:
    """A JPEG of 1600 x 1200 pixels, with edges and noise."""
    small = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(small).resize((1600, 1200), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def processes(group: int) -> dict[int, list[str]]:
    """The processes of the server's session: number -> fields of /proc/N/stat after the name."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = place.read_text()
        except OSError:
            continue
        rest = text.rpartition(")")[2].split()
        if int(rest[3]) == group:
            found[int(place.parent.name)] = rest
    return found


def processor(group: int) -> float:
    """Processor time of all of them, in seconds."""
    return sum(int(rest[11]) + int(rest[12]) for rest in processes(group).values()) / TICKS


def memory(group: int) -> dict[str, list[int]]:
    """MiB of each process: its own, and that it shares or maps from files."""
    own, shared = [], []
    for number in processes(group):
        text = Path(f"/proc/{number}/smaps_rollup").read_text()
        of = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
        own.append((of["Private_Clean"] + of["Private_Dirty"]) // 1024)
        shared.append((of["Shared_Clean"] + of["Shared_Dirty"]) // 1024)
    return {"own": own, "shared": shared}


if __name__ == "__main__":
    main()
