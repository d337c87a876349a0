"""Flooding, soft labels and subsets in a loop of one's own."""

import numpy as np
import pytest
import torch
from conftest import refuses
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from robust_data import losses, selection, treat
from robust_data.analysis.statistics_file import open_statistics


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(0)
    return torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([5, 40, 7, 2, 9, 11])


def test_a_choice_is_that_of_the_scripts(statistics):
    metrics = open_statistics(statistics).metrics
    assert treat.choose(statistics).index.tolist() == selection.select(metrics, "perturbed_loss_mean_r", 0.3).tolist()
    swing = treat.choose(statistics, "swing", 0.25).index.tolist()
    assert swing == selection.group(metrics, "swing", 0.25).tolist()


@pytest.mark.parametrize("kind", ["file", "array", "list", "tensor"])
def test_indices_that_were_listed_are_taken_as_they_are(kind, tmp_path):
    np.save(tmp_path / "some.npy", [4, 1, 7])
    source = {"file": tmp_path / "some.npy", "array": np.array([4, 1, 7]), "list": [4, 1, 7]}
    chosen = treat.choose(source.get(kind, torch.tensor([4, 1, 7])))
    assert chosen.index.tolist() == [4, 1, 7] and len(chosen) == 3


def test_losses_are_those_of_the_scripts(batch):
    logits, labels, index = batch
    chosen, selected = treat.choose([7, 9, 100]), torch.tensor([False, False, True, False, True, False])
    each = nn.functional.cross_entropy(logits, labels, reduction="none")
    assert treat.flooding(each, index, chosen, b=0.7, beta=0.5).equal(losses.flooding(each, selected, 0.7, 0.5))
    soft = treat.soft_label(logits, labels, index, chosen, golden_weight=0.9, beta=2)
    assert soft.equal(losses.soft_label(logits, labels, selected, 0.9, 2))


def test_a_loader_gives_the_index_beside_each_item_and_a_subset_keeps_it():
    data = treat.Indexed(TensorDataset(torch.arange(6.0), torch.arange(6) % 2))
    values, labels, index = next(iter(DataLoader(treat.subset(data, treat.choose([5, 3])), batch_size=2)))
    assert values.tolist() == [5, 3] and labels.tolist() == [1, 1] and index.tolist() == [5, 3]
    assert treat.Indexed([{"text": "a"}])[0] == {"text": "a", "index": 0} and treat.Indexed(["a"])[0] == ("a", 0)


@pytest.mark.parametrize(
    "wrong, named",
    [
        (lambda logits, labels, index: treat.flooding(logits.mean(), index, treat.choose([1])), "reduction"),
        (lambda logits, labels, index: treat.flooding(logits[:, 0], index[:2], treat.choose([1])), "index"),
        (lambda logits, labels, index: treat.flooding(logits[:, 0], logits[:, 0], treat.choose([1])), "index"),
        (lambda logits, labels, index: treat.soft_label(logits.softmax(1), labels, index, treat.choose([1])), "logits"),
        (lambda logits, labels, index: treat.subset([1, 2], treat.choose([2])), "chosen"),
        (lambda logits, labels, index: treat.choose([]), "chosen"),
        (lambda logits, labels, index: treat.choose(np.array([True, False])), "chosen"),
        (lambda logits, labels, index: treat.flooding(logits[:, 0], index, [1, 2]), "chosen"),
        (lambda logits, labels, index: treat.flooding(logits[:, 0], None, treat.choose([1])), "index"),
        (lambda logits, labels, index: treat.subset([1, 2], treat.choose([-1, 0])), "instance -1"),
        (lambda logits, labels, index: treat.choose("nowhere.npy"), "source nowhere.npy"),
    ],
)
def test_what_cannot_be_used_is_refused(wrong, named, batch):
    with refuses(named):
        wrong(*batch)


def test_the_trainer_of_hugging_face_minimises_what_treat_gives(bert, tmp_path):
    pytest.importorskip("accelerate", reason="needs pip install -r examples/requirements.txt")
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    seen = []

    class Flooding(treat.Treating, Trainer):
        def treat(self, logits, labels, index):
            seen.extend(index.tolist())
            return treat.flooding(nn.functional.cross_entropy(logits, labels, reduction="none"), index, chosen, b=5.0)

    chosen, tokenizer = treat.choose(range(8)), AutoTokenizer.from_pretrained(bert)
    rows = [dict(tokenizer("a good film", padding="max_length", max_length=8), labels=row % 2) for row in range(8)]
    arguments = TrainingArguments(
        tmp_path, num_train_epochs=4, learning_rate=1e-2, report_to="none", save_strategy="no", use_cpu=True
    )
    trained = {}
    for keep in (True, False):
        torch.manual_seed(0)
        arguments.remove_unused_columns = not keep
        model = AutoModelForSequenceClassification.from_pretrained(bert)
        trainer = Flooding(model=model, args=arguments, train_dataset=treat.Indexed(rows))
        if not keep:
            with refuses("index"):
                trainer.train()
        else:
            trained[keep] = trainer.train().training_loss
    # Below the flood level the loss is driven up to it; |loss - 5| + 5 starts near 9.3.
    assert sorted(set(seen)) == list(range(8)) and 5 < trained[True] < 9.4
