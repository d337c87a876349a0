"""Statistics from a training loop of one's own: a small network learns handwritten digits, in a few seconds.

Usage: python examples/own_loop.py
"""

import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from robust_data import Recorder

PROJECT = Path(__file__).resolve().parent.parent

EPOCHS, BATCH = 5, 64
MEAN, STD = 0.31, 0.38


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    pixels = torch.from_numpy(digits.images / 16).float().unsqueeze(1).expand(-1, 3, -1, -1)  # [N,3,8,8] in [0,1]
    labels = torch.from_numpy(digits.target)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    # The Recorder gets pixels in [0,1], and what the loop normalises them by.
    recorder = Recorder((pixels, labels), ["shot_noise", "glass_blur"], "results/own_loop", preprocess=(MEAN, STD))
    recorder.record(model, step=0, untrained=True)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            loss = nn.functional.cross_entropy(model((pixels[batch] - MEAN) / STD), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        recorder.record(model, step=epoch + 1)
    for path in recorder.finish():
        print(f"saved {path}")
    print(f"next: python {os.path.relpath(PROJECT / 'plot_utils' / 'plotting.py')} --statistics {path}")


if __name__ == "__main__":
    main()
