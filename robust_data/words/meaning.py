"""What the recipes hold candidates to beside being words: the meaning of the text, and the part of speech."""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from robust_data.registry import InputError
from robust_data.words.masked_lm import by_length, longest, pretrained
from robust_data.words.methods import Candidates, Method, Slot
from robust_data.words.words import WORD

# Texts to vectors of length 1, [B, D]; the words of a sentence to their parts of speech, by names of their own.
Encode = Callable[[Sequence[str]], torch.Tensor]
Tagger = Callable[[Sequence[str]], Sequence[str]]


class Encoder:
    """Sentences to vectors: the mean over their tokens of the last hidden layer of a model; see `load`."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any):
        self.model, self.tokenizer, self._length = model, tokenizer, longest(model, tokenizer)

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors of length 1, float32 [B, D] on the CPU; a text is cut to the tokens that the model takes."""
        return torch.stack(by_length(texts, self._encode))

    def _encode(self, texts: list[str]) -> torch.Tensor:
        inputs = self.tokenizer(texts, padding=True, truncation=True, max_length=self._length, return_tensors="pt")
        hidden = self.model(**inputs.to(self.model.device)).last_hidden_state.float()
        mean = (hidden * inputs["attention_mask"][..., None]).sum(dim=1)
        return torch.nn.functional.normalize(mean, dim=1).cpu()


def load(name: str, device: torch.device) -> Encoder:
    """An encoder by folder or hub name. Raises InputError if there is none, or its weights are not all there."""
    argument = "--sentence_encoder"
    model, tokenizer, missing = pretrained("AutoModel", name, argument, "encoder", device)
    # What comes behind the last hidden layer is of no use here.
    if any(not key.startswith("pooler.") for key in missing):
        raise InputError(
            f"{argument} {name} lacks weights of its layers ({sorted(missing)[0]}); give a trained encoder"
        )
    return Encoder(model, tokenizer)


def load_tagger() -> Tagger:
    """TextBlob's tagger, whose words and rules come with the package: "NN", "VB", "JJ" and so on for English words.

    They are the first two letters of Penn Treebank's tags. Raises InputError where the package is missing.
    """
    if importlib.util.find_spec("textblob") is None:
        raise InputError("--sentence_encoder: parts of speech need the package textblob; pip install textblob")
    from textblob.en import parser

    return lambda words: [tag[:2] for _, tag in parser.find_tags(list(words))]


@dataclass(frozen=True)
class Limits:
    """How close a candidate has to stay.

    least: the similarity of the encodings, a cosine, or with `angular` 1 - arccos(cosine) / pi. window: of how many
    words around the word, None for the whole text; in shorter texts any encoding will do. so_far: whether the text is
    compared with what the attack has made of it so far, or the original. grammar: whether the part of speech has to
    stay, but for nouns and verbs, which may take each other's place.
    """

    least: float
    angular: bool = False
    window: int | None = None
    so_far: bool = False
    grammar: bool = False

    def near(self, one: torch.Tensor, other: torch.Tensor) -> bool:
        """Whether two vectors of length 1, [D], are so similar."""
        cosine = float((one @ other).clamp(-1, 1))
        return (1 - math.acos(cosine) / math.pi if self.angular else cosine) >= self.least


# Parts of speech that may take each other's place: nouns, and verbs with the modal ones.
ALIKE = {"NN", "VB", "MD"}
# As TextAttack's recipes have them. TextFooler's is that of its code, 0.5 radians, a cosine of 0.878.
RECIPES = {
    "textfooler": Limits(0.840845057, angular=True, window=15, so_far=True, grammar=True),
    "textbugger": Limits(0.8, angular=True),
    "bertattack": Limits(0.2),
    "bae": Limits(0.936338023, window=15, grammar=True),
}


def as_published(method: Method, encode: Encode) -> Method:
    """An attack with the limits of its recipe, of which deepwordbug has none beside its edits.

    Raises InputError where the tagger that some need is missing.
    """
    if (limits := RECIPES.get(method.name)) is None:
        return method
    tagger = load_tagger() if limits.grammar else None
    return replace(method, candidates=held(method.candidates, limits, encode, tagger))


def held(candidates: Candidates, limits: Limits, encode: Encode, tagger: Tagger | None) -> Candidates:
    """Of the candidates for words, in their order, those within the limits."""
    tags = functools.lru_cache(maxsize=2**14)(lambda words: tuple(tagger(words)))

    def within(slots: Sequence[Slot]) -> list[list[str]]:
        found = candidates(slots)
        if limits.grammar:
            found = [_of_a_kind(slot, words, tags) for slot, words in zip(slots, found, strict=True)]
        compared = [
            (
                _around(*(slot.before, slot.after) if limits.so_far else slot.original, slot.word, limits.window),
                [_around(slot.before, slot.after, word, limits.window) for word in words],
            )
            for slot, words in zip(slots, found)
        ]
        # Each text once: that before is the same for all candidates of a word.
        texts = list(dict.fromkeys(text for before, after in compared for text in (before, *after) if text is not None))
        vectors = dict(zip(texts, encode(texts))) if texts else {}
        return [
            [word for word, text in zip(words, after) if text is None or limits.near(vectors[before], vectors[text])]
            for words, (before, after) in zip(found, compared)
        ]

    return within


def _around(before: str, after: str, word: str, window: int | None) -> str | None:
    """So many words around one, with what is between them, None if there are fewer; without a window the whole text."""
    text = before + word + after
    if window is None:
        return text
    spans = [found.span() for found in WORD.finditer(text)]
    if len(spans) < window:
        return None
    first = max(0, min(len(WORD.findall(before)) - window // 2, len(spans) - window))
    return text[spans[first][0] : spans[first + window - 1][1]]


def _of_a_kind(slot: Slot, words: Sequence[str], tags: Callable[[tuple[str, ...]], Sequence[str]]) -> list[str]:
    """The candidates of the part of speech of the word, as told by four words of the text before it, three behind."""
    before, after = WORD.findall(slot.original[0])[-4:], WORD.findall(slot.original[1])[:3]
    kinds = [tags((*before, word, *after))[len(before)] for word in (slot.word, *words)]
    return [word for word, kind in zip(words, kinds[1:]) if kind == kinds[0] or {kind, kinds[0]} <= ALIKE]
