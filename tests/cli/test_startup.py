"""What each command imports: a person waits for all of it, and for nothing that is not used."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import FAST

# Not pandas, which pyarrow imports for any array where it is installed.
HEAVY = {
    *("torch", "torchvision", "timm", "torch._dynamo", "torch._inductor", "sympy", "onnx"),
    *("sklearn", "scipy", "matplotlib", "pyarrow", "huggingface_hub", "faiss"),
}
CODE = """
import json, sys
commands, heavy, told = *map(json.loads, sys.argv[1:]), {}
for number, arguments in enumerate(commands):
    try:
        {run}
    except SystemExit as end:
        assert end.code in (None, 0, 2), arguments
    told[number] = sorted({*heavy} & {*sys.modules})
print("imported: " + json.dumps(told))
"""
COMMAND = "from maskcon.cli import main; sys.argv = ['maskcon', *arguments]; main()"


def imported(commands, run=COMMAND, cwd=None) -> list[set[str]]:
    """What is imported after each of some commands, of which one process runs all."""
    code = CODE.replace("{run}", run)
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands), json.dumps(sorted(HEAVY))],
        env={**os.environ, "COLUMNS": "200"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    line = next(x for x in done.stdout.splitlines() if x.startswith("imported: "))
    return [set(names) for names in json.loads(line.removeprefix("imported: ")).values()]


def test_help_and_errors_of_options_import_nothing():
    lines = [["--help"], ["train", "--help"], ["search", "--nope"], ["train", "--lr", "x"]]
    assert imported(lines) == [set()] * len(lines)


def test_a_run_with_a_backbone_of_ours_needs_no_library_of_networks(tmp_path):
    """Nor does a picture that is embedded or searched for need what trains and what judges."""
    rng = np.random.default_rng(0)
    for name in range(3):
        pixels = rng.integers(0, 255, (20, 20, 3), np.uint8)
        folder = tmp_path / "pictures" / str(name)
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "a.png")
    save = (
        "from maskcon.model.network import Architecture, Network\n"
        "        from maskcon.model.saved import save_encoder\n"
        "        from pathlib import Path\n"
        "        made = Architecture(backbone='resnet18', stem='small', heads=('z',),\n"
        "            projection=8, classes=2)\n"
        "        about = {'image_size': 16, 'mean': [0.5] * 3, 'std': [0.2] * 3}\n"
        "        Path('run').mkdir(exist_ok=True)\n"
        "        if not number: save_encoder(Path('run'), Network(made), about)\n"
        f"        {COMMAND}"
    )
    lines = [
        ["index", "run", "pictures", "-o", "a.index"],
        ["search", "a.index", "pictures/1/a.png"],
        ["embed", "run", "pictures/1/a.png", "-o", "a.npz"],
    ]
    found = imported(lines, save, tmp_path)
    assert found == [{"torch", "pyarrow"}] * len(lines)
    assert (tmp_path / "a.npz").is_file()


def test_training_one_needs_none_either(tmp_path):
    """torch itself imports its compiler for the first step of an optimizer."""
    options = {**FAST, "data": "glyphs"}
    run = (
        "from maskcon.config import resolve\n"
        "        from maskcon.data import from_arrays, load\n"
        "        from maskcon.train.loop import fit\n"
        "        from maskcon.train.state import Training\n"
        "        import numpy as np\n"
        "        images = np.random.default_rng(0).integers(0, 255, (64, 8, 8, 3), np.uint8)\n"
        "        found = from_arrays(images, [0, 1] * 32).with_test(0.2, 0)\n"
        f"        config = resolve({options!r})\n"
        "        training = Training(config, load(found, image_size=8, workers=0))\n"
        "        training.step(training.batch())"
    )
    (found,) = imported([[]], run, tmp_path)
    assert found.isdisjoint({"timm", "torchvision", "sklearn", "scipy", "matplotlib"})


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_libraries_of_networks_come_without_torchs_compiler(name):
    """And what they would have had of it works when it is called."""
    run = (
        "import torch\n"
        "        from maskcon.model.libraries import library\n"
        f"        theirs = library({name!r})\n"
        "        if number:\n"
        "            boxes = torch.tensor([[0, 0, 0, 4, 4.0]])\n"
        "            pooled = library('torchvision').ops.roi_align\n"
        "            before = pooled(torch.ones(1, 3, 8, 8), boxes, 2)\n"
        "            torch.use_deterministic_algorithms(True)\n"
        "            assert torch.equal(pooled(torch.ones(1, 3, 8, 8), boxes, 2), before)\n"
        "            import torch._dynamo.utils as real\n"
        "            assert real.counters is not None\n"
        "            assert torch.compiler.disable(len)('ab') == 2"
    )
    before, after = imported([[], []], run)
    assert before.isdisjoint({"torch._dynamo", "torch._inductor", "sympy"})
    assert "torch._dynamo" in after
