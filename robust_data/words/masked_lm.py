"""Words for a gap in a text, as a masked language model would fill it."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

import torch

from robust_data.models import saved, text
from robust_data.reading import quiet, reason
from robust_data.registry import InputError, hub_options

GAPS_AT_ONCE = 64
LONGEST = 512


class MaskedLM:
    """A masked language model of Hugging Face and its tokenizer; see `load`."""

    def __init__(self, model: torch.nn.Module, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer
        self._length = int(min(LONGEST, tokenizer.model_max_length, text.longest_text(model)))
        ids = range(len(tokenizer))
        texts = tokenizer.batch_decode([[token] for token in ids], clean_up_tokenization_spaces=False)
        special = set(tokenizer.all_special_ids)
        # Pieces of words count as words, as in BAE, without the sign that joins them to others.
        self._words = [text.replace("##", "").strip() for text in texts]
        self._usable = torch.tensor([token not in special and _is_word(self._words[token]) for token in ids])

    @torch.inference_mode()
    def fill(self, gaps: Sequence[tuple[str, str]], count: int) -> list[list[str]]:
        """The likeliest words between two parts of a text, `count` of them or as many as it knows, likeliest first.

        A word may occur twice, whole and as a piece of one. A gap beyond the tokens that the model takes gets no words.
        """
        texts = [before + self.tokenizer.mask_token + after for before, after in gaps]
        found: list[list[str]] = [[] for _ in texts]
        # Texts of a length together, to waste little on padding.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        for first in range(0, len(order), GAPS_AT_ONCE):
            rows = order[first : first + GAPS_AT_ONCE]
            for row, words in zip(rows, self._fill([texts[row] for row in rows], count)):
                found[row] = words
        return found

    def _fill(self, texts: list[str], count: int) -> list[list[str]]:
        inputs = self.tokenizer(texts, padding=True, truncation=True, max_length=self._length, return_tensors="pt")
        masks = inputs["input_ids"] == self.tokenizer.mask_token_id
        logits = self.model(**inputs.to(self.model.device)).logits.float().cpu()
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


def load(name: str, device: torch.device) -> MaskedLM:
    """A masked language model by folder or hub name. Raises InputError if there is none, or its last layers are new."""
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    options = hub_options(name, "--masked_lm")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(name, **options)
            config = saved.check_config(AutoConfig.from_pretrained(name, **options), f"--masked_lm {name}")
            saved.check_weights_fit(AutoModelForMaskedLM, config, name, argument="--masked_lm")
            model, report = AutoModelForMaskedLM.from_pretrained(
                name, config=config, dtype=torch.float32, output_loading_info=True, **options
            )
    except InputError:
        raise
    except Exception as error:  # a damaged folder raises whatever its files suggest
        raise InputError(
            f"--masked_lm {name}: no masked language model could be loaded ({reason(error)}); name a folder, "
            "or a model of the hub such as bert-base-uncased"
        ) from None
    if report["missing_keys"] or tokenizer.mask_token is None:
        raise InputError(f"--masked_lm {name} was not trained to fill masks; name a masked language model")
    return MaskedLM(model.eval().to(device), tokenizer)
