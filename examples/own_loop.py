"""A training loop of one's own: record, draw the map, choose, train again with flooding; digits, in seconds.

Usage: python examples/own_loop.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

from robust_data import Recorder, treat

EPOCHS, BATCH = 5, 64
MEAN, STD = 0.31, 0.38
DIGITS = load_digits()
PIXELS = torch.from_numpy(DIGITS.images / 16).float().unsqueeze(1).expand(-1, 3, -1, -1)  # [N,3,8,8] in [0,1]
LABELS = torch.from_numpy(DIGITS.target)


def train(losses_of, recorder: Recorder | None = None) -> nn.Module:
    """Train a small network; losses_of(losses, index) is what is minimised of each instance of a batch."""
    torch.manual_seed(0)
    convolution = (nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(*convolution, nn.Flatten(), nn.Linear(512, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for epoch in range(EPOCHS):
        for index in torch.randperm(len(LABELS)).split(BATCH):
            logits = model((PIXELS[index] - MEAN) / STD)
            losses = nn.functional.cross_entropy(logits, LABELS[index], reduction="none")
            optimizer.zero_grad()
            losses_of(losses, index).mean().backward()
            optimizer.step()
            if recorder:
                recorder.update(logits, LABELS[index], index)
        if recorder:
            recorder.end_epoch(epoch + 1)
            recorder.record(model, step=epoch + 1)
    return model


def main() -> None:
    # The Recorder gets pixels in [0,1], and what the loop normalises them by.
    recorder = Recorder((PIXELS, LABELS), ["shot_noise"], "results/own_loop", preprocess=(MEAN, STD), overwrite=True)
    train(lambda losses, index: losses, recorder)
    statistics, _ = recorder.finish()
    recorder.map().savefig(statistics.with_suffix(".png"))
    robust = treat.choose(statistics, "perturbed_loss_mean_r", 0.3)
    model = train(lambda losses, index: treat.flooding(losses, index, robust, b=0.2)).eval()
    with torch.no_grad():
        losses = nn.functional.cross_entropy(model((PIXELS - MEAN) / STD), LABELS, reduction="none")
    is_robust = torch.isin(torch.arange(len(LABELS)), robust.index)
    print(f"flooded: loss {losses[is_robust].mean():.3f}  the others: {losses[~is_robust].mean():.3f}")
    print(f"saved {statistics}")


if __name__ == "__main__":
    main()
