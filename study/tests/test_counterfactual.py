"""Part B of study 2, on made-up rows of which the answers are known."""

import numpy as np
import pytest

from robust_data.study import counterfactual, halves, kept, planted, student, summarise
from robust_data.study.counterfactual import OUTCOMES, WORST_OF, analyse, auroc, effects
from robust_data.study.results import PRIMARY_ENDPOINT, Results
from robust_data.study.rows import rows

INSTANCES, MODELS = 2000, 160
LABELS = np.arange(INSTANCES) % 10
FEATURES = list(halves.FEATURES)


def statistics_run(seed):
    """Scores of one run; those of all kinds go with the clean loss, as real ones do."""
    draws = np.random.default_rng(seed)
    clean = np.random.default_rng(0).exponential(size=INSTANCES)
    names = {*halves.FEATURES.values(), *halves.ALONE.values()} - {"control"}
    scores = {name: clean + draws.exponential(size=INSTANCES) * (name != "clean_loss") for name in sorted(names)}
    return scores | {"index": np.arange(INSTANCES), "label": LABELS}


@pytest.fixture(scope="module")
def runs():
    return [statistics_run(seed) for seed in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def chosen(runs):
    return np.array([np.isin(np.arange(INSTANCES), halves.tilted(runs, number)) for number in range(1, MODELS + 1)])


def test_halves_lean_as_drawn_and_by_nothing_else(runs, chosen):
    assert all(np.bincount(LABELS[half]).tolist() == [100] * 10 for half in chosen)
    assert (np.flatnonzero(chosen[4]) == halves.tilted(runs, 5)).all()
    assert len({half.tobytes() for half in chosen}) == MODELS
    of_half = chosen @ halves.features(halves.means(runs)) / chosen.sum(axis=1, keepdims=True)
    drawn = np.array([halves.weights(number) for number in range(1, MODELS + 1)])
    both = np.corrcoef(of_half.T, drawn.T)
    assert np.diag(both[:6, 6:]).min() > 0.8 and 0.2 < of_half.std(axis=0).min() < of_half.std(axis=0).max() < 0.4
    among = both[:6, :6] - np.eye(6)
    assert np.abs(among).max() < 0.35


def made_up_outcomes(runs, chosen):
    """A feature lowers the primary endpoint, one raises it, and clean accuracy depends on another alone."""
    means = dict(zip(FEATURES, (chosen @ halves.features(halves.means(runs)) / 1000).T))
    noise = np.random.default_rng(1).normal(size=(len(OUTCOMES), len(chosen)))
    primary = 40 - 5 * means["clean loss"] + 4 * means["sensitivity to gaussian_blur"] + noise[0]
    outcomes = dict(zip(OUTCOMES, noise)) | {PRIMARY_ENDPOINT: primary}
    return outcomes | {"clean": 70 - 8 * means["input gradient"] + noise[1]}


def test_effects_are_found_where_they_are_and_the_controls_stay_at_0(runs, chosen):
    found = analyse(halves.means(runs), chosen, made_up_outcomes(runs, chosen))
    primary = found.effects[PRIMARY_ENDPOINT]
    verdicts = {name: effect.verdict for name, effect in primary.items()}
    assert verdicts["clean loss"] == "lower" and verdicts["sensitivity to gaussian_blur"] == "higher"
    assert {verdicts[name] for name in FEATURES[2:]} <= {"no effect", "not shown"}
    assert primary["clean loss"].interval[0] < -5 < primary["clean loss"].interval[1]
    assert found.effects["clean"]["input gradient"].mean == pytest.approx(-8, abs=1)
    for control in (primary["random score"], *found.permuted.values()):
        assert control.p_holm > 0.05
    alone = found.predictions
    assert alone["all features"].correlation > 0.8 and alone["all features"].share == 1
    assert alone["clean loss"].share > 0.2 > alone["random score"].share
    low, high = alone["all features"].interval
    assert low < alone["all features"].correlation < high and len(found.real) == 40


def test_the_standard_errors_are_those_of_leaving_out_one_model_after_the_other():
    """HC3 is the jackknife's, about the estimate from all."""
    draws = np.random.default_rng(3)
    of_half, outcome = draws.normal(size=(30, 6)), draws.normal(size=30)
    design = np.column_stack([np.ones(30), of_half, of_half[:, :2] ** 2])
    whole = np.linalg.lstsq(design, outcome, rcond=None)[0]
    kept_out = [np.arange(30) != place for place in range(30)]
    without = np.array([np.linalg.lstsq(design[rows], outcome[rows], rcond=None)[0] for rows in kept_out])
    errors = np.sqrt(((without - whole) ** 2).sum(axis=0))
    for number, effect in enumerate(effects(of_half, outcome).values(), 1):
        assert effect.mean == pytest.approx(whole[number])
        assert effect.interval[1] - effect.mean == pytest.approx(student.quantile(0.05, 21) * errors[number])


@pytest.mark.parametrize(
    "t, freedom, p", [(2.228139, 10, 0.05), (1.959964, 10**5, 0.05), (2.845340, 20, 0.01), (0, 7, 1)]
)
def test_student_s_t_is_that_of_the_tables(t, freedom, p):
    assert student.p_value(t, freedom) == student.p_value(-t, freedom) == pytest.approx(p, rel=1e-3)
    assert student.quantile(p, freedom) == pytest.approx(t, rel=1e-3, abs=1e-3)


def test_auroc_counts_the_pairs_of_a_class():
    values, labels = np.array([3.0, 1, 2, 2, 9, 8]), np.array([0, 0, 0, 0, 1, 1])
    has_it = np.array([1, 0, 1, 0, 0, 1], bool)
    # Of class 0: 3 > 1, 3 > 2, 2 > 1, 2 = 2; of class 1: 8 < 9.
    assert auroc(values, has_it, labels) == pytest.approx((3.5 / 4 + 0) / 2)


def test_what_is_planted_is_told_and_nothing_else_changes(tmp_path):
    draws = np.random.default_rng(0)
    images, labels = draws.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8), np.arange(200) % 10
    np.savez(tmp_path / "images.npz", images=images, labels=labels, test_images=images[:2], test_labels=labels[:2])
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        planted.write(tmp_path / "images.npz", tmp_path / f"{name}.npz", seed)
    one, again, other = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("one", "again", "other"))
    assert all((one[name] == again[name]).all() for name in one) and (one["flipped"] != other["flipped"]).any()
    assert [int(one[name].sum()) for name in planted.FAULTS] == [20, 20, 20] and len(one["labels"]) == 210
    assert ((one["labels"][:200] != labels) == one["flipped"][:200]).all()
    assert ((one["images"][:200] != images).any(axis=(1, 2, 3)) == one["blurred"][:200]).all()
    originals = np.flatnonzero(one["doubled"][:200])
    assert (one["images"][200:] == one["images"][originals]).all() and one["doubled"][200:].all()
    assert not (one["flipped"] & one["blurred"] | one["flipped"] & one["doubled"]).any()


