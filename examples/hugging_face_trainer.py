"""The Trainer of Hugging Face: record, draw the map, choose, train again with flooding; a tiny BERT, in seconds.

Usage: pip install -r examples/requirements.txt; python examples/hugging_face_trainer.py
"""

import string

import transformers as hf
from torch import nn

from robust_data import Recorder, treat

SUBJECTS = ("the film", "its story", "the cast", "every scene", "this ending", "the music", "most of it", "the plot")
BLAME = ("bad", "awful", "dull", "lame", "clumsy", "silly", "cold", "boring")
PRAISE = ("good", "great", "fine", "lovely", "moving", "funny", "warm", "clever")
TEXTS = [f"{subject} is {word}" for subject in SUBJECTS for word in (*BLAME, *PRAISE)]
LABELS = [int(word in PRAISE) for _ in SUBJECTS for word in (*BLAME, *PRAISE)]
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]
PIECES += [*(f"##{letter}" for letter in string.ascii_lowercase), *sorted({w for t in TEXTS for w in t.split()})]
TOKENIZER = hf.BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)})
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
SIZES |= {"initializer_range": 0.1}


class Recording(hf.TrainerCallback):
    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def on_epoch_end(self, args, state, control, model, **others):
        self.recorder.record(model, step=state.global_step)


class FloodingTrainer(treat.Treating, hf.Trainer):
    def treat(self, logits, labels, index):
        return treat.flooding(nn.functional.cross_entropy(logits, labels, reduction="none"), index, self.chosen, b=0.2)


def main() -> None:
    # Several processes, such as torchrun starts, have met once there are TrainingArguments; then comes the Recorder.
    options = {"learning_rate": 5e-3, "per_device_train_batch_size": 16, "save_strategy": "no", "report_to": "none"}
    arguments = hf.TrainingArguments("results/trainer", num_train_epochs=5, remove_unused_columns=False, **options)
    rows = treat.Indexed([dict(TOKENIZER(text), labels=label) for text, label in zip(TEXTS, LABELS)])
    recorder = Recorder((TEXTS, LABELS), ["pgd"], arguments.output_dir, tokenizer=TOKENIZER, overwrite=True)
    for trainer_class in (hf.Trainer, FloodingTrainer):
        hf.set_seed(0)
        model = hf.BertForSequenceClassification(hf.BertConfig(vocab_size=len(TOKENIZER), **SIZES))
        data = rows.dataset if trainer_class is hf.Trainer else rows
        trainer = trainer_class(model, arguments, hf.DataCollatorWithPadding(TOKENIZER), data)
        if trainer_class is hf.Trainer:
            trainer.add_callback(Recording(recorder))
        else:
            (statistics,) = recorder.finish()
            recorder.map().savefig(statistics.with_suffix(".png"))
            trainer.chosen = treat.choose(statistics, "perturbed_loss_mean_r", 0.3)
        trainer.train()
    print(f"saved {statistics}")


if __name__ == "__main__":
    main()
