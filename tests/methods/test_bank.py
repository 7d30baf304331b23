from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskcon.errors import InputError
from maskcon.methods.bank import MemoryBank


@given(size=st.integers(1, 12), batches=st.lists(st.integers(0, 30), max_size=8))
def test_ring_keeps_the_newest_rows(size, batches):
    bank = MemoryBank(size, 2)
    oracle: deque[int] = deque(maxlen=size)
    counter = 0
    for count in batches:
        values = torch.arange(counter, counter + count)
        counter += count
        bank.enqueue(values[:, None].expand(-1, 2).float(), values)
        oracle.extend(values.tolist())
    held = bank.label[bank.label >= 0]
    assert sorted(held.tolist()) == list(oracle)
    assert torch.equal(bank.z[bank.label >= 0, 0].long(), held)
    if len(oracle) == size:  # the oldest row is the next to go
        assert int(bank.label[bank.position]) == oracle[0]


def test_the_position_is_in_the_state():
    bank = MemoryBank(5, 3)
    bank.enqueue(torch.ones(3, 3), torch.arange(3))
    copy = MemoryBank(5, 3)
    copy.load_state_dict(bank.state_dict())
    for each in (bank, copy):
        each.enqueue(torch.zeros(4, 3), torch.arange(10, 14))
    assert torch.equal(bank.label, copy.label)
    assert torch.equal(bank.z, copy.z)
    assert bank.position == copy.position == 2


def test_no_gradient_stays_in_the_bank():
    bank = MemoryBank(4, 2)
    bank.enqueue(torch.ones(3, 2, requires_grad=True), torch.zeros(3).long())
    assert not bank.z.requires_grad


def test_other_width():
    with pytest.raises(InputError, match="bank has rows of 4, keys have 3: set projection=4"):
        MemoryBank(8, 4).enqueue(torch.ones(2, 3), torch.zeros(2).long())


def test_no_rows():
    with pytest.raises(InputError, match="at least one"):
        MemoryBank(0, 4)
