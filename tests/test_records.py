"""The statistics file: what is written, and what is refused on reading."""

import os
import types

import numpy as np
import pytest
from conftest import refuses

from robust_data import files, records


@pytest.fixture
def table():
    rows = np.zeros((2, 3), dtype=records.DTYPE)
    rows["global_step"], rows["index"], rows["golden_label"] = [[0], [4]], [1, 5, 6], [0, 1, 1]
    return rows


@pytest.fixture
def saved(tmp_path, table):
    path = tmp_path / "statistics.npy"
    records.save(path, table, {"instances": 3, "labels_sha256": records.labels_hash(table["golden_label"][0])})
    return path


def test_a_saved_file_opens_as_a_memory_map_without_pickle(saved, table):
    rows, metadata = records.load(saved)
    assert isinstance(rows, np.memmap) and np.array_equal(rows, table) and metadata["instances"] == 3
    assert np.array_equal(np.load(saved, allow_pickle=False), table)


def test_for_a_folder_a_file_in_it_is_named(tmp_path, table):
    with refuses(str(tmp_path)):
        records.load(tmp_path)
    records.save(tmp_path / "robust_statistics_x.npy", table, {})
    with refuses("robust_statistics_x.npy"):
        records.load(tmp_path)


def test_a_file_without_json_opens_with_empty_metadata(saved):
    saved.with_suffix(".json").unlink()
    assert records.load(saved)[1] == {}


def test_a_growing_file_has_its_name_only_when_it_is_finished(tmp_path, table):
    path = tmp_path / "statistics.npy"
    file = records.RecordFile(path, 2, 3)
    file.append(table[0])
    assert not path.exists()
    file.append(table[1])
    file.finish(lambda rows: {"instances": rows.shape[1]})
    rows, metadata = records.load(path)
    assert np.array_equal(rows, table) and metadata == {"instances": 3}
    assert sorted(os.listdir(tmp_path)) == ["statistics.json", "statistics.npy"]


def test_a_file_finished_early_is_cut_to_the_checkpoints_it_has(tmp_path, table):
    path = tmp_path / "statistics.npy"
    file = records.RecordFile(path, 2, 3)
    file.append(table[0])
    file.finish(lambda rows: {})
    assert np.array_equal(records.load(path)[0], table[:1])
    assert sorted(os.listdir(tmp_path)) == ["statistics.json", "statistics.npy"]


def test_an_error_before_the_first_checkpoint_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with records.RecordFiles({"blur": tmp_path / "statistics.npy"}, 2, 3):
            raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_file_is_continued_after_an_error(tmp_path, table):
    path = tmp_path / "statistics.npy"
    with pytest.raises(KeyboardInterrupt):
        with records.RecordFiles({"blur": path}, 2, 3) as growing:
            growing.append([("blur", table[0])])
            raise KeyboardInterrupt
    with records.RecordFiles({"blur": path}, 2, 3, rows=1) as growing:
        growing.append([("blur", table[1])])
        growing.finish(lambda name, rows: {})
    assert np.array_equal(records.load(path)[0], table)


def test_another_table_is_not_continued(tmp_path, table):
    path = tmp_path / "statistics.npy"
    records.RecordFile(path, 2, 3).append(table[0])
    with refuses("--overwrite"):
        records.RecordFile(path, 2, 4, rows=1)


def test_a_file_with_the_input_gradient_is_written_and_continued(tmp_path, table):
    path, more = tmp_path / "statistics.npy", np.zeros(table.shape, dtype=records.DTYPE_WITH_INPUT_GRADIENT)
    for field in records.DTYPE.names:
        more[field] = table[field]
    more[records.INPUT_GRADIENT] = [[0.5, 1, 2], [3, 4, 5]]
    records.RecordFile(path, 2, 3, dtype=more.dtype).append(more[0])
    assert records.can_continue([path], 1)
    with refuses(path.name):
        records.RecordFile(path, 2, 3, rows=1)
    growing = records.RecordFile(path, 2, 3, rows=1, dtype=more.dtype)
    growing.append(more[1])
    growing.finish(lambda rows: {})
    assert np.array_equal(records.load(path)[0], more)
    records.save(path, more[:1], {})  # as a run that ended early is
    assert np.array_equal(records.load(path)[0], more[:1])


