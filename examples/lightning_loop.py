"""A Trainer of Lightning: record, draw the map, choose, train again with flooding; digits, in seconds.

Usage: pip install -r examples/requirements.txt; python examples/lightning_loop.py
"""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn, utils

from robust_data import Recorder, treat


class Recording(lightning.Callback):  # takes the arguments of a Recorder
    def __init__(self, *arguments, **options):
        self.arguments, self.options = arguments, options

    def on_fit_start(self, trainer, pl_module):
        self.recorder = Recorder(*self.arguments, **self.options)  # only now have several processes met

    def on_train_epoch_end(self, trainer, pl_module):
        self.recorder.record(pl_module, step=trainer.global_step)


class Classifier(lightning.LightningModule):
    def __init__(self, chosen: treat.Chosen | None = None):
        super().__init__()
        self.chosen = chosen
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(192, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, pixels):
        return self.layers(pixels)

    def training_step(self, batch, number):
        pixels, labels, index = batch
        losses = nn.functional.cross_entropy(self(pixels), labels, reduction="none")
        return (losses if self.chosen is None else treat.flooding(losses, index, self.chosen, b=0.2)).mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main() -> None:
    digits, chosen = load_digits(), None
    pixels = torch.from_numpy(digits.images / 16).float().unsqueeze(1).expand(-1, 3, -1, -1)  # [N,3,8,8] in [0,1]
    data = utils.data.TensorDataset(pixels, torch.from_numpy(digits.target))
    recording = Recording(data, ["shot_noise"], "results/lightning_loop", overwrite=True)
    for callbacks in ([recording], []):
        lightning.seed_everything(0)
        trainer = lightning.Trainer(max_epochs=5, callbacks=callbacks, logger=False, enable_checkpointing=False)
        trainer.fit(Classifier(chosen), utils.data.DataLoader(treat.Indexed(data), batch_size=64, shuffle=True))
        if chosen is None:
            (statistics,) = recording.recorder.finish()
            recording.recorder.map().savefig(statistics.with_suffix(".png"))
            chosen = treat.choose(statistics, "perturbed_loss_mean_r", 0.3)
    print(f"saved {statistics}")


if __name__ == "__main__":
    main()
