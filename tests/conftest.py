import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Several processes test at once, one for each core: one thread for each, and for what they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from PIL import Image

from maskcon.data import DataSet, Found, Part, Split
from maskcon.data.pictures import Arrays
from maskcon.data.sets import glyphs
from maskcon.model.network import Architecture, Network
from maskcon.model.saved import save_encoder
from maskcon.report import plots
from maskcon.runtime import cache, plugins
from tests import command_worker

MASKCON = Path(sys.executable).parent / "maskcon"

# Tests send Ctrl-C, which a shell has all that it begins in its background ignore.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A run that is over in a second.
FAST = {
    **{"backbone": "resnet10w8", "image_size": 16, "projection": 8, "bank_size": 32},
    **{"epochs": 1, "warmup_epochs": 0, "batch_size": 16, "device": "cpu", "precision": "fp32"},
}


@pytest.fixture(autouse=True, scope="session")
def cache_folder(tmp_path_factory):
    """Where vectors are kept: a folder of these tests' own, never a person's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.FOLDER, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A folder for vectors in which there are none yet."""
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def threads_as_before():
    """A test that has more of them than there are cores would slow all that come after it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread():
    """For what is compared to the bit, or over many steps: threads sum in another order."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def blank_drawings():
    """Runs draw blank pictures."""
    with pytest.MonkeyPatch.context() as patch:
        for name in command_worker.DRAWINGS:
            patch.setattr(plots, name, command_worker.blank)
        yield


@pytest.fixture(scope="module")
def drawn(blank_drawings):
    """From here on a module's runs draw what people see."""
    with pytest.MonkeyPatch.context() as patch:
        for name, draw in command_worker.DRAWINGS.items():
            patch.setattr(plots, name, draw)
        yield


