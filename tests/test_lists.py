"""The lists of instances that deserve a look: fragile, suspect label, class-driven."""

import html

import numpy as np
import pytest
from looking import random_records, write_statistics

from robust_data import records
from robust_data.analysis import lists
from robust_data.analysis.statistics_file import open_statistics
from robust_data.plot_utils.page import build


def right(*instances):
    """Whether the label was predicted, bool [T, M], from a word of r and w for each instance."""
    return np.array([[letter == "r" for letter in word] for word in instances]).T


def marked(clean=None, perturbed=None, aum=None, sensitivity=None, labels=None, count=None):
    """The lists by name, bool [M] each; what is not given is unremarkable."""
    count = next(len(given) for given in (aum, sensitivity, clean) if given is not None)
    clean = ["rrrr"] * count if clean is None else clean
    found = lists.evidence(
        right(*clean),
        right(*(clean if perturbed is None else perturbed)),
        np.ones(count) if aum is None else np.array(aum, dtype=float),
        np.zeros(count) if sensitivity is None else np.array(sensitivity, dtype=float),
        np.zeros(count, dtype=int) if labels is None else np.array(labels),
    )
    return {one.name: one.members.tolist() for one in lists.marked_lists(found, len(clean[0]))}


def test_fragile_is_right_when_clean_and_wrong_when_perturbed_at_more_than_half_of_the_checkpoints():
    clean, perturbed = ["rrrr", "rrrr", "wwww", "rrww", "rrrw"], ["wwwr", "wwrr", "wwww", "wwrr", "wwwr"]
    assert marked(clean, perturbed)["fragile"] == [True, False, False, False, True]


def test_an_instance_is_learned_at_the_checkpoint_from_which_on_it_is_right():
    clean = right("rrrr", "wrrr", "rwwr", "rrrw", "wwww")
    found = lists.evidence(clean, clean, np.ones(5), np.ones(5), np.zeros(5, dtype=int))
    assert found.learned_at.tolist() == [1, 2, 4, 5, 5]


def test_a_label_is_suspect_by_an_aum_below_0_and_late_learning():
    clean = ["wwwr", "wwww", "wwrr", "rrrr", "wwww"]
    assert marked(clean, aum=[-1, -2, -3, -4, 0.1])["suspect label"] == [True, True, False, False, False]
    assert all(marked(["wwww"] * 30, aum=np.arange(30) - 100.0)["suspect label"]), "however many there are"


def test_a_margin_that_is_not_a_number_is_not_low():
    aum = [np.nan, -1, -np.inf, *[3] * 27]
    assert marked(["wwww"] * 30, aum=aum)["suspect label"][:4] == [False, True, True, False]


def test_class_driven_is_low_among_all_and_not_low_within_the_class():
    # The first class has the four lowest of twelve: of those the upper half is robust by its class alone.
    sensitivity, labels = [1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 17], [0] * 4 + [1] * 8
    assert np.flatnonzero(marked(sensitivity=sensitivity, labels=labels)["class-driven"]).tolist() == [2, 3]
    # Where the class says nothing, what is low among all is low within its class, too.
    assert not any(marked(sensitivity=np.arange(12), labels=np.arange(12) % 2)["class-driven"])


def test_a_single_class_has_no_class_driven_instance():
    assert not any(marked(sensitivity=np.random.default_rng(0).gamma(1, 1, 50))["class-driven"])


@pytest.mark.parametrize("relative", [0, 1])
def test_the_lists_of_a_file_are_of_the_checkpoints_that_count(tmp_path, relative):
    labels = np.arange(60) % 3
    rows = random_records(labels)
    rows["original_margin"] = np.random.default_rng(1).normal(0, 1, rows.shape)
    records.save(tmp_path / "some.npy", rows, {})
    _, found = lists.of_file(open_statistics(tmp_path / "some.npy", relative=relative))
    trained = rows[1:]
    fragile = (trained["original_pred"] & ~trained["after_perturb_pred"]).mean(axis=0) > 0.5
    assert found[0].members.tolist() == fragile.tolist() and fragile.any()
    aum, late = trained["original_margin"].mean(axis=0), ~trained["original_pred"][1:].all(axis=0)
    suspect = (aum < 0) & late
    assert found[1].members.tolist() == suspect.tolist() and suspect.any()


def test_the_page_states_thresholds_and_counts(tmp_path):
    path, _ = write_statistics(tmp_path / "page.npy", np.arange(60) % 3)
    opened = open_statistics(path)
    page = html.unescape(build.build_page(opened, None, np.arange(0, 60, 2)))
    for one in lists.of_file(opened)[1]:
        assert one.rule[1:] in page
        words = f"{one.members.sum()} of 60 instances, {one.members[::2].sum()} of them on this page"
        assert f'{one.name.capitalize()} <span class="quiet">{words}' in page
    assert "more than 50% of the checkpoints" in page and "last 25%" in page


def test_a_file_without_margins_says_so(tmp_path):
    rows = random_records(np.arange(30) % 3)
    rows["original_margin"] = np.nan
    records.save(tmp_path / "old.npy", rows, {})
    _, found = lists.of_file(open_statistics(tmp_path / "old.npy"))
    assert not found[1].members.any() and found[1].rule.endswith("; the file holds no margins")
