"""What is built for others: the wheel has what the package reads, and nothing else."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from maskcon.data.sets import grocery

ROOT = Path(__file__).parent.parent
READ = (".py", ".toml", ".css", ".js", ".html", ".svg")  # code, facts and recipes, pages


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source archive, and the wheel that was made of it."""
    for needed in ("build", "hatchling"):
        pytest.importorskip(needed)
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel(built):
    (wheel,) = built.glob("*.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = ROOT / "src"
    files = {p.relative_to(source).as_posix() for p in source.rglob("*") if p.suffix in READ}
    photos = (p for p in grocery.HERE.rglob("*") if p.is_file())  # and their licence
    files |= {f"maskcon/data/sets/grocery_small/{p.relative_to(grocery.HERE)}" for p in photos}
    recipes = {f"maskcon/recipes/{p.name}" for p in (ROOT / "recipes").glob("*.toml")}
    assert inside == files | recipes
    assert [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("licenses/LICENSE")]


def test_the_source_archive_can_be_tested(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    for wanted in ("tests", "docs", "recipes", "benchmarks"):
        files = (
            p for p in (ROOT / wanted).rglob("*") if p.is_file() and "__pycache__" not in p.parts
        )
        assert {p.relative_to(ROOT).as_posix() for p in files} <= names
    assert {"README.md", "LICENSE", "pyproject.toml", "mkdocs.yml"} <= names
