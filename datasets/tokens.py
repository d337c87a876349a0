"""Texts, tokenised once and held in memory without padding; a batch is padded to its own longest text."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robust_data.datasets import cache
from robust_data.datasets.base import Batch, Dataset
from robust_data.datasets.catalogue import Options
from robust_data.reading import quiet, reason
from robust_data.registry import InputError, LazyModule, hub_options, no_model_in

np = LazyModule("numpy")
torch = LazyModule("torch")

DEFAULT_LENGTH = 128
# What stands between the two texts of a pair where both are shown as one.
PAIR_SEPARATOR = " || "
# The lists of Python integers that a tokenizer returns take many times the memory of what is kept.
TEXTS_PER_CALL = 2048


@dataclass
class Tokens:
    """Tokenised texts laid end to end.

    ids: int32 [T] over all texts; types: uint8 [T], or None where the tokenizer makes none; special: bool
    [T], the tokens that the tokenizer adds, such as [CLS]. starts, lengths: int64 [N] on the CPU, where in
    them each text lies.
    """

    ids: torch.Tensor
    types: torch.Tensor | None
    special: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor

    def to(self, device: torch.device | str) -> Tokens:
        types = None if self.types is None else self.types.to(device)
        return Tokens(self.ids.to(device), types, self.special.to(device), self.starts, self.lengths)

    def take(self, positions: torch.Tensor) -> Tokens:
        """Those of these texts; what belongs to the others stays in memory."""
        return Tokens(self.ids, self.types, self.special, self.starts[positions], self.lengths[positions])

    def padded(
        self, positions: torch.Tensor, padding: tuple[int, int], device: torch.device | str
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """A model's inputs, int64 [B,L] each, and where an attack may act, bool [B,L]; L is these texts' longest.

        padding: the token and the token type that stand behind each text, whichever side its model wants it on.
        """
        starts, lengths = self.starts[positions], self.lengths[positions]
        slots = torch.arange(int(lengths.max()) if len(lengths) else 0)
        home = self.ids.device
        at_once = {"non_blocking": home.type == "cuda"}
        filled = (slots < lengths[:, None]).to(home, **at_once)
        places = torch.where(filled, (starts[:, None] + slots).to(home, **at_once), 0)
        inputs = {
            "input_ids": torch.where(filled, self.ids[places].long(), padding[0]),
            "attention_mask": filled.long(),
        }
        if self.types is not None:
            inputs["token_type_ids"] = torch.where(filled, self.types[places].long(), padding[1])
        inputs = {name: values.to(device) for name, values in inputs.items()}
        return inputs, (filled & ~self.special[places]).to(device)


@dataclass
class TextBatch(Batch):
    """Some texts, ready for a model.

    inputs: "input_ids", "attention_mask" and, if the tokenizer makes them, "token_type_ids", int64 [B,L]
    each. changeable: bool [B,L] on the device, False for padding and for the tokens that the tokenizer
    adds, which no attack may move. dataset: where the texts come from.
    """

    changeable: torch.Tensor
    dataset: TextDataset

    @property
    def columns(self) -> list[list[str]]:
        """The texts as written, B of them; for pairs followed by the B second texts."""
        return [[column[position] for position in self.positions.tolist()] for column in self.dataset.columns]

    def take(self, rows: torch.Tensor) -> TextBatch:
        return replace(super().take(rows), changeable=self.changeable[rows])

    def rewritten(self, columns: Sequence[list[str]]) -> TextBatch:
        """The same instances with other texts in the place of theirs."""
        inputs, changeable = self.dataset.padded(columns, self.labels.device)
        return replace(self, inputs=inputs, changeable=changeable)


class TextDataset(Dataset):
    """Texts, or pairs of them, tokenised in memory.

    columns: the texts as written, [N]; for pairs followed by the second texts, [N]. column_names: theirs in
    the file. `sources` are the texts, pairs joined by ` || `. max_seq_length: to how many tokens each is
    cut. Without a tokenizer there are the texts and labels, but no batches.
    """

    modality = "text"

    column_names: tuple[str, ...] = ("text",)

    def __init__(self, columns: Sequence[list[str]], tokenizer: Any, max_seq_length: int, *description: Any):
        super().__init__(*description, [PAIR_SEPARATOR.join(texts) for texts in zip(*columns, strict=True)])
        self.columns, self.tokenizer, self.max_seq_length = list(columns), tokenizer, max_seq_length
        self.tokens: Tokens | None = None

    @property
    def vocabulary(self) -> int | None:
        """How many tokens the tokenizer numbers, padding aside, which each model has its own of."""
        if self.tokenizer is None:
            return None
        numbers = self.tokenizer.get_vocab().values()
        return max((number for number in numbers if number != self.tokenizer.pad_token_id), default=-1) + 1

    def _reduce(self, part: Dataset, positions: torch.Tensor) -> None:
        part.columns = [[column[position] for position in positions.tolist()] for column in self.columns]
        part.tokens = None if self.tokens is None else self.tokens.take(positions)

    def to(self, device: torch.device | str) -> Dataset:
        """These texts with their tokens on the device."""
        moved = copy.copy(self)
        moved.tokens = None if self.tokens is None else self.tokens.to(device)
        return moved

    def collection_order(self) -> torch.Tensor:
        """Positions by number of tokens, so that the texts of a batch are of a length."""
        return super().collection_order() if self.tokens is None else self.tokens.lengths.argsort(stable=True)

    def batches(self, batches_of_positions: Sequence[torch.Tensor], device: torch.device | str) -> Iterator[Batch]:
        self._needs_tokenizer()
        for positions in batches_of_positions:
            inputs, changeable = self.tokens.padded(positions, self._padding(), device)
            labels = self.labels[positions].to(device)
            yield TextBatch(positions, self.index[positions], labels, inputs, changeable, self)

    def encode(self, columns: Sequence[list[str]], device: torch.device | str) -> dict[str, torch.Tensor]:
        """A model's inputs for B texts, or B pairs of them, as `batches` would make them."""
        return self.padded(columns, device)[0]

    def padded(
        self, columns: Sequence[list[str]], device: torch.device | str
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The same, and which of their tokens an attack may move, as `TextBatch.changeable`."""
        self._needs_tokenizer()
        tokens = tokenise(self.tokenizer, columns, self.max_seq_length)
        return tokens.padded(torch.arange(len(columns[0])), self._padding(), device)

    def _needs_tokenizer(self) -> None:
        if self.tokenizer is None:
            raise InputError(f"dataset '{self.name}' was loaded without a tokenizer, so without batches; name a model")

    def _padding(self) -> tuple[int, int]:
        # Without a padding token any will do, the attention mask hides it.
        return self.tokenizer.pad_token_id or 0, self.tokenizer.pad_token_type_id


@dataclass
class Texts:
    """A split of texts: for each of one or two columns N strings; labels integers [N]; the names of the columns."""

    columns: list[list[str]]
    labels: Any
    label_names: list[str]
    column_names: tuple[str, ...] = ("text",)
    others: Mapping[str, Any] = field(default_factory=dict)

    def build(self, name: str, split: str, rows: Any, options: Options) -> Dataset:
        """The data set of these rows, cut to `max_seq_length` tokens by the `tokenizer` of the options."""
        tokenizer = load_tokenizer(options.extra.get("tokenizer"))
        length = options.extra.get("max_seq_length") or DEFAULT_LENGTH
        if tokenizer is not None:
            _check_length(tokenizer, length, pair=len(self.columns) == 2)
        columns = [[column[row] for row in rows] for column in self.columns]
        labels = torch.from_numpy(np.asarray(self.labels, dtype=np.int64)[rows])
        index = torch.from_numpy(rows)
        dataset = TextDataset(columns, tokenizer, length, name, split, self.label_names, index, labels)
        dataset.column_names = self.column_names
        if tokenizer is not None:
            dataset.tokens = _kept_tokens(tokenizer, columns, length, options)
        return dataset


def _kept_tokens(tokenizer: Any, columns: Sequence[list[str]], length: int, options: Options) -> Tokens:
    """Texts tokenised, or as --cache has kept them."""
    if options.cache is None or not getattr(tokenizer, "is_fast", False):
        return tokenise(tokenizer, columns, length)

    def make() -> dict[str, Any]:
        made = {name: values for name, values in vars(tokenise(tokenizer, columns, length)).items()}
        return {name: values.numpy() for name, values in made.items() if values is not None}

    sides = (tokenizer.truncation_side, tokenizer.eos_token, tokenizer.unk_token, tokenizer.model_input_names)
    # How texts are cut and padded is as its last call left it.
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    known_by = itertools.chain([json.dumps(rules), str((length, sides))], *columns)
    with options.in_turn():
        kept = {name: torch.from_numpy(values) for name, values in cache.tokens(options.cache, known_by, make).items()}
    return Tokens(**{"types": None} | kept)


def load_tokenizer(source: Any) -> Any:
    """The tokenizer of a model by its hub name or folder; a tokenizer, or None, is returned as it is.

    Raises InputError if there is none.
    """
    if source is None or callable(source):
        return source
    from transformers import AutoTokenizer

    options = hub_options(str(source))
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(source), **options)
    except Exception as error:  # damaged files raise whatever their formats suggest
        if Path(source).is_dir() and not (Path(source) / "config.json").exists():
            raise no_model_in(source) from None
        raise _no_tokenizer(source, reason(error)) from error
    # Where there are no files for it, transformers makes a tokenizer without a vocabulary.
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise _no_tokenizer(source, "it holds no vocabulary")
    return tokenizer


def _no_tokenizer(source: Any, reason: str) -> InputError:
    return InputError(
        f"--model_name {source}: no tokenizer could be loaded ({reason}); "
        "give a text classifier by its Hugging Face name, such as bert-base-uncased, or its folder"
    )


def _check_length(tokenizer: Any, length: int, pair: bool) -> None:
    least = tokenizer.num_special_tokens_to_add(pair=pair) + (2 if pair else 1)
    if length < least:
        raise InputError(f"--max_seq_length {length} leaves no room for words; give at least {least}")


def tokenise(tokenizer: Any, columns: Sequence[list[str]], max_seq_length: int) -> Tokens:
    """Tokenise texts, or pairs of them, cut to `max_seq_length` tokens (of a pair the longer text first).

    They are cut on the tokenizer's side. A token that ends texts counts as letters where it stands within one, or as
    an unknown word, as models refuse a batch, or misread it, whose texts end more than once. A text of which the
    tokenizer leaves nothing becomes an unknown word.
    """
    end, unknown = tokenizer.eos_token, _unknown_word(tokenizer)
    if end:
        columns = [[text.replace(end, f"{end[:1]} {end[1:]}") for text in column] for column in columns]
    parts = []
    for first in range(0, len(columns[0]), TEXTS_PER_CALL):
        chunk = [column[first : first + TEXTS_PER_CALL] for column in columns]
        encoded = tokenizer(*chunk, truncation=True, max_length=max_seq_length, return_special_tokens_mask=True)
        for row in (row for row, tokens in enumerate(encoded["input_ids"]) if not tokens):
            for name in encoded:
                encoded[name][row] = [unknown if name == "input_ids" else 0]
        parts.append({name: _flat(values, dtype) for name, dtype in _KEPT.items() if (values := encoded.get(name))})
        parts[-1]["lengths"] = np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)
    joined = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
    starts = joined["lengths"].cumsum(0) - joined["lengths"]
    ids, special = joined["input_ids"], joined["special_tokens_mask"].bool()
    if end:  # a tokenizer may have made it of other letters
        ids[(ids == tokenizer.eos_token_id) & ~special] = unknown
    return Tokens(ids, joined.get("token_type_ids"), special, starts, joined["lengths"])


_KEPT = {"input_ids": "int32", "token_type_ids": "uint8", "special_tokens_mask": "uint8"}


def _unknown_word(tokenizer: Any) -> int:
    return next((token for token in (tokenizer.unk_token_id, tokenizer.eos_token_id) if token is not None), 0)


def _flat(lists: Sequence[Sequence[int]], dtype: str) -> Any:
    return np.fromiter(itertools.chain.from_iterable(lists), dtype=dtype)
