"""Tiny random text classifiers with tokenizers of their own, and small files in the layouts of the text data sets."""

import csv
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
    from transformers import BertForSequenceClassification

    return _save_bert(BertForSequenceClassification, folder, positions, num_labels=num_labels, **options)


def save_masked_lm(folder, positions=128):
    """The same with a head that fills masks, as trained ones do never with a token such as [CLS]."""
    import torch
    from transformers import BertForMaskedLM

    _save_bert(BertForMaskedLM, folder, positions)
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.get_output_embeddings().bias[:5] = -100
    model.save_pretrained(folder)
    return str(folder)


def _save_bert(model_class, folder, positions, **options):
    import torch
    from transformers import BertConfig, BertTokenizer

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *vocabulary()]
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    sizes = _SIZES | {"vocab_size": len(words), "max_position_embeddings": positions, "initializer_range": 0.3}
    model_class(BertConfig(**sizes | options)).save_pretrained(folder)
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
    sizes = _SIZES | {"vocab_size": len(vocab), "max_position_embeddings": positions + 2, "initializer_range": 0.3}
    tokens = {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    RobertaForSequenceClassification(RobertaConfig(num_labels=num_labels, **sizes, **tokens)).save_pretrained(folder)
    return str(folder)


# Of each family what its config calls the sizes of a tiny model, what its tokenizer puts around a text, and whether
# that pads on the left. Some depend on padding whatever the mask says: FNet has none, ConvBERT convolves over it.
_SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
_DECODER = {"num_key_value_heads": 2, "head_dim": 8} | _SIZES
_TWO_SIDES = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 32))
}
_AROUND = "[CLS] $A [SEP]"
FAMILIES = {
    "bert": (_SIZES, _AROUND, "right"),
    "roberta": (_SIZES, _AROUND, "right"),
    "albert": (_SIZES | {"embedding_size": 8}, _AROUND, "right"),
    "electra": (_SIZES | {"embedding_size": 8}, _AROUND, "right"),
    "deberta": (_SIZES, _AROUND, "right"),
    "deberta-v2": (_SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, _AROUND, "right"),
    "distilbert": ({"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}, _AROUND, "right"),
    "modernbert": (_SIZES | {"num_hidden_layers": 2}, _AROUND, "right"),
    "fnet": (_SIZES, _AROUND, "right"),
    "convbert": (_SIZES | {"embedding_size": 16}, _AROUND, "right"),
    "xlnet": ({"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32}, "$A [SEP] [CLS]", "left"),
    "gpt2": ({"n_embd": 16, "n_layer": 1, "n_head": 2}, "$A", "left"),
    "opt": (_SIZES | {"ffn_dim": 32, "word_embed_proj_dim": 16}, "[CLS] $A", "right"),
    "llama": (_DECODER, "$A [SEP]", "left"),
    "t5": ({"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}, "$A [SEP]", "right"),
    "bart": ({"d_model": 16} | _TWO_SIDES, _AROUND, "right"),
}


def save_family(folder, family, num_labels=2, padding_token=True, **options):
    """A tiny random classifier of one of `FAMILIES` with a tokenizer that does as those of that family do."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

    sizes, around, side = FAMILIES[family]
    special = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]"}
    words = [*dict.fromkeys(special.values()), *vocabulary()]
    ids = {name: words.index(token) for name, token in special.items()}
    if not padding_token:
        del special["pad"]
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    if family == "t5":  # its kind has what ends a text among its pieces, and letters may be written in several ways
        tokenizer = Tokenizer(models.Unigram([(word, -1.0) for word in words], unk_id=ids["unk"]))
        tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(special[name], ids[name]) for name in ("cls", "sep")]
    )
    tokens = {f"{name}_token": token for name, token in special.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side=side, **tokens).save_pretrained(folder)

    numbers = {f"{name}_token_id": ids[name] for name in ("pad", "bos", "eos") if name in special}
    numbers |= {"pad_token_id": None} if not padding_token else {}
    if family == "t5":
        numbers["decoder_start_token_id"] = ids["pad"]
    known = AutoConfig.for_model(family)
    spread = {name: 0.3 for name in ("initializer_range", "init_std") if hasattr(known, name)}
    settings = {"vocab_size": len(words), "num_labels": num_labels} | spread | sizes | numbers | options
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **settings)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return str(folder)


def save_canine(folder, num_labels=2):
    """A CANINE of one layer, which reads characters by their numbers and has no table of words."""
    import torch
    from transformers import CanineConfig, CanineForSequenceClassification, CanineTokenizer

    torch.manual_seed(0)
    CanineTokenizer(model_max_length=128).save_pretrained(folder)
    sizes = _SIZES | {"max_position_embeddings": 128, "num_hash_buckets": 128, "initializer_range": 0.3}
    CanineForSequenceClassification(CanineConfig(num_labels=num_labels, **sizes)).save_pretrained(folder)
    return str(folder)


PAIRS = [("what is it ?", "it is a film", "entailment"), ("who ?", "the cast", "not_entailment")] * 4


def load(folder, task="sst2", split="train", **options):
    from robust_data import datasets

    return datasets.load("glue", split, data_dir=folder, task_name=task, **options)


def only_batch(dataset):
    import torch

    return next(dataset.batches([torch.arange(len(dataset))], "cpu"))


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path
