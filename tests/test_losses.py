"""Flooding and soft labels, against values computed by hand."""

import math

import pytest
import torch
from torch import nn

from robust_data.losses import flooding, flooding_of_mean, soft_label

# Rows whose probabilities are known: (1/2, 1/4, 1/4), (1/8, 3/4, 1/8) and equal thirds.
LOGITS = torch.tensor([[2.0, 1.0, 1.0], [1.0, 6.0, 1.0], [1.0, 1.0, 1.0]]).log()
LABELS = torch.tensor([0, 0, 2])
SELECTED = torch.tensor([True, False, True])


def cross_entropy():
    return nn.functional.cross_entropy(LOGITS, LABELS, reduction="none")


def test_flooding_by_hand():
    losses = torch.tensor([0.05, 0.05, 0.7])
    torch.testing.assert_close(flooding(losses, SELECTED, b=0.2, beta=2.0), torch.tensor([0.35, 0.1, 0.7]))


def test_flooding_pushes_up_below_the_level_and_down_above_it():
    losses = torch.tensor([0.05, 0.05, 0.7], requires_grad=True)
    flooding(losses, SELECTED, b=0.2, beta=2.0).sum().backward()
    assert losses.grad.tolist() == [-1.0, 2.0, 1.0]


@pytest.mark.parametrize("b, expected, slope", [(0.2, 0.375, 1), (0.4, 0.425, -1), (0.375, 0.375, 0)])
def test_flooding_of_the_mean_by_hand(b, expected, slope):
    """|mean - b| + b of the selected, whose mean is 0.375, and its gradient."""
    losses = torch.tensor([0.05, 0.05, 0.7], requires_grad=True)
    flooded = flooding_of_mean(losses, SELECTED, losses[SELECTED].mean(), b, beta=2.0)
    assert flooded[SELECTED].mean().item() == pytest.approx(expected)
    assert flooded[1].item() == pytest.approx(0.1)
    flooded[SELECTED].mean().backward()
    assert losses.grad.tolist() == [slope / 2, 0, slope / 2]


def test_soft_label_by_hand():
    log = math.log
    by_hand = [0.5 * -(0.8 * log(1 / 2) + 0.1 * log(1 / 4) + 0.1 * log(1 / 4)), -log(1 / 8), 0.5 * log(3)]
    losses = soft_label(LOGITS, LABELS, SELECTED, golden_weight=0.8, beta=0.5)
    torch.testing.assert_close(losses, torch.tensor(by_hand))


@pytest.mark.parametrize("selected", [SELECTED, torch.zeros(3, dtype=torch.bool), torch.ones(3, dtype=torch.bool)])
def test_without_effect_both_are_cross_entropy(selected):
    torch.testing.assert_close(flooding(cross_entropy(), selected, b=0.0, beta=1.0), cross_entropy())
    torch.testing.assert_close(soft_label(LOGITS, LABELS, selected, golden_weight=1.0, beta=1.0), cross_entropy())


def test_soft_label_agrees_with_torch():
    """torch's own label smoothing shares its weight among all classes, the golden one included."""
    everything = torch.ones(3, dtype=torch.bool)
    smoothed = nn.functional.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=0.3)
    torch.testing.assert_close(soft_label(LOGITS, LABELS, everything, golden_weight=0.8, beta=1.0), smoothed)


def test_an_impossible_class_leaves_the_unselected_gradient_finite():
    logits = torch.tensor([[80.0, -80.0], [80.0, -80.0]], requires_grad=True)
    soft_label(logits, torch.tensor([1, 0]), torch.tensor([False, True]), 0.8, 1.0).sum().backward()
    assert torch.isfinite(logits.grad).all()
