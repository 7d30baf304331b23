import hashlib
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
import torch

from maskcon import commands
from maskcon.cli import cli
from maskcon.errors import InputError
from maskcon.model.backbones import layered
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime import cache
from maskcon.runtime.device import Precision
from maskcon.vectors import store as stores
from maskcon.vectors.store import Source, Store

F = 6
SOURCE = Source(b"a" * 16, "a network", F)


def keys(count: int, first: int = 0) -> list[bytes]:
    return [
        hashlib.blake2b(str(row).encode(), digest_size=16).digest()
        for row in range(first, first + count)
    ]


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, F)).astype(np.float32)


def found(store: Store, wanted: list[bytes], source: Source = SOURCE) -> dict[int, np.ndarray]:
    """Row -> vector, of those that are there."""
    rows: dict[int, np.ndarray] = {}
    for some, values in store.find(source, wanted):
        rows.update(zip(some.tolist(), values, strict=True))
    return rows


def same(got: dict[int, np.ndarray], expected: dict[int, np.ndarray]) -> None:
    assert got.keys() == expected.keys()
    for row, value in expected.items():
        np.testing.assert_array_equal(got[row], value)


def test_what_was_put_is_found(tmp_path, monkeypatch):
    """As in a dict, whatever the order, the lots and the number of times that one is asked for."""
    monkeypatch.setattr(stores, "TOGETHER", 7)
    store, values = Store(tmp_path), vectors(40)
    wanted = keys(40)
    for lot in (slice(0, 10), slice(5, 25)):  # those that are there already stay
        store.add(SOURCE, wanted[lot], values[lot])
    same(found(store, wanted), {row: values[row] for row in range(25)})
    store.close()
    again = Store(tmp_path)
    backwards = wanted[::-1] + wanted[:3]
    expected = {row: values[39 - row] for row in range(15, 40)}
    same(found(again, backwards), expected | {40 + row: values[row] for row in range(3)})
    other = Source(b"b" * 16, "another", F)
    assert found(again, wanted, other) == {}
    again.add(other, wanted[:2], -values[:2])
    same(found(again, wanted, other), {0: -values[0], 1: -values[1]})
    assert {lot.source: lot.pictures for lot in again.lots()} == {SOURCE: 25, other: 2}
    assert found(again, []) == {}


def test_what_is_spoiled_is_not_found_and_is_put_again(tmp_path):
    store, wanted, values = Store(tmp_path), keys(5), vectors(5)
    store.add(SOURCE, wanted, values)
    store.close()
    with sqlite3.connect(store.path) as connection:
        one = bytearray(connection.execute("SELECT vector FROM vectors").fetchone()[0])
        one[2] ^= 1  # one bit
        connection.execute("UPDATE vectors SET vector = ? WHERE id = 1", (bytes(one),))
        connection.execute("UPDATE vectors SET vector = ? WHERE id = 2", (bytes(4 * F + 4),))
        connection.execute("UPDATE pictures SET vector = 4 WHERE picture = ?", (wanted[2],))
    connection.close()
    assert sorted(found(store, wanted)) == [3, 4]
    store.add(SOURCE, wanted[:2], values[:2])
    same(found(store, wanted), {row: values[row] for row in (0, 1, 3, 4)})


@pytest.mark.parametrize("content", [b"", b"notes of a person\n" * 99, None])
def test_a_file_that_is_no_store_is_begun_anew(tmp_path, content):
    store, wanted, values = Store(tmp_path), keys(500), vectors(500)
    if content is None:
        store.add(SOURCE, wanted, values)
        store.close()
        with open(store.path, "r+b") as file:  # as a loss of power leaves it
            file.seek(cache.PAGE)
            file.write(bytes(2 * cache.PAGE))
    else:
        store.path.write_bytes(content)
    left = found(store, wanted)
    store.add(SOURCE, wanted, values)
    store.add(SOURCE, wanted, values)
    same(left, {row: values[row] for row in left})
    same(found(store, wanted), dict(enumerate(values)))
    assert store.trouble is None