@pytest.fixture(scope="session")
def photographs() -> torch.Tensor:
    """Tiles of two real photographs: uint8 [96, 3, 32, 32]. scikit-learn ships them."""
    from sklearn.datasets import load_sample_images

    tiles = []
    for image in load_sample_images().images:
        picture = torch.from_numpy(image.copy()).permute(2, 0, 1)[:, 20:404, 10:522]
        tiles.append(
            picture.unfold(1, 32, 32).unfold(2, 32, 32).permute(1, 2, 0, 3, 4).flatten(0, 1)
        )
    every = torch.cat(tiles)
    return every[:: len(every) // 96][:96].contiguous()


@pytest.fixture(scope="session")
def tiny() -> DataSet:
    """Glyphs, few of them: 96 to train on, 40 to test with."""
    return glyphs.make(train=96, test=40)


@pytest.fixture(scope="session")
def cifar100_folder() -> Path:
    """Real CIFAR-100, where $MASKCON_TEST_CIFAR100 says it is."""
    folder = os.environ.get("MASKCON_TEST_CIFAR100")
    if not folder:
        pytest.skip("set MASKCON_TEST_CIFAR100 to a folder with CIFAR-100's files")
    return Path(folder)


@pytest.fixture(scope="session")
def grocery_folder() -> Path:
    """Half of the Grocery Store Dataset, with its table grocery.csv, where $MASKCON_TEST_GROCERY
    says it is.
    """
    folder = os.environ.get("MASKCON_TEST_GROCERY")
    if not folder:
        pytest.skip("set MASKCON_TEST_GROCERY to a folder with grocery.csv and its photographs")
    return Path(folder)


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Path:
    """A run folder with an encoder that nobody trained; nothing may be written to it."""
    return untrained_run(tmp_path_factory.mktemp("runs") / "a", seed=0)


@pytest.fixture(scope="session")
def other_run(tmp_path_factory) -> Path:
    """The same with other weights."""
    return untrained_run(tmp_path_factory.mktemp("runs") / "b", seed=1)


def as_found(data: DataSet) -> Found:
    """A set in memory as a reader would have found it."""
    parts = {
        name: Part(Arrays(split.images.pixels, data.name), split.coarse, split.fine)
        for name, split in (("train", data.train), ("test", data.test))
    }
    return Found(data.name, parts, data.coarse_names, data.fine_names)


# Processes of their own start at once: the server that they are forked from has torch already.
PROCESSES = multiprocessing.get_context("forkserver")
LATE = ("compare", "discover", "eval", "export", "report", "search", "train")
PROCESSES.set_forkserver_preload(
    [
        *("tests.command_worker", "tests.kills_worker"),
        *("tests.train.crash_worker", "tests.train.ranks_worker"),
        # what commands import late is imported once, for all
        *(f"maskcon.commands._{name}" for name in LATE),
        *("matplotlib.pyplot", "sklearn.decomposition", "sklearn.manifold", "timm.optim"),
        *("pyarrow.parquet", "pyarrow.pandas_compat"),
    ]
)


def begun(work: Callable[..., None], *words: Any) -> Any:
    """A process that does some work, a function of a module that does not import this one."""
    process = PROCESSES.Process(target=work, args=words)
    process.start()
    return process


def picture_tree(folder: Path, split: Split, side: int = 0) -> Path:
    """A folder of coarse/picture, perhaps enlarged."""
    for row, image in enumerate(split.images.pixels):
        place = folder / f"c{split.coarse[row]}"
        place.mkdir(exist_ok=True, parents=True)
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture = picture.resize((side, side)) if side else picture
        picture.save(place / f"{row}.png")
    return folder


def write_tree(root: Path, data: DataSet, prefix: str = "") -> None:
    """A set as the files train|test/coarse/fine/PREFIXrow.png."""
    for part in ("train", "test"):
        split = getattr(data, part)
        for row, image in enumerate(split.images.pixels):
            place = root / part / data.coarse_names[split.coarse[row]]
            place = place / data.fine_names[split.fine[row]]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{prefix}{row}.png")


def untrained_run(folder: Path, seed: int, image_size: int = 16) -> Path:
    """A run folder with an encoder that nobody trained, and nothing else."""
    torch.manual_seed(seed)
    folder.mkdir()
    parts = {"backbone": "resnet10w16", "stem": "small", "heads": ("z",)}
    network = Network(Architecture(**parts, projection=8, classes=2))
    statistics = {"mean": [0.5] * 3, "std": [0.25] * 3}
    save_encoder(folder, network, {"image_size": image_size, **statistics})
    return folder


def typed(
    *words: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    """A command as a person types it, in a process that has torch already."""
    given = [str(word) for word in words]
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        where = cwd or Path.cwd()
        process = begun(command_worker.command, given, where, out, err, environment)
        process.join()
        return subprocess.CompletedProcess(
            given, process.exitcode, out.read_text(), err.read_text()
        )


class Told:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.updates: list[str] = []

    def note(self, line: str) -> None:
        self.notes.append(line)

    def update(self, line: str) -> None:
        self.updates.append(line)

    def close(self) -> None: ...


class Outline(HTMLParser):
    """The elements of a page with their attributes, and its text by element."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict]:
        """The attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium with its log of requests."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1300,900"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


def wait(browser: Any, script: str, *words: Any, seconds: float = 60, pause: float = 0.02) -> Any:
    """What a script returns, once it is true; `pause` is how long to wait between two looks."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := browser.execute_script(f"return {script}", *words):
            return found
        time.sleep(pause)
    raise AssertionError(f"never true: {script}")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs toy packages: name, source of the module, and {group: {name: object}}."""

    def install(package, source, points):
        (tmp_path / f"{package}.py").write_text(source)
        about = tmp_path / f"{package}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [
            line
            for group, names in points.items()
            for line in (f"[{group}]", *(f"{name} = {value}" for name, value in names.items()))
        ]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n")

    monkeypatch.syspath_prepend(tmp_path)
    for kept in (plugins.entries, plugins._made, plugins._leave_out):
        kept.cache_clear()
    yield install
    for kept in (plugins.entries, plugins._made):
        kept.cache_clear()
