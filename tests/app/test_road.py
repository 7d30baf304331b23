"""The whole road on photographs of a store: from a folder with coarse labels to groups with names,
learned from, exported, and found again after the server was killed.

What came of it is printed (`pytest -s`). $MASKCON_TEST_GROCERY_WHOLE takes all photographs that
there are, in place of twelve of each of 21 kinds.
"""

import csv
import os
import resource
import shutil
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch

from maskcon.eval.cluster import agreement
from maskcon.search import file as index_file
from tests.app.person import (
    Person,
    answer_some,
    explored,
    exported,
    learn,
    name_group,
    press,
)

CLASSES = ("Apple", "Milk", "Onion", "Pepper", "Soy-Milk", "Tomato")
EACH = 12  # photographs of a kind
ANSWERS, NAMES, MOVES = 40, 10, 3


@pytest.fixture
def photos(grocery_folder, tmp_path):
    """A folder of photographs by coarse class alone, and the kind of each file."""
    whole = bool(os.environ.get("MASKCON_TEST_GROCERY_WHOLE"))
    with (grocery_folder / "grocery.csv").open(encoding="utf-8", newline="") as table:
        rows = [*csv.DictReader(table)]
    taken: Counter[str] = Counter()
    kinds = {}
    for number, row in enumerate(rows):
        wanted = row["coarse"] in CLASSES and taken[row["fine"]] < EACH
        if whole or wanted:
            taken[row["fine"]] += 1
            path = tmp_path / "store" / row["coarse"] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(grocery_folder / row["path"], path)
            kinds[path.name] = row["fine"]
    return tmp_path / "store", kinds


class Road:
    """What happens to a project, and how right its groups are after each step.

    Args:
        person: before its page.
        kinds: by the names of files.
        index: of the project's pictures.
    """

    def __init__(self, person, kinds, index):
        self.person = person
        names = index_file.read(index)[0].rows["path"].to_pylist()
        self.kinds = [kinds[Path(name).name] for name in names]
        self.numbers = {kind: number for number, kind in enumerate(sorted(set(self.kinds)))}

    def groups(self):
        return self.person.api("groups")["groups"]

    def members(self):
        return torch.tensor(self.person.integers("members"))

    def judge(self, step):
        """The share of pictures in the right group, groups and kinds matched one to one."""
        fine = torch.tensor([self.numbers[kind] for kind in self.kinds])
        right = agreement(self.members(), fine)["accuracy"]
        print(f"{step}: {right:.1%} in the right of {len(self.groups())} groups")
        return right

    def most(self):
        """By group, as the page has them: its kind, and its pictures of other kinds."""
        pictures = defaultdict(list)
        for picture, group in enumerate(self.members().tolist()):
            pictures[group].append(picture)
        found = []
        for number, group in enumerate(self.groups()):
            inside = pictures[number]
            kind = Counter(self.kinds[one] for one in inside).most_common(1)[0][0]
            found.append((group, kind, [one for one in inside if self.kinds[one] != kind]))
        return found

    def name(self, count):
        """Name the largest groups by what most of their pictures are."""
        for _ in range(count):
            free = [(group["count"], group["id"], kind) for group, kind, _ in self.most()
                    if not group["named"]]  # fmt: skip
            _, group, kind = max(free)
            name_group(self.person, group, kind)

    def move(self, count):
        """Move pictures from where they do not belong to where they do; the last that was moved."""
        moved = None
        for _ in range(count):
            found = self.most()
            named = {kind: group for group, kind, _ in found if group["named"]}
            picture, here, there = next(
                (picture, group, named[self.kinds[picture]])
                for group, _, strange in found
                for picture in strange
                if self.kinds[picture] in named
                and picture in self.person.api(f"group?id={group['id']}&limit=100")["pictures"]
            )
            self.person.go(f"group={here['id']}")
            tile = f"document.querySelector('#group-pictures .tile[data-id=\"{picture}\"]')"
            self.person.wait(tile)
            self.person.browser.execute_script(f"{tile}.focus()")
            self.person.press("m")
            self.person.wait("document.getElementById('chooser').open")
            self.person.press(there["id"], self.person.keys.ENTER)
            self.person.told(f"1 picture moved to {there['name']}")
            moved = picture, here["id"], there["id"]
        return moved

    def search(self, file):
        """By a file; the share of what is found that is of its kind, itself left out."""
        self.person.go("search")
        self.person.element("#file").send_keys(str(file))
        self.person.wait("document.querySelectorAll('#found .tile').length")
        script = "[...document.querySelectorAll('#found .tile')].map((e) => Number(e.dataset.id))"
        first, *others = self.person.ask(script)[:11]
        kind = self.kinds[first]
        return first, sum(self.kinds[one] == kind for one in others) / len(others)


@pytest.mark.heavy
def test_from_a_folder_to_groups_with_names(browser, photos):
    folder, kinds = photos
    began, cpu = time.monotonic(), spent()
    with explored(folder) as address:
        person = Person(browser, address)
        print(f"\n{len(kinds):,} photographs, {time.monotonic() - began:.0f} s to the page")
        project = folder.with_name("store.maskcon")
        road = Road(person, kinds, project / "0" / "pictures.index")
        before = road.judge("at first")
        asked = time.monotonic()
        answered = answer_some(person, road.kinds.__getitem__, ANSWERS)
        print(f"{answered} answers in {time.monotonic() - asked:.0f} s")
        assert road.judge(f"after {answered} answers") > before
        road.name(NAMES)
        picture, here, there = road.move(MOVES)
        person.element("body").send_keys("z")
        person.told("Undone")
        assert person.api(f"picture?id={picture}")["group"] == here
        person.element("body").send_keys("Z")
        person.told("Done again")
        assert person.api(f"picture?id={picture}")["group"] == there
        road.judge(f"after {NAMES} names and {MOVES} moves")
        name = person.api(f"picture?id={picture}")["name"]
        (file,) = folder.rglob(Path(name).name)
        first, share = road.search(file)
        assert first == picture
        print(f"{share:.0%} of the ten most like an upload are of its kind")
        began = time.monotonic()
        for row, (was, now) in learn(person).items():
            print(f"{row}: {was} before, {now} after")
        press(person, "Keep")
        person.told("Kept")
        road = Road(person, kinds, project / "1" / "pictures.index")
        road.judge(f"after {time.monotonic() - began:.0f} s of learning")
        _, share = road.search(file)
        print(f"{share:.0%} of the ten most like an upload are of its kind")
        person.go("export")
        with exported(person, "Table").open(encoding="utf-8") as table:
            rows = [*csv.DictReader(table)]
        assert len(rows) == len(kinds)
        left = found_again(person)
        assert len(left["names"]) > 1
        assert set(left["names"]) <= {*kinds.values()}
        assert person.errors() == []
    with explored(folder) as address:  # the first was killed
        person = Person(browser, address)
        assert found_again(person) == left
        assert person.errors() == []
    print(f"{spent() - cpu:.0f} CPU seconds without the browser")


def found_again(person):
    """All that has to be there after a server was killed."""
    groups = person.api("groups")["groups"]
    return {
        "names": sorted({group["name"] for group in groups if group["named"]}),
        "groups": groups,
        "members": person.integers("members"),
        "edits": person.api("edits")["edits"],
        "project": person.api("project"),
    }


def spent():
    """CPU seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
