"""The study's list of runs, and what is kept of a run."""

import csv
import dataclasses
import importlib
import json
import os
import re
import shutil
import signal
import threading
import time

import numpy as np
import pytest

from robust_data import files
from robust_data.study import analysis, answers, kept, older_scale, run, summarise
from robust_data.study.rows import FOLD, JUDGE, REPLICATES, Row, rows, seeds

ROWS = rows()
# In the place of what the runner fills in.
FIELD = re.compile(r"\{[^}]+\}")


def parser_of(script):
    name = script.removesuffix(".py").replace("/", ".")
    return importlib.import_module(f"robust_data.{name}").build_parser()


@pytest.mark.parametrize("script", sorted({command[0] for row in ROWS for command in row.commands}))
def test_a_script_takes_every_command_of_the_study(script):
    parser = parser_of(script)
    commands = {
        FIELD.sub("0.1", " ".join(command[1:]))
        for row in ROWS
        for command in (*row.commands, *((row.again,) if row.again else ()))
        if command[0] == script
    }
    for command in commands:
        parser.parse_args(command.split())


def test_a_run_comes_after_the_runs_that_it_needs():
    seen = set()
    for row in ROWS:
        assert set(row.needs) <= seen, row.name
        assert row.name not in seen
        seen.add(row.name)


def test_the_arms_of_a_replicate_share_their_training_seed_and_no_run_trains_with_its_statistics_seed():
    arms = [row for row in ROWS if row.block == "arms"]
    for replicate in REPLICATES["images"]:
        assert {seeds(row) for row in arms if row.replicate == replicate} == {(100 + replicate, 200 + replicate)}
    for row in ROWS:
        trained, statistics = seeds(row)[::-1]
        assert trained != statistics
        first = row.commands[0]
        if first[0] not in (JUDGE, FOLD):  # those that train or collect
            assert int(first[first.index("--seed") + 1]) == (statistics if trained is None else trained), row.name


def test_only_takes_runs_that_have_all_of_the_tags_of_a_list():
    chosen = run.chosen(["images,H1,replicate2", "texts,flood_easy"])
    names = {row.name for row in chosen}
    assert {"images-statistics-2", "images-arms-plain-2", "images-arms-flood_random-2"} <= names
    assert all(row.replicate == 2 if row.data == "images" else row.arm == "flood_easy" for row in chosen)
    with pytest.raises(run.InputError, match="no run has these tags"):
        run.chosen(["images,H9"])


def test_what_was_right_is_kept_as_bits_beside_the_accuracies(tmp_path):
    right = np.array([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0]], bool)
    margin = np.where(right, 1.0, -1.0).astype(np.float32)
    margin[1, 4] = np.nan
    results = [
        {"kind": "clean", "name": "clean", "accuracy": 0.6, "calibration_error": 0.1},
        {"kind": "attack", "name": "pgd", "eps": 0.5 / 255, "norm": "linf", "accuracy": 0.2, "restarts": 1},
    ]
    folder = tmp_path / "judged0"
    folder.mkdir()
    (folder / "robustness_x.json").write_text(json.dumps({"results": results}))
    np.savez(folder / "robustness_x.npz", index=np.arange(5), label=np.arange(5), right=right, margin=margin)
    output = tmp_path / "instances" / "x.npz"
    accuracies = kept.judged([folder], None, output)
    assert accuracies == {"clean": 0.6, "calibration_error": 0.1, "pgd linf 0.5": 0.2}
    with np.load(output, allow_pickle=False) as found:
        assert list(found["conditions"]) == ["clean", "pgd linf 0.5"]
        assert np.array_equal(np.unpackbits(found["right"], axis=1, count=5), right)
        assert np.array_equal(np.unpackbits(found["missing"], axis=1, count=5), np.isnan(margin))


def test_a_line_is_added_with_the_columns_that_it_has_more(tmp_path):
    path = tmp_path / "rows.csv"
    kept.add_row(path, {"row": "a", "clean": 0.71234567})
    kept.add_row(path, {"row": "b", "clean": None, "fog 3": 0.5})
    with open(path, newline="") as file:
        found = list(csv.DictReader(file))
    assert [(line["row"], line["clean"], line["fog 3"]) for line in found] == [("a", "0.712346", ""), ("b", "", "0.5")]


