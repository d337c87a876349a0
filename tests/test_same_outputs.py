"""What benchmarks/same_outputs.py calls a difference."""

import json

import pytest

from robust_data.benchmarks import same_outputs

LOG = {"seconds": 1.5, "peak_memory_mib": 800.0, "loss": [0.25, 0.5], "memory_format": "contiguous"}


def write_log(path, **changes):
    path.write_text(json.dumps(LOG | changes) + "\n")
    return same_outputs.content(path)


@pytest.mark.parametrize("changes", [{"seconds": 2.5}, {"peak_memory_mib": 1.0}])
def test_times_and_memory_do_not_count(changes, tmp_path):
    assert not same_outputs.difference(write_log(tmp_path / "a.jsonl"), write_log(tmp_path / "b.jsonl", **changes))


@pytest.mark.parametrize("changes, named", [({"loss": [0.25, 0.6]}, "0.loss.1"), ({"memory_format": "x"}, "0.memory_")])
def test_a_value_counts_and_is_named(changes, named, tmp_path):
    told = same_outputs.difference(write_log(tmp_path / "a.jsonl"), write_log(tmp_path / "b.jsonl", **changes))
    assert told.startswith(named)


def test_every_byte_of_other_files_counts_and_so_does_a_file_that_lacks(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"1")
    (tmp_path / "b.npy").write_bytes(b"2")
    here, there = same_outputs.content(tmp_path / "a.npy"), same_outputs.content(tmp_path / "b.npy")
    assert same_outputs.difference(here, there) and same_outputs.difference(here, None)
    assert not same_outputs.difference(here, here)
