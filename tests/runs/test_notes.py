"""What is noted in files that several processes change."""

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from maskcon.runs import folder as runs
from maskcon.runs import ledger
from tests.conftest import PROCESSES


def note(folder: Path, name: str) -> None:
    for number in range(10):
        runs.note_evaluation(folder, f"{name} {number}", {"recall@1": 0.5})


def add(path: Path, started: int) -> None:
    for seed in range(10):
        run = {"started": started, "config": {"seed": seed}, "results": {}, "status": "finished"}
        ledger.add(path, [run, run])


def test_evaluations_of_several_processes(tmp_path):
    """None is lost, neither to another evaluation nor to the run itself."""
    run = {"config": {"seed": 0}, "status": "running"}
    runs.write(tmp_path, run)
    with ProcessPoolExecutor(2, PROCESSES) as pool:
        noted = [pool.submit(note, tmp_path, name) for name in "ab"]
        while not all(done.done() for done in noted):
            runs.write(tmp_path, run)
        assert [done.result() for done in noted] == [None, None]
    runs.write(tmp_path, {**run, "status": "finished"})
    found = json.loads((tmp_path / runs.RUN_FILE).read_text())
    assert found["status"] == "finished"
    assert len(found["evaluations"]) == 20
    assert [path.name for path in tmp_path.iterdir()] == [runs.RUN_FILE]


def test_a_ledger_of_several_processes(tmp_path):
    """Every run is there, and once."""
    path = tmp_path / "ledger.jsonl"
    with ProcessPoolExecutor(2, PROCESSES) as pool:
        list(pool.map(add, [path, path, path], [0, 1, 1]))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({json.dumps(line) for line in lines}) == len(lines) == 20
