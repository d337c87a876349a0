"""The table that puts judged models beside one another."""

import csv
import json

import numpy as np
import pytest
from conftest import refuses, table
from looking import start

from robust_data.records import labels_hash
from robust_data.scripts import compare_models


def row(kind, name, accuracy, severity=None, eps=None, norm=None):
    entry = {"kind": kind, "name": name, "severity": severity, "eps": eps, "norm": norm}
    return entry | {"condition": f"{kind} {name} {severity}", "accuracy": accuracy, "instances": 40}


def judge(folder, clean, attacked, *blurred, **data):
    """What evaluate_robustness.py writes, as far as the table needs it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [row("clean", "clean", clean), row("attack", "pgd", attacked, None, 1 / 255, "linf")]
    rows += [row("perturbation", "blur", accuracy, severity) for severity, accuracy in enumerate(blurred, start=1)]
    rows += [row("published", "blur", 0.5, 1)]
    (folder / "robustness_model.json").write_text(json.dumps({"results": rows, **data}))


def run(folder, *more):
    start(compare_models, "--results_dir", folder, *more)


def judge_instances(folder, right, /, label=0, **other):
    """What is written of single instances: right, bool [conditions, instances], in the order of `judge`."""
    right = np.array(right)
    index, label = np.arange(right.shape[1]), np.full(right.shape[1], label)
    report = {"index_sha256": labels_hash(index), "labels_sha256": labels_hash(np.zeros_like(label))}
    judge(folder, *right.mean(axis=1)[:2], **report)
    rows = json.loads((folder / "robustness_model.json").read_text())["results"]
    conditions = np.array([row["condition"] for row in rows])
    margin = np.where(right, 1.0, -1.0).astype(np.float32)
    arrays = {"index": index, "label": label, "conditions": conditions, "right": right, "margin": margin}
    np.savez(folder / "robustness_model.npz", **arrays | other)


def test_a_folder_of_any_name_is_a_method(tmp_path, capsys):
    judge(tmp_path / "flooding", 0.8, 0.3)
    judge(tmp_path / "plain" / "seed1", 0.5, 0.1)
    judge(tmp_path / "plain" / "seed2", 0.7, 0.1)
    run(tmp_path)
    table = capsys.readouterr().out
    assert [line.split()[:3] for line in table.splitlines()[1:3]] == [["flooding", "1", "80.0"], ["plain", "2", "60.0"]]


def test_mean_and_deviation_over_seeds_and_mean_over_severities(tmp_path, capsys):
    judge(tmp_path / "flooding_seed1", 0.8, 0.3, 0.6, 0.4)
    judge(tmp_path / "flooding_seed2", 0.9, 0.3, 0.8, 0.4)
    judge(tmp_path / "only_robust_seed1", 0.5, 0.1, 0.2, 0.2)
    run(tmp_path)
    printed = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in printed]
    assert cells[0] == ["method", "seeds", "clean", "pgd linf 0.00392", "blur", "published blur"]
    assert cells[1] == ["flooding", "2", "85.0 ± 7.1", "30.0 ± 0.0", "55.0 ± 7.1", "50.0 ± 0.0"]
    assert cells[2] == ["only_robust", "1", "50.0", "10.0", "20.0", "50.0"]
    written = (tmp_path / "comparison.csv").read_text().splitlines()[1]
    assert written.endswith("2,85.0 ± 7.1,30.0 ± 0.0,55.0 ± 7.1,50.0 ± 0.0")
    assert (tmp_path / "comparison.md").read_text().splitlines()[2].startswith("| flooding | 2 | 85.0 ± 7.1 |")
    assert r"only\_robust & 1 & 50.0" in (tmp_path / "comparison.tex").read_text()


def test_the_size_of_an_attack_without_eps_is_in_the_heading(tmp_path, capsys):
    effort = {"steps": 8, "step_size": 0.06, "restarts": 1, "special_tokens": 0}
    for seed, more in ((1, {}), (2, {"steps": 9})):
        (tmp_path / f"plain_seed{seed}").mkdir()
        rows = [row("clean", "clean", 0.9), row("attack", "pgd", 0.3) | effort | more]
        (tmp_path / f"plain_seed{seed}" / "robustness_model.json").write_text(json.dumps({"results": rows}))
        if seed == 1:
            run(tmp_path)
            assert capsys.readouterr().out.splitlines()[0].split("  ")[-1] == "pgd 8 x 0.06"
    with refuses("--results_dir"):
        run(tmp_path)


def test_what_rests_on_an_attack_that_failed_is_marked(tmp_path, capsys):
    for seed in range(2):
        judge(tmp_path / f"plain_seed{seed}", 0.8, 0.2)
        judge(tmp_path / f"flooding_seed{seed}", 0.8, 0.6, believable={"verdict": "no" if seed else "yes"})
    run(tmp_path, "--baseline", "plain")
    with open(tmp_path / "comparison.csv", newline="") as file:
        header, flooding, plain = csv.reader(file)
    assert ["(!)" in cell for cell in flooding] == ["pgd" in name for name in header]
    assert not any("(!)" in cell for cell in plain)
    pairs = table(tmp_path / "paired.csv")
    assert all(("(!)" in line["difference"]) == ("pgd" in line["condition"]) for line in pairs)
    assert "(!):" in capsys.readouterr().out


@pytest.mark.parametrize(
    "first, second",
    [
        ((0.8, 0.3, 0.6), (0.8, 0.3)),
        ({"index_sha256": "a"}, {"index_sha256": "b"}),
        ({"index_sha256": "a", "labels_sha256": "0"}, {"index_sha256": "a", "labels_sha256": "1"}),
        ((71.5, 0.3), (0.8, 0.3)),
        ((float("nan"), 0.3), (0.8, 0.3)),
    ],
    ids=["conditions", "instances", "labels", "a share", "a number"],
)
def test_what_cannot_be_compared(tmp_path, first, second):
    for name, given in (("a_seed1", first), ("b_seed1", second)):
        judge(
            tmp_path / name,
            *((0.8, 0.3) if isinstance(given, dict) else given),
            **(given if isinstance(given, dict) else {}),
        )
    with refuses():
        run(tmp_path)
    assert not (tmp_path / "comparison.csv").exists()


def test_a_folder_holds_one_judgement_that_can_be_read(tmp_path):
    with refuses("--results_dir"):
        run(tmp_path)
    judge(tmp_path / "a_seed1", 0.8, 0.3)
    report = tmp_path / "a_seed1" / "robustness_model.json"
    (tmp_path / "a_seed1" / "robustness_z.json").write_bytes(report.read_bytes())
    for content in (report.read_bytes(), b"{"):
        report.write_bytes(content)
        with refuses("a_seed1"):
            run(tmp_path)


def test_differences_from_a_baseline_are_paired_by_seed(tmp_path, capsys):
    for seed in range(1, 7):
        judge(tmp_path / f"plain_seed{seed}", 0.8 + seed / 100, 0.2, 0.5)
        judge(tmp_path / f"flooding_seed{seed}", 0.8 + seed / 100, 0.2 + seed / 100, 0.5)
        judge(tmp_path / f"soft_seed{seed}", 0.81 + seed / 100, 0.1, 0.5)
    judge(tmp_path / "soft_seed9", 0.1, 0.1, 0.1)  # without a pair
    run(tmp_path, "--baseline", "plain", "--equivalence", "1.5")
    found = {(row["condition"], row["minus plain"]): row for row in table(tmp_path / "paired.csv")}
    clean, attacked = found["clean", "flooding"], found["pgd linf 0.00392", "flooding"]
    # Six differences of 0 are as far from 0 as any pattern of signs makes them.
    assert (clean["difference"], clean["p"], clean["equivalent within ±1.5"]) == ("+0.00", "1.0000", "yes")
    # 1 to 6 points, all of one sign: 2 of 64 patterns. Of two methods Holm doubles the smaller p.
    assert (attacked["pairs"], attacked["difference"], attacked["p"]) == ("6", "+3.50", "0.0312")
    assert (attacked["p (Holm)"], attacked["equivalent within ±1.5"]) == ("0.0625", "not shown")
    soft = found["clean", "soft"]
    assert (soft["pairs"], soft["difference"], soft["95 % interval"]) == ("6", "+1.00", "[+1.00, +1.00]")
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.startswith("saved")] == [
        f"saved {tmp_path}/{name}"
        for name in ("comparison.csv", "comparison.md", "comparison.tex", "paired.csv", "paired.png", "paired.pdf")
    ]


def test_fewer_than_six_pairs_have_no_p_and_say_why(tmp_path):
    for seed in (1, 2):
        judge(tmp_path / f"plain_seed{seed}", 0.8, 0.2)
        judge(tmp_path / f"soft_seed{seed}", 0.9, 0.2)
    run(tmp_path, "--baseline", "plain", "--equivalence", "50")
    (clean, *_) = table(tmp_path / "paired.csv")
    assert (clean["p"], clean["95 % interval"]) == ("2 pairs, at least 6 needed", "[+10.00, +10.00]")
    assert clean["equivalent within ±50"] == "not shown"


def test_the_interval_is_wider_where_instances_are_known(tmp_path):
    """The seeds agree to the last digit, so that only the instances of each can tell how far chance reaches."""
    for method, count in (("plain", 20), ("soft", 24)):
        for seed in (1, 2, 3):
            folder = tmp_path / f"{method}_seed{seed}"
            judge(folder, count / 40, 0.2)
    run(tmp_path, "--baseline", "plain")
    assert table(tmp_path / "paired.csv")[0]["95 % interval"] == "[+10.00, +10.00]"
    for method, count in (("plain", 20), ("soft", 24)):
        for seed in (1, 2, 3):
            right = np.arange(40) < count
            judge_instances(tmp_path / f"{method}_seed{seed}", [right, right, np.arange(40) < 20])
    run(tmp_path, "--baseline", "plain")
    low, high = (float(end) for end in table(tmp_path / "paired.csv")[0]["95 % interval"].strip("[]").split(", "))
    # Of 120 draws with a chance of 0.1 the mean has a standard deviation of 2.7 points.
    assert 3 < low < 7 and 13 < high < 17


def test_bad_baselines(tmp_path):
    judge(tmp_path / "plain_seed1", 0.8, 0.3)
    judge(tmp_path / "soft_seed2", 0.8, 0.3)
    with refuses("--baseline"):
        run(tmp_path, "--baseline", "other")
    with refuses("seed"):
        run(tmp_path, "--baseline", "plain")
    with refuses("--equivalence"):
        run(tmp_path, "--equivalence", "2")


@pytest.mark.parametrize(
    "other",
    [
        *({"index": np.arange(40) + 1}, {"label": 1}, {"conditions": np.array(["clean", "b", "c"])}),
        *({"right": np.zeros((3, 40), bool)}, {"right": np.zeros((3, 9), bool)}),
    ],
    ids=lambda other: " and ".join(other),
)
def test_what_is_known_of_single_instances_is_of_the_same_judgement(tmp_path, other):
    judge_instances(tmp_path / "plain_seed1", np.arange(40) < [[30], [10], [20]], **other)
    with refuses("robustness_model.npz"):
        run(tmp_path)
    judge_instances(tmp_path / "plain_seed1", np.arange(40) < [[30], [10], [20]], margin=np.full((3, 40), np.nan))
    run(tmp_path)
