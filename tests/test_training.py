"""Where checkpoints fall, and that training is the same however it is interrupted by looks at the model."""

import pytest
import torch
from conftest import refuses
from torch import nn

from robust_data import datasets, models
from robust_data.evaluation import evaluate
from robust_data.fine_tune.adversarial import AdversarialTrainer
from robust_data.fine_tune.methods import Method
from robust_data.fine_tune.objective import Objective
from robust_data.perturbations import PgdOptions
from robust_data.settings import Training
from robust_data.train.augmentation import augment
from robust_data.train.batches import Batches
from robust_data.train.training import Trainer, TrainingDiverged, checkpoint_steps


@pytest.mark.parametrize(
    "epochs, steps_per_epoch, interval, expected",
    [
        (3, 10, 1, [0, 10, 20, 30]),
        (1, 10, 0.35, [0, 4, 7, 10]),  # 3.5 and 7 steps, then the end
        (2, 5, 3, [0, 10]),  # an interval longer than the training leaves its end
        (2, 3, 0.01, [0, 1, 2, 3, 4, 5, 6]),  # at least one step apart
        (1, 1000, 0.1, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]),
    ],
)
def test_checkpoints_fall_after_every_interval_and_at_the_end(epochs, steps_per_epoch, interval, expected):
    assert checkpoint_steps(epochs, steps_per_epoch, interval) == expected


def test_without_the_untrained_model_the_first_checkpoint_is_after_the_first_interval():
    assert checkpoint_steps(2, 10, 1, with_untrained_model=False) == [10, 20]


def trainer(digits, **options):
    torch.manual_seed(0)
    model = models.build("small_cnn", 10, image_size=digits.image_size)
    of_trainer = {name: options.pop(name) for name in ("seed", "precision") if name in options}
    return Trainer(model, digits, Training(**{"epochs": 2, "bsz": 16} | options), torch.device("cpu"), **of_trainer)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", dataset_len=50)


def test_looking_at_the_model_between_steps_does_not_change_its_training(digits):
    straight, halting = trainer(digits), trainer(digits)
    straight.train_until(8)
    for step in (1, 2, 5, 8):
        halting.train_until(step)
    for one, other in zip(straight.model.state_dict().values(), halting.model.state_dict().values()):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "schedule, expected",
    [
        # Half of the 8 steps rise in equal parts; the rest fall in equal ones, or along a cosine.
        ("linear", [0.2, 0.4, 0.6, 0.8, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.2, 0.4, 0.6, 0.8, 1, 0.853553, 0.5, 0.146447]),
        # From 1/25 along a cosine to 1 after 3.5 steps, half of 9 less one, and down along another to step 8.
        ("onecycle", [0.04, 0.220725, 0.626810, 0.952465, 0.969846, 0.75, 0.413176, 0.116978]),
    ],
)
def test_schedules_rise_over_the_warm_up_and_end_at_zero(digits, schedule, expected):
    run = trainer(digits, lr=1.0, warmup_ratio=0.5, lr_schedule=schedule)
    rates = []
    for step in range(1, 9):
        rates.append(run.optimizer.param_groups[0]["lr"])
        run.train_until(step)
    assert rates == pytest.approx(expected, abs=2e-5)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("warmup_ratio, epochs, bsz", [(0, 2, 16), (0.1, 1, 50), (1, 2, 25), (0.1, 1, 25)])
def test_a_cycle_may_be_short(digits, warmup_ratio, epochs, bsz):
    run = trainer(digits, lr_schedule="onecycle", warmup_ratio=warmup_ratio, epochs=epochs, bsz=bsz)
    run.train_until(run.total_steps)
    assert run.step == run.total_steps


def test_sgd_has_nesterovs_momentum_and_decays_what_adamw_does(digits):
    optimizer = trainer(digits, optimizer="sgd", weight_decay=5e-4).optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0]


def test_labels_are_smoothed_as_torch_smooths_them(digits):
    run = trainer(digits, label_smoothing=0.1)
    logits, labels = torch.randn(4, 10), torch.arange(4)
    expected = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)(logits, labels)
    assert torch.equal(run.losses(logits, labels, labels), expected)
    objective = Objective(Method(), torch.zeros(4, dtype=torch.bool), 0.1)
    assert torch.equal(objective(logits, labels, labels), expected)
    plain = torch.nn.functional.cross_entropy(logits, labels)
    assert objective.end_epoch()["train_cross_entropy"] == pytest.approx(plain.item())