@pytest.mark.parametrize(
    "row, name",
    [
        ({"kind": "perturbation", "name": "fog", "severity": 3}, "fog 3"),
        ({"kind": "attack", "name": "pgd", "eps": None, "steps": 8, "step_size": 0.03}, "pgd 8 x 0.03"),
        (
            {
                "kind": "attack",
                "name": "pgd",
                "eps": 1 / 255,
                "norm": "linf",
                "attack_loss": "ce+margin",
                "restarts": 5,
            },
            "pgd linf 1 climbing ce+margin from 5 starts",
        ),
        (
            {"kind": "attack", "name": "pgd", "eps": None, "steps": 4, "step_size": 0.06, "temperature": 0.1},
            "pgd 4 x 0.06 at temperature 0.1",
        ),
        (
            {"kind": "attack", "name": "deepwordbug", "eps": None, "source_model": "f/texts-text_arms-plain-3/model"},
            "deepwordbug made on plain",
        ),
    ],
)
def test_a_condition_has_a_name_of_its_own(row, name):
    assert kept.condition_name(row) == name


def test_run_lists_what_is_planned(capsys, tmp_path):
    line = {"row": "images-arms-plain-1", "data": "images", "block": "arms", "processor_seconds": 7200}
    kept.add_row(tmp_path / "rows.csv", line)
    arguments = ["--list", "--only", "images,arms,replicate1,H1", "--results_dir", str(tmp_path)]
    run.main(run.build_parser().parse_args(arguments))
    *listed, left = capsys.readouterr().out.splitlines()
    assert listed[:2] == ["finished  images-arms-plain-1", "to do     images-arms-flood_robust-1"]
    # Of three that are asked for two are left, each like the one that took two hours.
    assert len(listed) == 3 and left.startswith("1 of 3 ") and "4.0 hours" in left


def test_a_part_is_known_by_its_name():
    assert {row.block for row in run.chosen(["B"])} == {"tilted_statistics", "tilted", "planted"}
    assert not {row.name for row in run.chosen(["study1"])} & {row.name for row in run.chosen(["A2", "B", "C"])}


