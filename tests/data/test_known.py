import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskcon import commands
from maskcon.data import known as module
from maskcon.data import load
from maskcon.data.known import Known
from maskcon.data.pictures import Encoded, Files
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from tests.conftest import picture_tree


@pytest.fixture
def read(own_cache, monkeypatch):
    """Names of the files that were decoded or hashed; files are old enough to be remembered."""
    names = []

    def counted(work):
        def counts(self, row, *more):
            names.append(Path(self.paths[row]).name)
            return work(self, row, *more)

        return counts

    monkeypatch.setattr(Encoded, "decode", counted(Encoded.decode))
    monkeypatch.setattr(Encoded, "digest", counted(Encoded.digest))
    monkeypatch.setattr(module, "FRESH", -1e9)
    return names


def files(folder: Path, known: Known | None) -> Files:
    pictures = Files(sorted(folder.rglob("*.png")))
    pictures.settle(10**6, known)
    return pictures


def picture(path: Path, level: int, side: int = 8) -> None:
    Image.fromarray(np.full((side, side, 3), level, np.uint8)).save(path)


def test_what_did_not_change_is_not_read_again(tmp_path, read):
    for name in "abc":
        picture(tmp_path / f"{name}.png", ord(name))
    expected = [files(tmp_path, None).look(row) for row in range(3)]
    assert [files(tmp_path, Known()).look(row) for row in range(3)] == expected
    read.clear()
    again = files(tmp_path, Known()).take(np.array([2, 0, 1]))
    assert [again.look(row) for row in (1, 2, 0)] == expected
    assert [again.digest(row) for row in (1, 2, 0)] == [digest for _, digest in expected]
    assert read == []
    picture(tmp_path / "b.png", 7)  # as long as it was
    os.utime(tmp_path / "b.png", ns=(1, 1))
    now = [files(tmp_path, Known()).look(row) for row in range(3)]
    assert [one == other for one, other in zip(now, expected, strict=True)] == [True, False, True]
    assert set(read) == {"b.png"}
    read.clear()
    looked = [files(tmp_path, Known(trusted=False)).look(row) for row in range(3)]
    assert looked == now
    assert set(read) == {"a.png", "b.png", "c.png"}


def test_a_digest_does_not_say_that_a_file_can_be_decoded(tmp_path, read):
    (tmp_path / "a.png").write_bytes(b"no picture")
    pictures = files(tmp_path, Known())
    assert pictures.digest(0) == files(tmp_path, None).digest(0)
    with pytest.raises(InputError, match="cannot be read"):
        pictures.look(0)
    picture(tmp_path / "a.png", 0, side=90)
    pictures.look(0)
    pictures.settle(90 * 90 - 1, Known())  # what was within the limit then
    with pytest.raises(InputError, match="pixels"):
        pictures.look(0)
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match="no such file"):
        pictures.digest(0)


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, read, monkeypatch):
    monkeypatch.setattr(module, "FRESH", 60.0)
    picture(tmp_path / "a.png", 0)
    for _ in range(2):
        read.clear()
        files(tmp_path, Known()).look(0)
        assert read


def test_commands_read_each_picture_once(tmp_path, read):
    picture_tree(tmp_path / "photos", glyphs.make(train=24, test=8).train, 90)
    before = load(commands_set(tmp_path), image_size=80).train.images
    read.clear()
    after = load(commands_set(tmp_path), image_size=80).train.images
    assert read == []
    assert after.digest == before.digest
    assert after.digests() == before.digests()
    assert commands.vectors(clear=True)["bytes"] == 0
    load(commands_set(tmp_path), image_size=80)
    assert read


def commands_set(folder: Path):
    from maskcon.commands.sources import find_set, resolved
    from maskcon.runtime.progress import Silent

    return find_set(resolved({"data": str(folder / "photos")}, None), Silent()).with_test(0.2, 0)
