"""What the record of a run that others made may ask for, where it is resumed or judged."""

import json
import sys

import pytest

from maskcon import commands
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from tests.conftest import FAST, write_tree

FIELDS = dict.fromkeys(("method", "backbone", "data", "key_view"), "foreign:thing")


@pytest.mark.parametrize(("field", "value"), [*FIELDS.items(), ("query_view", "weak:1,foreign:x")])
def test_a_record_imports_no_module(field, value, tmp_path, monkeypatch):
    write_tree(tmp_path / "data", glyphs.make(train=32, test=16))
    run = tmp_path / "x"
    commands.train(out=run, data=tmp_path / "data", **FAST)
    record = json.loads((run / "run.json").read_text())
    record["config"][field] = value
    (run / "run.json").write_text(json.dumps(record))
    (tmp_path / "foreign.py").write_text("raise ValueError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="foreign:"):
        commands.train(out=run, resume=True)
    assert "foreign" not in sys.modules
    if field == "key_view":
        assert "recall@1" in commands.eval(run)  # which makes no views
        with pytest.raises(InputError, match=r"cannot be imported \(ValueError: imported\)"):
            commands.train(out=run, resume=True, key_view=value)  # typed