CLASSES, INSTANCES = 10, 400
LABELS = np.repeat(np.arange(CLASSES), INSTANCES // CLASSES)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """Kept results whose answers are known: flooding helps by 10 points whatever is chosen, the robust half by 5."""
    folder = tmp_path_factory.mktemp("made_up")
    gains = {"plain": 0, "pgd_training": 30, "robust_half": 5, "random_half": 0, "easy_half": 5}
    for row in ROWS:
        if row.data != "images" or row.block not in ("arms", "subsets", "statistics"):
            continue
        line = dict.fromkeys(kept.FIRST, "") | {name: getattr(row, name) for name in kept.FIRST[1:5]}
        line |= {"row": row.name, "commit": "c0ffee0", "processor_seconds": 60}
        draws = np.random.default_rng(row.replicate)
        if row.arm == "statistics":
            write_scores(folder / "scores" / f"{row.name}.npz", draws)
        else:
            # The same instances are right in every arm of a replicate, and some more by its gain.
            places = draws.permutation(INSTANCES)
            attacked = np.isin(np.arange(INSTANCES), places[: round(INSTANCES * (40 + gains.get(row.arm, 10)) / 100)])
            right = {name: attacked for name in ("pgd linf 0.5", "pgd linf 1", "pgd linf 2")}
            right["clean"] = np.isin(np.arange(INSTANCES), places[:320])
            line |= {name: bits.mean() for name, bits in right.items()} | {
                "dose_chosen": 0.1,
                "dose_others": 0.01,
                "flood_level": 0.2,
            }
            write_instances(folder / "instances" / f"{row.name}.npz", right)
        kept.add_row(folder / "rows.csv", line)
    (folder / "files.txt").write_text("".join(f"train/{label}/{place}.jpg\n" for place, label in enumerate(LABELS)))
    return folder


def write_instances(path, right):
    path.parent.mkdir(exist_ok=True)
    bits = np.packbits(np.array(list(right.values())), axis=1)
    curve = {"epoch": np.array([2, 4]), "clean_curve": np.array([0.5, 0.8]), "pgd_curve": np.array([0.3, 0.4])}
    np.savez(path, conditions=list(right), right=bits, index=np.arange(INSTANCES), label=LABELS, **curve)


def write_scores(path, draws):
    """Sensitivity is the clean loss under noise, and under blur the class with what a seed draws."""
    path.parent.mkdir(exist_ok=True)
    clean = np.random.default_rng(0).exponential(size=INSTANCES)
    scores = {
        "clean_loss": clean,
        "sensitivity/noise/5": clean,
        "sensitivity/gaussian_blur/5": LABELS + draws.normal(size=INSTANCES),
        "flip_rate/gaussian_blur/5": np.full(INSTANCES, draws.random()),
    }
    np.savez(
        path, index=np.arange(INSTANCES), label=LABELS, **{name: v.astype(np.float16) for name, v in scores.items()}
    )


def test_an_effect_is_found_and_its_absence_too(made_up):
    found = {contrast.name: contrast for contrast in analysis.contrasts(analysis.Results(made_up), "images")}
    assert {name: contrast.verdict for name, contrast in found.items()} == {
        **{"H1": "no effect", "H2": "no effect", "H3": "no effect"},
        "H4": "higher",
    }
    assert found["H4"].mean == pytest.approx(5) and found["H4"].p == pytest.approx(2 / 2**8)
    assert found["H4"].p_holm == pytest.approx(4 * 2 / 2**8)
    controls = analysis.controls(analysis.Results(made_up))
    assert controls["positive"].mean == pytest.approx(30) and controls["negative"].verdict == "no effect"


def test_a_block_of_which_a_run_is_missing_decides_nothing(made_up, tmp_path):
    lines = [line for line in kept.read_rows(made_up / "rows.csv") if line["row"] != "images-arms-plain-8"]
    for line in lines:
        kept.add_row(tmp_path / "rows.csv", line)
    (tmp_path / "instances").symlink_to(made_up / "instances")
    results = analysis.Results(tmp_path)
    assert [contrast.name for contrast in analysis.contrasts(results, "images")] == ["H4"]
    assert analysis.controls(results) == {} and results.finished("images arms") == (55, 56)
    # Nor is it drawn, as if it were whole.
    assert "arms" in analysis.curves(analysis.Results(made_up)) and "arms" not in analysis.curves(results)


def test_draws_of_instances_that_replicates_share_widen_an_interval(made_up, tmp_path):
    """All replicates gain on the same fortieth of the instances: they tell little of others."""
    shutil.copytree(made_up, tmp_path, dirs_exist_ok=True)
    for row in (row for row in ROWS if (row.data, row.block) == ("images", "subsets")):
        right = np.arange(INSTANCES) < (170 if row.arm == "robust_half" else 160)
        attacked = dict.fromkeys(("pgd linf 0.5", "pgd linf 1", "pgd linf 2"), right)
        write_instances(tmp_path / "instances" / f"{row.name}.npz", attacked | {"clean": right})
    results = analysis.Results(tmp_path)
    (h4,) = (contrast for contrast in analysis.contrasts(results, "images") if contrast.name == "H4")
    low, high = analysis.shared_draws(results, "images", ["H4"])["H4"]
    # The standard error of a share of 1/40 over 400 instances, in points, alone and with eight draws of instances.
    assert high - low == pytest.approx(2 * 1.96 * 0.78, rel=0.1)
    assert h4.interval[1] - h4.interval[0] == pytest.approx(2 * 1.96 * 0.78 / 8**0.5, rel=0.1)


def test_what_sensitivity_is_made_of(made_up):
    found = analysis.sensitivities(analysis.Results(made_up), "images")
    assert found["noise/5"].parts.clean_loss + found["noise/5"].parts.class_share == pytest.approx(1)
    assert found["gaussian_blur/5"].parts.class_share > 0.85 and found[
        "gaussian_blur/5"
    ].reliability.single == pytest.approx(0, abs=0.05)


def test_the_groups_of_held_out_instances_are_those_of_each_class():
    values, labels = np.array([3.0, 1, 2, 9, 7, 8]), np.array([0, 0, 0, 1, 1, 1])
    lowest, highest = analysis.groups_within_class(values, labels, 1 / 3)
    assert lowest.tolist() == [1, 4] and highest.tolist() == [0, 3]
    assert analysis.rise(np.array([[3.0, 1, 2], [3, 2, 1]])).tolist() == [1, 0]


def test_the_page_says_what_the_results_say(made_up, tmp_path, capsys):
    page = tmp_path / "page" / "README.md"
    arguments = ["--results_dir", str(made_up), "--output", str(page)]
    summarise.main(summarise.build_parser().parse_args(arguments))
    said, text = capsys.readouterr().out, page.read_text()
    assert "images H4: robust_half - random_half +5.000 points" in said and "p 0.0078" in said
    assert "| images arms | 56 | 56 |" in text and "| images overfitting | 0 | 8 | 0.1 |" in text
    assert "| H4 | robust_half - random_half | +5.00 points" in text
    assert "Training on the robust half makes a model more robust than training on a random half: +5.00" in text
    told = " ".join(text.replace("\n>", "").split())
    assert re.search(r"H4 robust_half - random_half \+5\.00 \([^)]+\): higher\.", told)
    assert len(text.partition("## Answers")[2].partition("##")[0].strip().splitlines()) <= 20
    assert "cross-entropy of the flooded instances is 50 % of the flood level (flood_robust)" in told
    assert re.search(r"Of the robust 30 %, \d+ % are among the easiest 30 %", told)
    assert "The non-robust half beside a random one" in told
    assert "It is not the choice: flooding does it, whatever is flooded." in told
    assert "| flood_all | 50.0 ± 0.0 | +10.0 (" in text and "| plain | 40.0 ± 0.0 |  |" in text and "*10.0*" in text
    assert "| clean | +0.00 | +0.00 to +0.00 | 0 of 8 |" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith(("|", "!"))) <= 120
    for image in re.findall(r"\]\((\w+\.png)\)", text):
        assert (page.parent / image).read_bytes().startswith(b"\x89PNG")
    assert "(frontier.png)" in text and "(images_H1.png)" in text and "(images_parts.png)" in text