def test_what_was_not_asked_for_longest_goes_first(tmp_path, monkeypatch):
    now = 1_000_000
    monkeypatch.setattr(stores.time, "time", lambda: now)
    store, wanted = Store(tmp_path, limit=10**9), keys(2000)
    wide = Source(b"w" * 16, "wide", 500)
    values = np.ones((1000, 500), np.float32)
    store.add(wide, wanted[:1000], values)
    now += stores.FRESH + 1
    store.add(wide, wanted[1000:], values)
    now += stores.FRESH + 1
    assert len(found(store, wanted[:300], wide)) == 300
    before = (
        store.path.stat().st_size + store.path.with_name(store.path.name + "-wal").stat().st_size
    )
    assert store.prune(10**9) == 0
    gone = store.prune(before // 2)
    assert 900 <= gone <= 1400
    left = found(store, wanted, wide)
    assert set(range(300)) <= set(left)  # asked for last
    assert min(set(left) - set(range(300)), default=2000) >= 300 + min(gone, 700)
    assert store.path.stat().st_size < 0.6 * before
    small = Store(tmp_path / "small", limit=10**6)
    for start in range(0, 2000, 100):
        small.add(wide, wanted[start : start + 100], values[:100])
    assert 100 <= len(found(small, wanted, wide)) <= 520
    assert small.path.stat().st_size < 3 * 10**6


WRITER = """
import sys
from tests.vectors.test_store import SOURCE, Store, keys, vectors
store = Store(sys.argv[1])
for start in range(0, 600, 20):
    store.add(SOURCE, keys(20, start), vectors(600)[start : start + 20])
"""


def test_several_programs_at_once(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path]) for _ in range(3)]
    store = Store(tmp_path)
    while any(one.poll() is None for one in running):
        same(got := found(store, keys(600)), {row: vectors(600)[row] for row in got})
    assert [one.returncode for one in running] == [0, 0, 0]
    same(found(store, keys(600)), dict(enumerate(vectors(600))))
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM vectors").fetchone() == (600,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_store_may_be_deleted_while_it_is_used(tmp_path):
    one, other, values = Store(tmp_path), Store(tmp_path), vectors(4)
    one.add(SOURCE, keys(2), values[:2])
    assert len(found(other, keys(2))) == 2
    other.clear()
    one.add(SOURCE, keys(2, 2), values[2:])  # into a file that has no name any more
    assert len(found(one, keys(4))) in (2, 4)
    assert not found(other, keys(2))
    other.add(SOURCE, keys(4), values)
    same(found(Store(tmp_path), keys(4)), dict(enumerate(values)))


def test_without_a_store(tmp_path, monkeypatch):
    """Nowhere, no room, or a place that cannot be written: nothing is kept, and no error."""
    monkeypatch.setenv(cache.FOLDER, cache.NOWHERE)
    for store in (Store(), Store(tmp_path / "none", limit=0)):
        store.add(SOURCE, keys(2), vectors(2))
        assert found(store, keys(2)) == {}
        assert store.trouble == cache.UNWANTED
    assert not (tmp_path / "none").exists()
    asked = Store(tmp_path / "asked")  # whoever names a folder wants one
    asked.add(SOURCE, keys(2), vectors(2))
    assert len(found(asked, keys(2))) == 2
    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file")
    store.add(SOURCE, keys(2), vectors(2))
    assert found(store, keys(2)) == {}
    assert "cannot be used" in str(store.trouble)
    monkeypatch.setenv(cache.LIMIT, "many")
    with pytest.raises(InputError, match="MASKCON_VECTORS_GB is 'many': expected gigabytes"):
        Store()


def test_an_identity_tells_whatever_numbers_depend_on():
    torch.manual_seed(0)
    network = torch.nn.Linear(3, F)
    preprocessing = Preprocessing(224, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    cpu = torch.device("cpu")
    first = Source.of(network, "n", F, preprocessing, Precision("fp32", cpu))
    assert first == Source.of(network, "n", F, preprocessing, Precision("fp32", cpu))
    others = [
        Source.of(network, "m", F, preprocessing, Precision("fp32", cpu)),
        Source.of(network, "n", F, preprocessing, Precision("bf16", cpu)),
        Source.of(
            network, "n", F, Preprocessing(225, *(2 * [(0.5, 0.5, 0.5)])), Precision("fp32", cpu)
        ),
        Source.of(torch.nn.Linear(3, F), "n", F, preprocessing, Precision("fp32", cpu)),
    ]
    assert len({source.identity for source in (first, *others)}) == 5


def test_an_identity_tells_how_many_blocks_a_vector_says_more_of():
    preprocessing = Preprocessing(32, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    precision = Precision("fp32", torch.device("cpu"))
    for name in ("resnet10w8", "resnet10w8+resnet10w16"):
        made = []
        for layers in (0, 1, 2):
            torch.manual_seed(0)
            made.append(layered(name, layers, size=32)[0])
        found = [Source.of(one, "n", F, preprocessing, precision) for one in made]
        assert len({source.identity for source in found}) == 3


def test_the_command(tmp_path, own_cache):
    assert commands.vectors()["networks"] == []
    store = Store()
    store.add(SOURCE, keys(3), vectors(3))
    store.close()
    told = commands.vectors()
    (lot,) = told["networks"]
    assert (lot["name"], lot["pictures"], lot["bytes"]) == ("a network", 3, 3 * 4 * F)
    assert told["path"] == str(own_cache / stores.FILE)
    assert commands.vectors(keep=0)["gone"] == 3
    assert commands.vectors(clear=True)["bytes"] == 0
    with pytest.raises(InputError, match="expected gigabytes"):
        commands.vectors(keep=-1)


def test_the_command_where_nothing_is_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(cache.FOLDER, cache.NOWHERE)
    monkeypatch.chdir(tmp_path)
    cli(["vectors", "--clear"], standalone_mode=False)
    told = "nothing more is kept: MASKCON_VECTORS is none, or MASKCON_VECTORS_GB is 0"
    assert capsys.readouterr().out.splitlines()[-1] == told
    assert [*tmp_path.iterdir()] == []
    assert commands.vectors()["path"] is None