@pytest.fixture
def made_up(runs, chosen, tmp_path):
    """Kept results of the whole part."""
    outcomes = made_up_outcomes(runs, chosen)
    for row in (row for row in rows() if row.block in ("tilted_statistics", "tilted", "planted")):
        line = {name: getattr(row, name) for name in kept.FIRST[1:5]}
        line |= {"row": row.name, "commit": "c0ffee0", "processor_seconds": 60}
        for folder in ("scores", "halves", "instances", "planted"):
            (tmp_path / folder).mkdir(exist_ok=True)
        if row.arm == "statistics":
            run = statistics_run(row.replicate % 10)
            faults = {name: np.arange(INSTANCES) % 20 == place for place, name in enumerate(planted.FAULTS)}
            np.savez(tmp_path / "scores" / f"{row.name}.npz", **run | {"el2n": run["el2n"] + 9 * faults["flipped"]})
            packed = {name: np.packbits(has_it) for name, has_it in faults.items()}
            np.savez(tmp_path / "planted" / f"{row.name}.npz", **packed, count=INSTANCES)
        else:
            place = row.replicate - 1
            np.savez(tmp_path / "halves" / f"{row.name}.npz", chosen=np.packbits(chosen[place]))
            share = {name: outcomes[PRIMARY_ENDPOINT][place] for name in ("pgd linf 0.5", "pgd linf 2", *WORST_OF)}
            share |= {"clean": outcomes["clean"][place]} | {
                f"fog{number} 3": 50 + outcomes["15 corruptions"][place] for number in range(15)
            }
            right = {name: np.arange(2000) < 20 * value for name, value in share.items()}
            bits = np.packbits(np.array(list(right.values())), axis=1)
            where = tmp_path / "instances" / f"{row.name}.npz"
            np.savez(where, conditions=list(right), right=bits, index=np.arange(2000), label=np.arange(2000) % 10)
            line |= {name: bits.mean() for name, bits in right.items()}
        kept.add_row(tmp_path / "rows.csv", line)
    return tmp_path


def test_the_page_tells_effects_prediction_and_what_was_planted(made_up, tmp_path):
    page = tmp_path / "page" / "README.md"
    summarise.main(summarise.build_parser().parse_args(["--results_dir", str(made_up), "--output", str(page)]))
    text = page.read_text()
    assert "> - **Does a score tell?**" in text and "Sensitivity alone foretells" in " ".join(
        text.replace("\n>", "").split()
    )
    (primary,) = (line for line in text.splitlines() if line.startswith("| primary endpoint |"))
    assert primary.count("**-") == 1 and primary.count("**+") == 1
    told = {line.split(" | ")[0]: line.split(" | ")[1] for line in text.splitlines() if line.startswith("| ")}
    assert float(told["| all features"]) > 0.8 > 0.5 > float(told["| random score"])
    assert "| el2n | 1.000 ± 0.000 |" in text
    for image in ("counterfactual.png", "predicted.png"):
        assert f"({image})" in text and (page.parent / image).exists()


def test_one_run_that_is_missing_leaves_all_undecided(made_up):
    lines = kept.read_rows(made_up / "rows.csv")
    (made_up / "rows.csv").unlink()
    for line in lines:
        if line["row"] not in ("images-tilted-tilted_half-7", "images-planted-31"):
            kept.add_row(made_up / "rows.csv", line)
    results = Results(made_up)
    assert counterfactual.counterfactual(results) is None and counterfactual.planted_truth(results) == {}