def test_every_checked_text_model_is_shown_the_attacks_made_on_plain_and_on_flood_random():
    for row in (row for row in ROWS if (row.data, row.block) == ("texts", "checks")):
        shown = {
            command[command.index("--source_model") + 1] for command in row.commands if "--source_model" in command
        }
        sources = {"plain", "flood_random"} - {row.arm}
        assert shown == {f"{{model:texts-text_arms-{source}-{row.replicate}}}" for source in sources}
        assert set(row.needs) == {f"texts-text_arms-{arm}-{row.replicate}" for arm in {row.arm, *sources}}


@pytest.mark.parametrize("outlasts", [False, True])
def test_a_gain_that_stronger_attacks_take_is_masking(made_up, tmp_path, outlasts):
    """Flooding gains 10 points under the usual attack; one that was made on plain leaves as many, or none."""
    results = shutil.copytree(made_up, tmp_path / "results")
    for row in (row for row in ROWS if (row.data, row.block) == ("images", "checks")):
        places = np.random.default_rng(row.replicate).permutation(INSTANCES)
        white_box = np.isin(np.arange(INSTANCES), places[: 160 if row.arm == "plain" else 200])
        transferred = np.isin(np.arange(INSTANCES), places[: 200 if outlasts else 160])
        right = {"pgd linf 1 climbing ce+margin from 5 starts": white_box}
        right |= {} if row.arm == "plain" else {"pgd linf 1 made on plain": transferred}
        write_instances(results / "instances" / f"{row.name}.npz", {"clean": np.ones(INSTANCES, bool)} | right)
        line = {name: getattr(row, name) for name in kept.FIRST[1:5]} | {"row": row.name, "commit": "c0ffee0"}
        kept.add_row(results / "rows.csv", line | {"processor_seconds": 60})
    given = ["--results_dir", str(results), "--output", str(tmp_path / "page.md")]
    summarise.main(summarise.build_parser().parse_args(given))
    text = " ".join((tmp_path / "page.md").read_text().replace("\n>", "").split())
    gain = "+10.00" if outlasts else "+0.00"
    told = re.search(
        r"flood_robust - plain: (\S+) points \(95 % [^)]+\) under attacks made on the model itself, (\S+)", text
    )
    assert told.groups() == ("+10.00", gain)
    assert ("the gain is one of masked gradients" in text) != outlasts
    assert "flood_robust - flood_random: +0.00 points" in text
    assert f"| worst of all attacks | 40.0 ± 0.0 | {'50.0' if outlasts else '40.0'} ± 0.0 |" in text


