"""Statistics from a Trainer of Lightning: a small network learns handwritten digits, in a few seconds.

Needs more: pip install -r examples/requirements.txt
Usage: python examples/lightning_loop.py
"""

import os
from pathlib import Path

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from robust_data import Recorder

PROJECT = Path(__file__).resolve().parent.parent


class Recording(lightning.Callback):
    """Records at the end of each epoch; takes the arguments of a Recorder."""

    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options

    def on_fit_start(self, trainer, pl_module):
        # Only now have the processes met, if there are several.
        self.recorder = Recorder(*self.arguments, **self.options)

    def on_train_epoch_end(self, trainer, pl_module):
        self.recorder.record(pl_module, step=trainer.global_step)

    def on_fit_end(self, trainer, pl_module):
        self.paths = self.recorder.finish()


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10)
        )

    def forward(self, pixels):
        return self.layers(pixels)

    def training_step(self, batch, number):
        pixels, labels = batch
        return nn.functional.cross_entropy(self(pixels), labels)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> None:
    lightning.seed_everything(0)
    digits = load_digits()
    pixels = torch.from_numpy(digits.images / 16).float().unsqueeze(1).expand(-1, 3, -1, -1)  # [N,3,8,8] in [0,1]
    data = TensorDataset(pixels, torch.from_numpy(digits.target))

    recording = Recording(data, ["shot_noise", "glass_blur"], "results/lightning_loop")
    trainer = lightning.Trainer(max_epochs=5, callbacks=[recording], logger=False, enable_checkpointing=False)
    trainer.fit(Classifier(), DataLoader(data, batch_size=64, shuffle=True))
    for path in recording.paths:
        print(f"saved {path}")
    print(f"next: python {os.path.relpath(PROJECT / 'plot_utils' / 'plotting.py')} --statistics {path}")


if __name__ == "__main__":
    main()
