"""Columns that come with the data: groups, of which judging names the worst, and the instances' names elsewhere."""

import csv
import json

import numpy as np
import processes
import pytest
from conftest import refuses

from robust_data import datasets

COLUMNS = {"group_column": "place", "id_column": "name"}


@pytest.fixture
def table(tmp_path):
    rows = "text,place,label,name\na fine film,here,pos,t1\nthe worst of all,there,neg,t2\nwarm,here,pos,t3\n"
    (tmp_path / "films.csv").write_text(rows + "no label,there,,t4\ndull,there,neg,t5\n")
    return tmp_path / "films.csv"


@pytest.fixture
def arrays(few_digits, tmp_path):
    """The few digits with two groups, the even and the odd rows, and names."""
    with np.load(few_digits) as held:
        found = dict(held)
    for prefix in ("", "test_"):
        count = len(found[f"{prefix}labels"])
        found[f"{prefix}place"] = np.array(["even", "odd"])[np.arange(count) % 2]
        found[f"{prefix}name"] = np.char.add(f"{prefix}d", np.arange(count).astype(str))
    np.savez(tmp_path / "grouped.npz", **found)
    return tmp_path / "grouped.npz"


def test_columns_of_a_table_keep_to_their_rows(table):
    data = datasets.load("csv", data_dir=table, **COLUMNS)
    assert data.columns == [["a fine film", "the worst of all", "warm", "dull"]] and data.labels.tolist() == [
        1,
        0,
        1,
        0,
    ]
    assert data.others == {"place": ["here", "there", "here", "there"], "name": ["t1", "t2", "t3", "t5"]}
    assert data.subset([1, 3]).others["name"] == ["t2", "t5"]


def test_images_in_folders_find_theirs_in_metadata_csv(image_folder):
    files = sorted(path.relative_to(image_folder) for path in image_folder.rglob("*.png"))
    lines = [f"{file},{'left' if file.stem in '024' else 'right'}\n" for file in reversed(files)]
    (image_folder / "metadata.csv").write_text("file_name,side\n" + "".join(lines))
    data = datasets.load("imagefolder", "test", data_dir=image_folder, group_column="side")
    assert data.others == {"side": ["left", "right"] * 3}
    (image_folder / "metadata.csv").write_text("file_name,side\n" + "".join(lines[:-1]))
    with refuses("file_name"):
        datasets.load("imagefolder", "test", data_dir=image_folder, group_column="side")


@pytest.mark.parametrize("name", ["npz", "csv", "digits"])
def test_a_column_that_is_not_there_is_refused(name, table, arrays):
    where = {"npz": arrays, "csv": table, "digits": None}[name]
    with refuses("--group_column"):
        datasets.load(name, data_dir=where, group_column="region")


def test_from_statistics_to_judgement(arrays, tmp_path):
    """The JSON of the statistics knows the columns; the table of the chosen has them, the judgement the worst group."""
    given = ["--dataset_name", "npz", "--data_dir", arrays, "--group_column", "place", "--id_column", "name"]
    assert processes.run("data_statistics.py", *given, "--epochs", 1, "--output_dir", tmp_path).returncode == 0
    (statistics,) = tmp_path.glob("robust_statistics*.npy")
    chosen = processes.run("scripts/select_instances.py", "--statistics", statistics, "--output", tmp_path / "chosen")
    assert "of each group: even " in chosen.stdout and " of 24" in chosen.stdout
    rows = list(csv.DictReader(open(tmp_path / "chosen.csv")))
    assert all(
        row["name"] == f"d{row['index']}" and row["place"] == ("even", "odd")[int(row["index"]) % 2] for row in rows
    )
    flooding = "new_fine_tune_flooding/new_fine_tune_flooding.py"
    assert processes.run(flooding, "--statistics_source", statistics, "--output_dir", tmp_path / "f").returncode == 0
    judged = processes.run("evaluate_robustness.py", "--model_name", tmp_path / "f" / "model", "--output_dir", tmp_path)
    assert "worst group (%)" in judged.stdout, judged.stderr
    (report,) = tmp_path.glob("robustness*.json")
    clean = json.loads(report.read_text())["results"][0]
    with np.load(report.with_suffix(".npz")) as found:
        right = found["right"][0].reshape(-1, 2).mean(axis=0)
    assert clean["worst_group_accuracy"] == pytest.approx(right.min())
    assert clean["worst_group"] == ("even", "odd")[right.argmin()]