def test_training_and_nothing_else_sees_augmented_images(digits):
    run, seen = trainer(digits, augment="flip_crop"), []
    run.model.register_forward_pre_hook(lambda model, inputs: seen.append((model.training, inputs[0]["pixel_values"])))
    run.train_until(8)
    evaluate(run.model, digits)
    (batch,) = digits.batches([run._epoch_batches(1)[0]], "cpu")
    expected = augment(batch.inputs["pixel_values"], "flip_crop", batch.index, 42, epoch=1)
    assert torch.equal(seen[4][1], expected) and not torch.equal(expected, batch.inputs["pixel_values"])
    (clean,) = digits.batches([torch.arange(50)], "cpu")
    assert [images for training, images in seen if not training][0].equal(clean.inputs["pixel_values"])


def test_adversarial_training_starts_from_augmented_images(digits):
    seen = []
    model = models.build("small_cnn", 10, image_size=digits.image_size)
    options = Training(epochs=1, bsz=16, augment="flip")
    still = PgdOptions(steps=1, lr=0.0, init_mag=0.0)
    run = AdversarialTrainer(model, digits, options, torch.device("cpu"), pgd_options=still)
    model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]["pixel_values"].detach().clone()))
    run.train_until(1)
    (batch,) = digits.batches([run._epoch_batches(0)[0]], "cpu")
    assert torch.equal(seen[0], augment(batch.inputs["pixel_values"], "flip", batch.index, 42, epoch=0))


def test_a_seed_may_be_a_time_stamp(digits):
    run = trainer(digits, seed=20261231235959, epochs=1)
    run.train_until(4)
    assert run.step == 4


def test_biases_and_norms_are_not_decayed(digits):
    decayed, free = trainer(digits).optimizer.param_groups
    assert decayed["weight_decay"] > 0 and all(parameter.ndim > 1 for parameter in decayed["params"])
    assert free["weight_decay"] == 0 and all(parameter.ndim == 1 for parameter in free["params"])


def test_a_loss_that_is_not_finite_stops_at_its_step(digits):
    run = trainer(digits)
    run.train_until(2)
    with torch.no_grad():
        next(run.model.parameters()).fill_(torch.nan)
    with pytest.raises(TrainingDiverged, match="not finite at step 3"):
        run.train_until(8)


def test_an_epoch_reports_means_over_all_its_instances(digits):
    reported = []
    run = trainer(digits, lr=1e-12, epochs=1)
    run.on_epoch_end = reported.append
    run.losses = lambda logits, labels, index: index.double() + 0 * logits.sum(dim=1)
    run.train_until(4)
    assert reported[0]["epoch"] == 1 and reported[0]["global_step"] == 4
    # The last batch, of 2 of the 50 instances, weighs no more than they do.
    assert reported[0]["train_loss"] == pytest.approx(digits.index.double().mean().item())


def test_several_gpus_train_with_torchs_synchronised_batch_norm(digits, monkeypatch):
    """Every batch norm is torch's own layer for it, with the same weights. That the layer exchanges its sums is torch's
    to test: it runs on GPUs alone."""
    monkeypatch.setattr("robust_data.train.distributed.world_size", lambda: 2)
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", lambda model, **how: model)
    model = models.build("small_cnn", 10, image_size=digits.image_size)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Trainer(model, digits, Training(), torch.device("cuda", 0))
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(norm, torch.nn.SyncBatchNorm) for norm in norms)
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_an_instance_that_stands_in_for_an_empty_share_stays_out_of_synchronised_statistics(digits, monkeypatch):
    """What the layer gives to the exchange, in the place of which stands a plain batch norm."""
    shown = []

    def exchange(self, input):
        shown.append(len(input))
        return torch.nn.BatchNorm2d.forward(self, input) if len(input) else input * self.weight.view(1, -1, 1, 1)

    monkeypatch.setattr("robust_data.train.distributed.world_size", lambda: 2)
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", lambda model, **how: model)
    monkeypatch.setattr(torch.nn.SyncBatchNorm, "forward", exchange)
    run = Trainer(
        models.build("small_cnn", 10, image_size=digits.image_size), digits, Training(), torch.device("cuda", 0)
    )
    run.device = torch.device("cpu")
    batch = next(digits.batches([torch.arange(4)], "cpu"))
    run.logits_and_losses(batch.inputs, batch, counted=4)
    norms = len(shown)
    assert norms and set(shown) == {4}
    before = {name: value.clone() for name, value in run.model.named_buffers()}
    logits, losses = run.logits_and_losses({"pixel_values": batch.inputs["pixel_values"][:1]}, batch, counted=0)
    assert shown[norms:] == [0] * norms and len(losses) == 0
    assert all(torch.equal(value, before[name]) for name, value in run.model.named_buffers())
    losses.sum().backward()
    assert all(parameter.grad is not None for parameter in run.model.parameters())


