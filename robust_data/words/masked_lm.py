"""Words for a gap in a text, as a masked language model would fill it."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import torch

from robust_data.models import saved, text
from robust_data.reading import quiet, reason
from robust_data.registry import InputError, hub_options
from robust_data.words.words import WORD

AT_ONCE = 64
LONGEST = 512
# How tokens begin that begin a word, in vocabularies that mark these and not the pieces behind them.
BEGUN = ("Ġ", "▁")


class MaskedLM:
    """A masked language model of Hugging Face and its tokenizer; see `load`."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer
        self._length = longest(model, tokenizer)
        ids = range(len(tokenizer))
        texts = tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
        special = set(tokenizer.all_special_ids)
        # Pieces of words count as words, as in BAE, without the sign that joins them to others.
        self._words = [text.replace("##", "").strip() for text in texts]
        tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(list(ids))]  # some numbers are none's
        begun = any(token.startswith(BEGUN) for token in tokens)
        is_piece = (lambda token: not token.startswith(BEGUN)) if begun else (lambda token: token.startswith("##"))
        self._pieces = {number for number, token in enumerate(tokens) if is_piece(token)}
        self._usable = torch.tensor([token not in special and _is_word(self._words[token]) for token in ids])

    @torch.inference_mode()
    def fill(self, gaps: Sequence[tuple[str, str]], count: int) -> list[list[str]]:
        """The likeliest words between two parts of a text, `count` of them or as many as it knows, likeliest first.

        A word may occur twice, whole and as a piece of one. A gap beyond the tokens that the model takes gets no words.
        """
        texts = [before + self.tokenizer.mask_token + after for before, after in gaps]
        return by_length(texts, lambda batch: self._fill(batch, count))

    @torch.inference_mode()
    def substitute(self, slots: Sequence[tuple[str, str, str]], count: int) -> list[list[str]]:
        """The likeliest words in the place of one that the model sees: at most `count`, likeliest first.

        slots: what stands before the word, the word, and what stands behind it. A word of one token gets words of one,
        a word of several what the likeliest tokens in their places make together.
        """
        texts = [before + word + after for before, word, after in slots]
        logits = by_length(texts, self._logits)
        return [self._substitutes(found, *slot, count) for found, slot in zip(logits, slots)]

    def _logits(self, texts: list[str]) -> torch.Tensor:
        """Of each text the logits at the place of each token, [B, L, V]."""
        return self.model(**self._encoded(texts)).logits.float().cpu()[..., : len(self._words)]

    def _encoded(self, texts: list[str]) -> Any:
        how = {"padding": True, "truncation": True, "max_length": self._length, "return_tensors": "pt"}
        return self.tokenizer(texts, **how).to(self.model.device)

    def _substitutes(self, logits: torch.Tensor, before: str, word: str, after: str, count: int) -> list[str]:
        gap = self._encoded([before + self.tokenizer.mask_token + after])["input_ids"][0].tolist()
        if self.tokenizer.mask_token_id not in gap:
            return []
        first = gap.index(self.tokenizer.mask_token_id)
        places = logits[first : first + len(self.tokenizer(word, add_special_tokens=False)["input_ids"])]
        best = places.log_softmax(dim=1).topk(min(count, len(self._words)), dim=1)
        if len(places) == 1:
            found = [self._words[token] for token in best.indices[0].tolist() if token not in self._pieces]
        else:
            made = [(0.0, "")]
            for chances, tokens in zip(best.values.tolist(), best.indices.tolist()):
                # The likeliest of a length begin with the likeliest of any shorter one.
                longer = [(p + q, begun + self._words[t]) for p, begun in made for q, t in zip(chances, tokens)]
                made = sorted(longer, key=lambda one: -one[0])[:count]
            found = [word for _, word in made]
        return [other for other in found if WORD.fullmatch(other)]

    def _fill(self, texts: list[str], count: int) -> list[list[str]]:
        inputs = self._encoded(texts)
        masks = (inputs["input_ids"] == self.tokenizer.mask_token_id).cpu()
        logits = self.model(**inputs).logits.float().cpu()
        # A model may have more outputs than its tokenizer has tokens, to fill up a round number.
        usable = torch.zeros(logits.shape[-1], dtype=torch.bool)
        usable[: len(self._usable)] = self._usable[: logits.shape[-1]]
        # The first mask of each text; one without gets the first token's, which nobody reads.
        at_gaps = logits[torch.arange(len(texts)), masks.int().argmax(dim=1)].masked_fill(~usable, -torch.inf)
        best = at_gaps.topk(min(count, int(usable.sum()))).indices.tolist()
        return [
            [self._words[token] for token in tokens] if has_mask else []
            for tokens, has_mask in zip(best, masks.any(dim=1).tolist())
        ]


def _is_word(text: str) -> bool:
    return len(text.split()) == 1 and not all(character in string.punctuation for character in text)


def by_length(texts: Sequence[str], ask: Callable[[list[str]], Sequence[Any]]) -> list[Any]:
    """An answer for each text, asked for in batches of a length, to waste little on padding."""
    found: list[Any] = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for first in range(0, len(order), AT_ONCE):
        rows = order[first : first + AT_ONCE]
        for row, answer in zip(rows, ask([texts[row] for row in rows])):
            found[row] = answer
    return found


def longest(model: torch.nn.Module, tokenizer: Any) -> int:
    """How many tokens of a text a model is given."""
    return int(min(LONGEST, tokenizer.model_max_length, text.longest_text(model)))


def pretrained(
    kind: str, name: str, argument: str, what: str, device: torch.device
) -> tuple[torch.nn.Module, Any, set[str]]:
    """A model by folder or hub name, its tokenizer, and the names of the weights that its files lack.

    kind: the class of transformers that makes it. argument, what: which option asks for it, and for what such as
    "masked language model". Raises InputError if there is none.
    """
    import transformers

    options, kind = hub_options(name, argument), getattr(transformers, kind)
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, **options)
            config = transformers.AutoConfig.from_pretrained(name, **options)
            saved.check_weights_fit(kind, saved.check_config(config, f"{argument} {name}"), name, argument=argument)
            model, report = kind.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
            model.eval().to(device)(**tokenizer(["a"], return_tensors="pt").to(device))
    except InputError:
        raise
    except Exception as error:  # a damaged folder raises whatever its files suggest
        raise InputError(f"{argument} {name}: no {what} could be loaded ({reason(error)}); name its folder") from None
    return model, tokenizer, set(report["missing_keys"])


def load(name: str, device: torch.device) -> MaskedLM:
    """A masked language model by folder or hub name. Raises InputError if there is none, or its last layers are new."""
    model, tokenizer, missing = pretrained("AutoModelForMaskedLM", name, "--masked_lm", "masked language model", device)
    if missing or tokenizer.mask_token is None:
        raise InputError(f"--masked_lm {name} was not trained to fill masks; name a masked language model")
    return MaskedLM(model, tokenizer)
