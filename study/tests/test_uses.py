"""Part C of study 2, on made-up rows: what a use gains, what it costs, and whether it pays."""

import numpy as np
import pytest

from robust_data.study import analysis, kept, student, summarise, uses
from robust_data.study.results import UNSEEN, Results
from robust_data.study.rows import rows

INSTANCES = 400
# In points of the worst attack beside plain, and of clean accuracy.
GAINS = {"attacked_robust": (12, -0.5), "attacked_hard": (12, -3), "attacked_random": (6, 0), "attacked_all": (14, -2)}
GAINS |= {"flood_non_robust": (5, 0)}


def keep(folder, blocks):
    """Kept results of these blocks: arms gain by `GAINS`, on the same instances in all arms of a replicate."""
    (folder / "instances").mkdir(parents=True)
    for row in (row for row in rows() if row.block in blocks):
        worst, clean = GAINS.get(row.arm, (0, 0))
        places = np.random.default_rng(row.replicate).permutation(INSTANCES)
        attacked = places < INSTANCES * (30 + worst) // 100
        at_once = attacked if "paired" in row.block else np.ones(INSTANCES, bool)
        right = {f"pgd linf {size}": at_once for size in ("0.5", "1", "2")}
        right |= {f"{name} climbing margin": attacked for name in tuple(right)}
        right |= {f"{name} 3": attacked for name in UNSEEN} | {"clean": places < INSTANCES * (70 + clean) // 100}
        bits = np.packbits(np.array(list(right.values())), axis=1)
        path = folder / "instances" / f"{row.name}.npz"
        np.savez(path, conditions=list(right), right=bits, index=np.arange(INSTANCES), label=np.arange(INSTANCES) % 10)
        line = {name: getattr(row, name) for name in kept.FIRST[1:5]} | {"row": row.name, "commit": "c0ffee0"}
        kept.add_row(folder / "rows.csv", line | {"processor_seconds": 60, "clean": 0.7})
    return folder


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    return keep(tmp_path_factory.mktemp("uses"), ("attacked",))


def test_the_planned_contrasts_of_arms_on_one_machine_are_adjusted_together(tmp_path):
    results = Results(keep(tmp_path, ("paired_arms", "paired_subsets")))
    found = {contrast.first: contrast for contrast in analysis.paired(results)}
    assert found["flood_non_robust"].mean == pytest.approx(5) and found["flood_non_robust"].verdict == "higher"
    assert found["flood_non_robust"].p_holm == pytest.approx(4 * 2 / 2**8)
    assert found["low_gradient_half"].verdict == "no effect" and found["flood_robust"].p_holm is None
    assert analysis.paired(Results(keep(tmp_path / "half", ("paired_arms",)))) == []


def test_a_use_pays_by_what_it_gains_beside_random_and_what_clean_accuracy_loses(made_up):
    (of_way,) = uses.uses(Results(made_up), "attacked").values()
    by_pair = {(use.contrast.first, use.contrast.second): use for use in of_way}
    assert len(by_pair) == 6
    robust, hard = (by_pair[f"attacked_{name}", "attacked_random"] for name in ("robust", "hard"))
    assert robust.contrast.mean == pytest.approx(6) and robust.pays
    # It gains as much, and clean accuracy falls by 3 points.
    assert hard.contrast.mean == pytest.approx(6) and hard.clean.mean == pytest.approx(-3) and not hard.pays
    assert robust.contrast.p == pytest.approx(2 / 2**8) and robust.contrast.p_holm == pytest.approx(6 * 2 / 2**8)
    saved = by_pair["attacked_random", "attacked_all"]
    assert saved.contrast.mean == pytest.approx(-8) and saved.passes == pytest.approx(1.9)
    assert uses.uses(Results(made_up), "left_out") == {}


@pytest.mark.parametrize(
    "arm, reference, passes",
    [
        ("attacked_non_robust", "attacked_random", 1.9),
        ("attacked_all", "attacked_random", 4),
        ("corrupted_easy", "corrupted_random", 1),
        ("without_non_robust_30", "without_random_30", 0.7),
        ("without_hard_attacked_10", "without_random_attacked_10", 2.7),
        ("plain", "plain", 1),
    ],
)
def test_an_arm_is_shown_beside_the_same_use_of_random_instances(arm, reference, passes):
    assert uses.as_random(arm) == reference and uses.passes(arm) == pytest.approx(passes)


def test_every_arm_has_its_reference_in_its_block():
    planned = {}
    for row in rows():
        planned.setdefault(row.block, set()).add(row.arm)
    for block in uses.MEASURED_BY:
        assert {uses.as_random(arm) for arm in planned[block]} <= planned[block]


def test_an_interval_by_t_is_that_of_the_tables():
    low, high = student.interval([1.0, 2, 3, 4, 5])
    assert (low + high) / 2 == pytest.approx(3) and high - 3 == pytest.approx(2.776445 * (2.5 / 5) ** 0.5, rel=1e-3)


def test_the_page_says_which_use_pays(made_up, tmp_path):
    page = tmp_path / "README.md"
    summarise.main(summarise.build_parser().parse_args(["--results_dir", str(made_up), "--output", str(page)]))
    assert "> - **Uses that pay.** attacked: attacked_robust." in page.read_text()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines()]
    by_arm = {line[0]: line for line in cells if len(line) == 8}
    assert by_arm["attacked_robust"][1:3] == ["attacked_random", "1.9"] and by_arm["attacked_robust"][-1] == "yes"
    assert by_arm["attacked_hard"][-1] == "" and (tmp_path / "uses.png").exists()
