"""Tiny random text classifiers with tokenizers of their own, and small files in the layouts of the text data sets."""

from __future__ import annotations

import string
import zipfile

GOOD = ("good", "great", "fine", "lovely", "moving", "funny", "warm", "clever")
BAD = ("bad", "awful", "dull", "lame", "clumsy", "silly", "cold", "boring")
FILLERS = ("the", "film", "is", "a", "of", "and", "story", "its", "cast", "plot")


def sentences(count, seed=0):
    """Sentences of 3 to 12 words whose label, 1 or 0, is told by a word in each; texts and labels."""
    import numpy as np

    draws = np.random.default_rng(seed)
    texts, labels = [], []
    for number in range(count):
        words = list(draws.choice(FILLERS, draws.integers(2, 12)))
        words.insert(int(draws.integers(0, len(words) + 1)), str(draws.choice((BAD, GOOD)[number % 2])))
        texts.append(" ".join(words))
        labels.append(number % 2)
    return texts, labels


def write_tsv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in [header, *rows]))


def write_sst2(folder, train=64, test=16):
    """SST-2 in the official layout."""
    for split, count, seed in (("train", train, 0), ("dev", test, 1)):
        write_tsv(folder / "SST-2" / f"{split}.tsv", ("sentence", "label"), zip(*sentences(count, seed)))
    return folder


def write_zip(archive, folder):
    """An archive of a folder's contents."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path != archive:
                file.write(path, path.relative_to(folder))
    return archive


def vocabulary():
    """Words, and pieces from which any other word in lower case can be put together."""
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    return [*GOOD, *BAD, *FILLERS, *letters, *(f"##{letter}" for letter in letters)]


def save_bert(folder, num_labels=2, positions=128, **options):
    """A BERT of one layer, with its tokenizer, as transformers saves them."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *vocabulary()]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
        num_labels=num_labels,
        initializer_range=0.3,
        **options,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def save_roberta(folder, num_labels=2, positions=128):
    """A RoBERTa of one layer, with a tokenizer of single letters; its positions begin at 2."""
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaTokenizer

    torch.manual_seed(0)
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ"]
    words += [*string.ascii_lowercase, *string.digits, *string.punctuation]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    RobertaTokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions + 2,
        type_vocab_size=1,
        num_labels=num_labels,
        initializer_range=0.3,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    RobertaForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def save_gpt2(folder, num_labels=2):
    """A GPT-2 of one layer, whose tokenizer has no token to pad with, as published ones have none."""
    import torch
    from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2Tokenizer

    torch.manual_seed(0)
    words = ["<|endoftext|>", "Ġ", *string.ascii_lowercase, *string.digits, *string.punctuation]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    GPT2Tokenizer(vocab=vocab, merges=[]).save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(vocab),
        n_positions=128,
        n_embd=16,
        n_layer=1,
        n_head=2,
        num_labels=num_labels,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    return str(folder)