def test_an_unfinished_file_that_was_cut_short_is_not_continued(tmp_path, table):
    path = tmp_path / "statistics.npy"
    records.RecordFile(path, 2, 3).append(table[0])
    partial = path.with_name("statistics.npy.partial")
    whole = partial.read_bytes()
    for content in (whole[:-1], whole[:200], b""):
        partial.write_bytes(content)
        assert not records.can_continue([path], 1)
        with refuses("--overwrite"):
            records.RecordFile(path, 2, 3, rows=1)
        assert partial.read_bytes() == content


def test_an_unfinished_file_with_fewer_checkpoints_than_recorded_is_not_continued(tmp_path, table):
    path = tmp_path / "statistics.npy"
    records.RecordFile(path, 2, 3).append(table[0])
    assert records.can_continue([path], 1) and not records.can_continue([path], 2)
    with refuses("index"):
        records.RecordFile(path, 2, 3, rows=2)


def pickled(path):
    np.save(path, np.array({0: {1: {}}}, dtype=object), allow_pickle=True)


def without_a_field(path):
    rows = np.load(path)
    np.save(path, rows[[name for name in rows.dtype.names if name != "delta_norm"]])


@pytest.mark.parametrize(
    "spoil, named",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "truncated"),
        *((lambda path, content=content: path.write_bytes(content), "") for content in (b"", b"\x93NUMPY", b"hello")),
        (pickled, "convert_statistics.py"),
        (lambda path: np.save(path, np.zeros((2, 3))), ""),
        (lambda path: np.save(path, np.load(path)[:0]), ""),
        (without_a_field, "delta_norm"),
        (lambda path: files.write_json(path.with_suffix(".json"), {"instances": 30}), "30"),
        (lambda path: path.with_suffix(".json").write_text("{"), "json"),
        (lambda path: path.unlink(), ""),
    ],
)
def test_what_is_no_statistics_file_is_refused_by_name(saved, spoil, named):
    spoil(saved)
    with refuses("statistics", named):
        records.load(saved)


@pytest.mark.parametrize(
    "field, checkpoint, values, message",
    [
        ("index", slice(None), [1, 6, 5], "do not lie in ascending order"),
        ("index", slice(None), [1, 5, 5], "do not lie in ascending order"),
        ("index", 1, [1, 5, 7], "index is not the same at every checkpoint"),
        ("golden_label", 1, [1, 1, 1], "golden_label is not the same at every checkpoint"),
    ],
)
def test_a_column_that_is_not_one_instance_is_refused(tmp_path, table, field, checkpoint, values, message):
    table[field][checkpoint] = values
    records.save(tmp_path / "wrong.npy", table, {})
    with refuses(message):
        records.load(tmp_path / "wrong.npy")


def dataset(name="animals", index=(0, 1, 5, 6), labels=(0, 0, 1, 1)):
    return types.SimpleNamespace(name=name, index=np.array(index), labels=np.array(labels))


def test_a_file_of_a_part_of_the_dataset_is_accepted(table):
    records.check_dataset(table, {"dataset_name": "animals"}, dataset(), "file.npy")


@pytest.mark.parametrize(
    "other, message",
    [
        (dataset(name="plants"), "collected on dataset 'animals', not on 'plants'"),
        (
            dataset(index=(0, 1, 5), labels=(0, 0, 1)),
            "holds 3 instances, 1 of them with an index that is not among the 3",
        ),
        (dataset(labels=(0, 0, 1, 0)), "1 labels differ"),
    ],
)
def test_a_file_of_another_dataset_is_refused(table, other, message):
    with refuses(message):
        records.check_dataset(table, {"dataset_name": "animals"}, other, "file.npy")
