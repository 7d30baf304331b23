"""Notices: each said once, and only where something is wrong."""

from types import SimpleNamespace

import pytest
import torch

from maskcon.runs.recorder import FolderRecorder
from maskcon.runtime.device import Precision, deterministic
from maskcon.train import clock
from maskcon.train.loop import fit
from maskcon.train.state import Training
from maskcon.train.watch import Watch
from tests.conftest import Told
from tests.train.test_train import config, equal, run


def watched(losses: list[float]) -> list[str]:
    told = Told()
    watch = Watch(told.note, lr=0.1)
    for step, loss in enumerate(losses):
        watch.loss(step, loss)
    return told.notes


def test_jumps_of_the_loss():
    assert watched([6.9, 6.8, 6.7, 6.5, 6.2, 5.9, 5.5, 6.0, 5.2, 8.0]) == []
    assert watched([3.0, 9.0]) == []  # too early to say
    notes = watched([3.0, 2.9, 2.8, 2.7, 2.6, 9.0, 9.5, 9.0])
    assert len(notes) == 1
    assert "has jumped from 2.8 to 9 by step 5" in notes[0]
    assert "a lower --lr than 0.1" in notes[0]


def test_collapse_of_a_real_run(tmp_path, tiny):
    """Weight decay takes everything from the features but their bias."""
    told = Told()
    training = Training(config(weight_decay=20.0, lr=0.05, momentum=0.0, epochs=2), tiny)
    fit(training, tiny, FolderRecorder(tmp_path), progress=told)
    notices = [note for note in told.notes if note.startswith("notice")]
    assert len(notices) == 1
    assert "the encoder has collapsed" in notices[0]


def test_a_sound_run_has_no_notice(tmp_path, tiny):
    told = Told()
    fit(Training(config(), tiny), tiny, FolderRecorder(tmp_path), progress=told)
    assert not [note for note in told.notes if note.startswith("notice")]


@pytest.mark.parametrize(("power", "overflows"), [(40, True), (4, False)])
def test_overflow(power, overflows, tmp_path, tiny, monkeypatch):
    """Gradients of a loss times 2^40 overflow, and the scale then falls below one."""

    def scaler(self: Precision) -> torch.amp.GradScaler:
        return torch.amp.GradScaler("cpu", 2.0**power, backoff_factor=2.0**-41)

    monkeypatch.setattr(Precision, "scaler", scaler)
    told = Told()
    fit(Training(config(precision="fp16"), tiny), tiny, FolderRecorder(tmp_path), progress=told)
    said = [note for note in told.notes if "gradients overflow fp16 again and again" in note]
    assert len(said) == overflows


def test_twice_the_same_bits(tmp_path, tiny):
    """Of one seed on one machine."""
    first, second = (run(tmp_path / str(n), tiny, mixup=0.3, ce_weight=0.5) for n in range(2))
    assert equal(first.state_dict(), second.state_dict())
    other = run(tmp_path / "other", tiny, mixup=0.3, ce_weight=0.5, seed=1)
    assert not equal(first.state_dict(), other.state_dict())


def test_deterministic_is_put_back():
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_says_once_how_long_it_will_take(monkeypatch):
    """A clock that is set by hand: one step warms up, the others take two seconds each."""
    now = [0.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    training = SimpleNamespace(steps=0, total_steps=40, steps_per_epoch=8)
    watched = clock.Clock(training)
    told = []
    for seconds in (30, 2, 2, 2):
        now[0] += seconds
        training.steps += 1
        assert watched.due()
        told.append(watched.expectation())
    # 38 steps of 2 seconds are left
    line = "about 1m16s for 4.75 epochs, evaluations apart (measured over 2s of training)"
    assert told == [None, line, None, None]
