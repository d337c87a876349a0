"""Statistics from the Trainer of Hugging Face: a tiny BERT learns to tell praise from blame, in a few seconds.

Needs more: pip install -r examples/requirements.txt
Usage: python examples/hugging_face_trainer.py
"""

import os
import string
from pathlib import Path

from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from robust_data import Recorder

PROJECT = Path(__file__).resolve().parent.parent

SUBJECTS = ("the film", "its story", "the cast", "every scene", "this ending", "the music", "most of it", "the plot")
BLAME = ("bad", "awful", "dull", "lame", "clumsy", "silly", "cold", "boring")
PRAISE = ("good", "great", "fine", "lovely", "moving", "funny", "warm", "clever")


class Recording(TrainerCallback):
    """Records at the end of each epoch."""

    def __init__(self, recorder: Recorder):
        self.recorder = recorder

    def on_epoch_end(self, args, state, control, model, **others):
        self.recorder.record(model, step=state.global_step)


def main() -> None:
    set_seed(0)
    texts = [f"{subject} is {word}" for subject in SUBJECTS for word in (*BLAME, *PRAISE)]
    labels = [int(word in PRAISE) for _ in SUBJECTS for word in (*BLAME, *PRAISE)]
    tokenizer = letters_and_words(texts)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.1,
    )
    model = BertForSequenceClassification(config)

    # Several processes, such as torchrun starts, have met once there are TrainingArguments; then comes the Recorder.
    arguments = TrainingArguments(
        "results/hugging_face_trainer",
        num_train_epochs=5,
        per_device_train_batch_size=16,
        learning_rate=5e-3,
        save_strategy="no",
        report_to="none",
    )
    recorder = Recorder((texts, labels), ["pgd", "char_swap"], arguments.output_dir, tokenizer=tokenizer)
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=[dict(tokenizer(text), labels=label) for text, label in zip(texts, labels)],
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[Recording(recorder)],
    )
    trainer.train()
    for path in recorder.finish():
        print(f"saved {path}")
    print(f"next: python {os.path.relpath(PROJECT / 'plot_utils' / 'plotting.py')} --statistics {path}")


def letters_and_words(texts: list[str]) -> BertTokenizer:
    """A tokenizer that knows the words of the texts, and puts any other word together from letters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    words = sorted({word for text in texts for word in text.split()})
    return BertTokenizer(vocab={piece: number for number, piece in enumerate([*special, *pieces, *words])})


if __name__ == "__main__":
    main()