def test_the_scores_of_every_instance_are_published(made_up, tmp_path):
    shutil.copytree(made_up, tmp_path / "results")
    given = ["--results_dir", str(tmp_path / "results"), "--output", str(tmp_path / "page.md")]
    summarise.main(summarise.build_parser().parse_args(given))
    with open(tmp_path / "results" / "scores_cifar10_jpeg.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["index"] for line in lines] == [str(place) for place in range(INSTANCES)]
    assert lines[41]["file"] == "train/1/41.jpg" and lines[41]["label"] == "1"
    scores = analysis.Results(made_up).scores("images").values()
    blur = np.array([of_run["sensitivity/gaussian_blur/5"][41] for of_run in scores])
    assert float(lines[41]["sensitivity/gaussian_blur/5 mean"]) == pytest.approx(blur.mean(), rel=1e-3)
    assert float(lines[41]["sensitivity/gaussian_blur/5 sd"]) == pytest.approx(blur.std(ddof=1), rel=1e-3)
    # Noise is the clean loss itself: nothing of it is left.
    assert float(lines[41]["residual/noise/5 mean"]) == pytest.approx(0, abs=1e-9)
    assert lines[0]["flip_rate/gaussian_blur/5 sd"] == lines[41]["flip_rate/gaussian_blur/5 sd"] != "0"
    (tmp_path / "results" / "files.txt").unlink()
    with pytest.raises(run.InputError, match="files.txt is missing"):
        summarise.main(summarise.build_parser().parse_args(given))


@pytest.mark.parametrize(
    "verdicts, flooding, said",
    [
        (
            {"H1": 4, "H2": 4},
            {"flood_random": 3, "flood_all": 3},
            "The choice matters, and it is more than difficulty.",
        ),
        ({"H1": 4, "H2": 0}, {"flood_random": 3, "flood_all": 3}, "difficulty does as well"),
        ({"H1": 0, "H2": 0}, {"flood_random": 3, "flood_all": 3}, "flooding does it, whatever is flooded"),
        ({"H1": 0, "H2": 0}, {"flood_random": 0, "flood_all": 0}, "flooding itself does not help"),
        ({"H1": -4, "H2": 0}, {"flood_random": -3, "flood_all": -3}, "less robust than plain training does."),
        (
            {"H1": -4, "H2": 0},
            {"flood_random": 3, "flood_all": 3},
            "Against the claim, flooding the robust instances is",
        ),
        ({"H1": 0, "H2": 0}, {"flood_random": 0, "flood_all": 3}, "only flooding every instance helps"),
        ({"H1": 0}, {}, ""),
    ],
)
def test_a_pattern_of_verdicts_says_what_it_means(verdicts, flooding, said):
    def contrast(name, first, mean):
        differences, p = (float(mean),) * 8, 0.0078 if mean else 1.0
        return analysis.Contrast(name, first, "plain", differences, (mean - 0.5, mean + 0.5), p, equivalent=not mean)

    found = [contrast(name, "flood_robust", mean) for name, mean in verdicts.items()]
    told = answers.pattern(found, {name: contrast(name, name, mean) for name, mean in flooding.items()})
    assert said in told and bool(told) == bool(said)


def test_a_gain_of_the_choice_that_stronger_attacks_take_is_no_gain():
    def contrast(name, mean):
        return analysis.Contrast(
            name, "flood_robust", "flood_random", (float(mean),) * 6, (mean - 1.0, mean + 1.0), 0.03
        )

    def checked(worst):
        return analysis.Outlasting("checks", contrast("white-box", 30), contrast("worst", worst), (5.0, 5.0))

    found, flooding = [contrast("H1", 30), contrast("H2", 30)], {}
    assert "the gain is one of masked gradients" in answers.pattern(found, flooding, [checked(0)])
    assert "the gain of the stronger attacks is one of masked" in answers.pattern(
        found, flooding, [checked(0), checked(9)]
    )
    assert "it is more than difficulty" in answers.pattern(found, flooding, [checked(20)])


@pytest.mark.parametrize(
    "pairs, hypotheses, said", [(6, 3, "no p is below 0.0312, and 0.0938 by Holm"), (7, 3, ""), (8, 5, "")]
)
def test_too_few_pairs_are_told(pairs, hypotheses, said):
    contrast = analysis.Contrast("H1", "flood_robust", "flood_random", (9.0,) * pairs, (8.0, 10.0), 2 / 2**pairs)
    told = answers.too_few([contrast] * hypotheses)
    assert said in told and bool(told) == bool(said)


def test_an_interval_without_0_that_the_test_does_not_decide_is_no_absence():
    contrast = analysis.Contrast("H1", "flood_robust", "flood_random", (9.0,) * 6, (8.0, 10.0), 0.031, 0.094, False)
    assert "seems to make a model more robust than flooding a random 30 %, which the" in answers.sentence(
        contrast, "texts"
    )
    open_one = analysis.Contrast("H1", "flood_robust", "flood_random", (1.0,) * 6, (-8.0, 10.0), 0.3, 0.9, False)
    assert "No difference between" in answers.sentence(open_one, "texts")


def test_a_block_counts_with_another_once_it_is_complete(tmp_path):
    planned = [row for row in ROWS if row.block in ("text_arms", "seventh_text_arms")]
    for row in planned[:-1]:
        line = {name: getattr(row, name) for name in kept.FIRST[1:5]} | {"row": row.name}
        kept.add_row(tmp_path / "rows.csv", line)
    assert list(analysis.Results(tmp_path).of_arm("texts", "text_arms", "plain")) == [1, 2, 3, 4, 5, 6]
    row = planned[-1]
    kept.add_row(tmp_path / "rows.csv", {name: getattr(row, name) for name in kept.FIRST[1:5]} | {"row": row.name})
    assert list(analysis.Results(tmp_path).of_arm("texts", "text_arms", "plain")) == [1, 2, 3, 4, 5, 6, 7]


def test_the_older_mix_of_scales_is_measured_beside_sensitivity(tmp_path, capsys):
    from robust_data import models
    from robust_data.train.saved_models import save_model

    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(20) % 2)
    for name in ("model_step2", "model_step10", "model"):
        save_model(tmp_path / name, models.build("small_cnn", 2), {}, ["a", "b"])
    given = ["--models", str(tmp_path), "--data_dir", str(tmp_path / "images.npz"), "--output_dir", str(tmp_path)]
    older_scale.main(older_scale.build_parser().parse_args(given))
    found = json.loads((tmp_path / "scale.json").read_text())
    assert len(found) == 5 and all(-1 <= value <= 1 for value in found.values())
    # An untrained model follows brightness: 255 times the pixels is another image to it.
    assert found["scale: rank correlation with sensitivity"] < 0.99
    with pytest.raises(run.InputError, match="lacks model_step"):
        older_scale.main(older_scale.build_parser().parse_args(["--models", str(tmp_path / "model"), *given[2:]]))


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Runs a made-up list of runs; each call returns the names in rows.csv and the exit status."""
    monkeypatch.setattr(run, "_commit", lambda: "c0ffee0")
    (tmp_path / "data").mkdir()

    def go(*planned):
        monkeypatch.setattr(run, "rows", lambda: list(planned))
        given = ["--data_dir", "data", "--work_dir", "work", "--results_dir", "results", "--nice", "0"]
        status = 0
        try:
            run.main(run.build_parser().parse_args(given))
        except (SystemExit, run.InputError) as ended:
            status = ended.code if isinstance(ended, SystemExit) else 2
        return [line["row"] for line in kept.read_rows(tmp_path / "results" / "rows.csv")], status

    monkeypatch.chdir(tmp_path)
    return go


def made_up_row(name, script, *needs):
    return Row(name, "images", "scale", "older_scale", 1, (), needs, ((str(script), "{folder}", "--seed", "1"),))


@pytest.fixture
def measure(tmp_path):
    """A script that writes the result which is kept, and counts its calls."""
    script = tmp_path / "measure.py"
    script.write_text(
        "import pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "(folder / 'scale.json').write_text('{\"scale: accuracy clean\": 0.5}')\n"
        "with open(folder / 'calls', 'a') as file: file.write('x')\n"
    )
    return script


def test_runs_follow_what_they_need_and_a_finished_one_is_skipped(study, measure, tmp_path):
    planned = [made_up_row("second", measure, "first"), made_up_row("first", measure)]
    assert study(*planned) == (["first", "second"], 0)
    assert study(*planned, made_up_row("third", measure)) == (["first", "second", "third"], 0)
    assert [(tmp_path / "work" / name / "calls").read_text() for name in ("first", "second", "third")] == ["x"] * 3
    (line,) = [line for line in kept.read_rows(tmp_path / "results" / "rows.csv") if line["row"] == "first"]
    assert (
        line["commit"] == "c0ffee0" and line["scale: accuracy clean"] == "0.5" and float(line["processor_seconds"]) > 0
    )


def test_a_run_that_another_runner_is_at_work_on_is_left_to_it(study, measure, tmp_path):
    held = threading.Event()
    lines = tmp_path / "results" / "rows.csv"

    def another_runner():
        (tmp_path / "work" / "first").mkdir(parents=True)
        with files.locked(tmp_path / "work" / "first"):
            held.set()
            while "second" not in [line["row"] for line in kept.read_rows(lines)]:
                time.sleep(0.01)
            kept.add_row(lines, {"row": "first"})
            (tmp_path / "work" / "first" / "done").touch()

    other = threading.Thread(target=another_runner)
    other.start()
    held.wait()
    assert study(made_up_row("first", measure), made_up_row("second", measure)) == (["second", "first"], 0)
    other.join()
    assert not (tmp_path / "work" / "first" / "calls").exists()


def test_what_a_later_run_needs_is_made_again_where_its_files_are_gone(study, measure, tmp_path):
    """That is what its first command made; what is known of it is not measured again."""
    once = made_up_row("first", measure)
    first = dataclasses.replace(once, commands=(*once.commands, *once.commands))
    study(first)
    assert (tmp_path / "work" / "first" / "calls").read_text() == "xx"
    shutil.rmtree(tmp_path / "work" / "first")
    assert study(first, made_up_row("second", measure, "first")) == (["first", "second"], 0)
    assert (tmp_path / "work" / "first" / "calls").read_text() == "x"


def test_a_run_is_made_again_by_a_command_of_its_own_where_it_has_one(study, measure, tmp_path):
    shorter = (str(measure), "{folder}/shorter", "--seed", "1")
    first = dataclasses.replace(made_up_row("first", measure), again=shorter)
    study(first)
    shutil.rmtree(tmp_path / "work" / "first")
    (tmp_path / "work" / "first" / "shorter").mkdir(parents=True)
    study(first, made_up_row("second", measure, "first"))
    assert (tmp_path / "work" / "first" / "shorter" / "calls").read_text() == "x"
    assert not (tmp_path / "work" / "first" / "calls").exists()


def test_statistics_made_again_hold_every_perturbation_that_a_run_ranks_by():
    by_name = {row.name: row for row in ROWS}
    for row in ROWS:
        for perturbation in re.findall(r"\{statistics:(\w+)\}", " ".join(row.commands[0])):
            needed = by_name[row.needs[0]]
            command = needed.again or needed.commands[0]
            assert perturbation in parser_of(command[0]).parse_args(list(command[1:])).perturbations, row.name


def test_a_run_that_fails_is_told_and_what_needs_it_left_out(study, measure, tmp_path, capsys):
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)")
    planned = [made_up_row("first", broken), made_up_row("second", measure, "first"), made_up_row("other", measure)]
    assert study(*planned) == (["other"], 2)
    assert "first: failed with status 3" in capsys.readouterr().out


def test_a_stopped_study_goes_on_with_the_same_command(study, measure, tmp_path):
    waiting = tmp_path / "waiting.py"
    waiting.write_text("import pathlib, signal, sys\n(pathlib.Path(sys.argv[1]) / 'here').touch()\nsignal.pause()\n")

    def stop():
        while not (tmp_path / "work" / "first" / "here").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert study(made_up_row("first", waiting)) == ([], 143)
    stopper.join()
    assert study(made_up_row("first", measure)) == (["first"], 0)