def test_bfloat16_trains_as_far_as_its_digits_reach(digits):
    losses = {}
    for precision in ("fp32", "bf16"):
        run = trainer(digits, precision=precision, epochs=10, lr=5e-3)
        figures = []
        run.on_epoch_end = figures.append
        run.train_until(run.total_steps)
        losses[precision] = [of_epoch["train_loss"] for of_epoch in figures]
    assert losses["bf16"][-1] < 0.7 * losses["bf16"][0]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1) and losses["bf16"] != losses["fp32"]


class NormOfOneValue(nn.Module):
    """Its batch norm sees one value per channel of an image, as a deep network's last ones do of a small image."""

    def __init__(self):
        super().__init__()
        self.norm, self.head = nn.BatchNorm1d(3), nn.Linear(3, 10)

    def forward(self, inputs):
        return self.head(self.norm(inputs["pixel_values"].mean(dim=(2, 3))))


def cut_by(model, size, count):
    batches = Batches(model, size, [count], lambda: {"pixel_values": torch.zeros(1, 3, 8, 8)})
    sizes = [len(batch) for batch in batches.cut(torch.arange(count))]
    assert sum(sizes) == count and len(sizes) == batches.count(count)
    return sizes


def test_a_last_batch_of_one_joins_the_one_before_it_where_batch_norm_needs_two():
    small_cnn = models.build("small_cnn", 10, image_size=(8, 8))
    assert cut_by(NormOfOneValue(), 16, 33) == [16, 17] and cut_by(small_cnn, 16, 33) == [16, 16, 1]
    assert cut_by(NormOfOneValue(), 16, 34) == [16, 16, 2] and cut_by(NormOfOneValue(), 16, 32) == [16, 16]


def test_training_with_a_last_batch_of_one_sees_every_instance(digits):
    run = Trainer(NormOfOneValue(), digits, Training(epochs=1, bsz=7), torch.device("cpu"))
    figures = []
    run.on_epoch_end = figures.append
    run.train_until(run.total_steps)
    assert run.total_steps == 7 and figures[0]["global_step"] == 7 and run.step == 7
    norm = run.model.norm
    assert norm.num_batches_tracked == 7, "the trial leaves the running statistics alone"


@pytest.mark.parametrize("options, subsets, given", [({"bsz": 1}, None, "--bsz 1"), ({}, [[3]], "one instance")])
def test_a_batch_norm_that_would_always_get_one_instance_is_told_before_training(digits, options, subsets, given):
    subsets = subsets and [torch.tensor(subset) for subset in subsets]
    with refuses(given):
        Trainer(NormOfOneValue(), digits, Training(**options), torch.device("cpu"), subsets=subsets)


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("count", range(2, 13))
def test_no_process_gets_a_single_instance_where_batch_norm_needs_two(monkeypatch, processes, count):
    monkeypatch.setattr("robust_data.train.distributed.world_size", lambda: processes)
    batches = Batches(NormOfOneValue(), count, [count], lambda: {"pixel_values": torch.zeros(1, 3, 8, 8)})
    taken = []
    for rank in range(processes):
        monkeypatch.setattr("robust_data.train.distributed.rank", lambda rank=rank: rank)
        own, shown = batches.share(torch.arange(count))
        assert len(shown) >= 2 and (len(own) == 0 or torch.equal(own, shown))
        taken += own.tolist()
    assert sorted(taken) == list(range(count))
