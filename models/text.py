"""Text classifiers: any sequence classifier of Hugging Face, fed with tokens or with word embeddings."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_data.models.classes import agree, note_classes, order_classes, trial
from robust_data.models.saved import load_classifier
from robust_data.reading import quiet, reason
from robust_data.registry import InputError, hub_options

# How many tokens the texts of a trial pass have.
TRIAL_LENGTHS = (2, 5, 10)


@dataclass(frozen=True)
class TextOptions:
    """How to build a text classifier; see `models.build`."""

    pretrained: bool = True
    reinit_classifier: bool = False
    freeze_encoder: bool = False
    max_seq_length: int | None = None
    vocabulary: int | None = None
    label_names: Sequence[str] | None = None


class TextClassifier(nn.Module):
    """A sequence classifier that takes tokens, or in their place the word embeddings that an attack has moved.

    Called with `{"input_ids", "attention_mask", ...}`, int64 [B,L] each, and if words were moved with
    `{"inputs_embeds": float [B,L,D]}` beside them (or the same as keyword arguments), it returns logits
    [B, num_labels]; where both are given the embeddings count. Padding stands behind the texts. Inputs that the
    backbone has no use for, such as the token types of a tokenizer that is not its own, are left out.

    A text has the same logits alone and in any batch, to rounding: `padding` says on which side of a text
    the backbone takes padding without harm, "right" or "left", or None where it takes none and texts of one
    length pass through it together; found out by a trial. `pretrained` tells whether the backbone starts from
    published weights, `new_head` whether its last layers do not. Raises InputError for a backbone that cannot
    classify tokens.
    """

    def __init__(self, backbone: nn.Module, pretrained: bool, new_head: bool = False):
        super().__init__()
        self.backbone = backbone
        self.pretrained = pretrained
        self.new_head = new_head
        self._accepted = set(inspect.signature(backbone.forward).parameters)
        # One name for the padding, whatever the tokenizer's; decoders look for the end of a text by it.
        self._pad_id = backbone.config.get_text_config().pad_token_id
        self._find_padding()

    def forward(self, inputs: dict[str, torch.Tensor] | None = None, /, **named: torch.Tensor) -> torch.Tensor:
        inputs = inputs or named
        kept = self._accepted | {"input_ids", "inputs_embeds", "attention_mask"}
        inputs = {name: values for name, values in inputs.items() if name in kept}
        if self.padding is None:
            return self._classify_by_length(inputs)
        return self._classify(_moved_to_the_end(inputs) if self.padding == "left" else inputs)

    def _classify(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits of texts that are padded as the backbone takes it."""
        # CANINE takes characters by fours.
        if (short := getattr(self.backbone.config, "downsampling_rate", 1) - next(iter(inputs.values())).shape[1]) > 0:
            inputs = {name: nn.functional.pad(values, (0, short)) for name, values in inputs.items()}
        taken = {name: values for name, values in inputs.items() if name in self._accepted}
        words = contextlib.nullcontext()
        if "input_ids" in taken:
            taken["input_ids"] = self._words(inputs)
            if "inputs_embeds" in inputs:
                words = self._replaced(taken["input_ids"], inputs["inputs_embeds"])
                taken.pop("inputs_embeds", None)
        with words:
            return self.backbone(**taken).logits

    def _classify_by_length(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Logits of texts of which those of one length pass through the backbone together, without padding."""
        mask = inputs["attention_mask"].bool()
        lengths = mask.sum(dim=1)
        rows_of = [(lengths == length).nonzero().squeeze(1) for length in lengths.unique()]
        logits = []
        for rows in rows_of:
            filled = mask[rows]
            logits.append(
                self._classify(
                    {
                        name: values[rows][filled].view(len(rows), -1, *values.shape[2:])
                        for name, values in inputs.items()
                    }
                )
            )
        return torch.cat(logits)[torch.cat(rows_of).argsort()]

    def _words(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The tokens with the backbone's own padding in the place of the tokenizer's."""
        if "attention_mask" not in inputs:
            return inputs["input_ids"]
        return inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, self._pad_id)

    @contextlib.contextmanager
    def _replaced(self, words: torch.Tensor, embeddings: torch.Tensor) -> Iterator[None]:
        """Let the backbone find these embeddings, [B,L,D], wherever it looks up these words, [B,L].

        So it still sees the words, by which many a backbone counts positions or finds the end of a text.
        """

        def replace(module: nn.Module, arguments: tuple[torch.Tensor, ...], found: torch.Tensor) -> torch.Tensor:
            asked, width, moved = arguments[0], words.shape[1], embeddings.to(found.dtype)
            if asked[:, :width].equal(words):
                return torch.cat([moved, found[:, width:]], dim=1)  # Longformer adds padding of its own
            if asked.equal(words.T):
                return moved.transpose(0, 1)  # XLNet
            if asked[:, 1:].equal(words[:, :-1]):
                return torch.cat([found[:, :1], moved[:, :-1]], dim=1)  # a decoder reads one place behind
            return found

        weight = self.backbone.get_input_embeddings().weight
        tables = [module for module in self.backbone.modules() if getattr(module, "weight", None) is weight]
        hooks = [module.register_forward_hook(replace) for module in tables if isinstance(module, nn.Embedding)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The word embeddings of a batch, [B,L,D], which an attack may move; raises what `word_embeddings` does."""
        return self.word_embeddings()(self._words(inputs))

    def word_embeddings(self) -> nn.Module:
        """What embeds the words. Raises InputError where a model gives other logits for its output than for words."""
        if not self.takes_embeddings:
            raise InputError(
                f"--model_name {self.backbone.config.name_or_path}: this model does not classify word embeddings "
                "as it classifies words, so pgd and fgsm cannot attack it; name another perturbation"
            )
        return self.backbone.get_input_embeddings()

    @property
    def takes_embeddings(self) -> bool:
        """Whether the embeddings of other words make the model give the logits of those words; measured once."""
        if "_agrees" not in self.__dict__:
            self._agrees = self._compare_ways()
        return self._agrees

    def _compare_ways(self) -> bool:
        with trial(self):
            try:
                texts = self.trial_batch()
                others = texts | {"input_ids": self.trial_batch(skipped=1)["input_ids"]}
                embeddings = self.backbone.get_input_embeddings()(self._words(others))
                return agree(self(texts | {"inputs_embeds": embeddings}), self(others))
            except Exception:  # a backbone that has no words fails in its own way
                return False

    def _find_padding(self) -> None:
        """Choose the `padding` by which texts have the same logits, each of them twice in a batch, as alone."""
        batch = self.trial_batch()
        twice = {name: torch.cat([values, values]) for name, values in batch.items()}
        with trial(self):
            try:
                alone = self._classify_by_length(batch)  # no two are of one length
            except Exception as error:
                raise self._unusable(reason(error)) from error
            if alone.ndim != 2 or alone.shape[1] != self.backbone.config.num_labels:
                raise self._unusable(f"its logits have shape {list(alone.shape)}")
            for self.padding in ("right", "left", None):
                with contextlib.suppress(Exception):  # many a backbone refuses padding in its own way
                    if agree(self(twice), torch.cat([alone, alone])):
                        return
        raise self._unusable("a text has other logits in a batch than alone")

    def _unusable(self, reason: str) -> InputError:
        name = self.backbone.config.name_or_path
        return InputError(f"--model_name {name}: this model cannot classify a text ({reason}); name another")

    @property
    def _device(self) -> torch.device:
        return next(self.backbone.parameters()).device

    def trial_batch(self, skipped: int = 0) -> dict[str, torch.Tensor]:
        """A padded text of each length, of ordinary words, which end as texts do."""
        config = self.backbone.config.get_text_config()
        end, begin, summary = (getattr(config, f"{name}_token_id", None) for name in ("eos", "bos", "cls"))
        special = {self._pad_id, end, begin, summary}
        size = getattr(config, "vocab_size", None) or 64
        lengths = sorted({int(min(length, longest_text(self.backbone))) for length in TRIAL_LENGTHS})
        width = lengths[-1]
        words = [word for word in range(min(size, 64)) if word not in special] * width
        words = words[skipped * width :]
        last = [] if end is None or end == self._pad_id else [end]
        rows = [words[: length - len(last)] + last for length in lengths]
        ids = torch.tensor([row + [self._pad_id] * (width - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._device)
        return {"input_ids": ids, "attention_mask": mask}


def _moved_to_the_end(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inputs with the padding before the texts, wherever it was."""
    order = inputs["attention_mask"].argsort(dim=1, stable=True)
    return {
        name: values.take_along_dim(order.view(*order.shape, *(1,) * (values.ndim - 2)), dim=1)
        for name, values in inputs.items()
    }


def _first(token_id: Any) -> int | None:
    """A token of a config, which for some is one of several that mean the same."""
    if isinstance(token_id, list | tuple):
        return token_id[0] if token_id else None
    return token_id


def build_text(name: str, num_labels: int, options: TextOptions) -> TextClassifier:
    """A Hugging Face sequence classifier by hub name or folder.

    A folder that was saved here keeps its head, so it must have been trained on as many classes, unless
    `options.reinit_classifier`; any other model gets a new head where it has none, or one for another number
    of classes. Raises InputError if there is no such model, or it takes no texts as long as
    `options.max_seq_length`, or knows fewer tokens than `options.vocabulary`, or numbers the classes otherwise than
    `options.label_names` and cannot be brought to their order.
    """
    from robust_data.models import saved

    if Path(name).is_dir() and not options.reinit_classifier:
        saved.description(name, num_labels)
    backbone, new_head = _load(name, num_labels, options)
    longest = longest_text(backbone)
    if options.max_seq_length is not None and options.max_seq_length > longest:
        raise InputError(
            f"--max_seq_length {options.max_seq_length} is beyond the {longest} tokens that {name} takes; lower it"
        )
    if (options.vocabulary or 0) > (known := known_tokens(backbone)):
        raise InputError(
            f"--model_name {name}: its tokenizer numbers {options.vocabulary} tokens, the model knows {known}; "
            "give them the same vocabulary"
        )
    if options.freeze_encoder:
        backbone.base_model.requires_grad_(False)
    model = TextClassifier(backbone, options.pretrained, new_head)
    if options.label_names is not None and not new_head:
        config, remedy = backbone.config, "draw a new head by --reinit_classifier 1"
        theirs = [config.id2label[number] for number in range(num_labels)]
        if order_classes(model, theirs, options.label_names, model.trial_batch(), name, remedy):
            note_classes(config, options.label_names)
    return model


def _load(name: str, num_labels: int, options: TextOptions) -> tuple[nn.Module, bool]:
    """The classifier, and whether its head is new."""
    from transformers import AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification
    try:
        with quiet():
            config = _config(name, num_labels)
        loaded, new_head = load_classifier(kind, config, name, options.pretrained)
        if not (options.pretrained and options.reinit_classifier):
            return loaded, new_head
        backbone, _ = load_classifier(kind, config, name, pretrained=False)
    except InputError:
        raise
    except Exception as error:  # a damaged folder raises whatever its files suggest
        raise InputError(f"--model_name {name}: no text classifier could be loaded ({reason(error)})") from None
    backbone.base_model.load_state_dict(loaded.base_model.state_dict())
    return backbone, True


def _config(name: str, num_labels: int) -> Any:
    """The configuration of a model, with one padding token of its own."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(name, num_labels=num_labels, return_dict=True, **hub_options(name))
    texts = config.get_text_config()
    # Several tokens may end what a model writes; a classifier looks for one.
    texts.eos_token_id = _first(getattr(texts, "eos_token_id", None))
    if getattr(texts, "pad_token_id", None) is None or texts.pad_token_id < 0:
        # Decoders look for the end of a text by it, so it should not be a word; -1 is how some write none.
        begin_or_end = (getattr(texts, "bos_token_id", None), texts.eos_token_id)
        texts.pad_token_id = next((token for token in begin_or_end if token is not None and token >= 0), 0)
    return config


def known_tokens(backbone: nn.Module) -> float:
    """How many tokens a model has embeddings for; infinite where it computes them from the number, as CANINE does."""
    try:
        return getattr(backbone.get_input_embeddings(), "num_embeddings", float("inf"))
    except NotImplementedError:
        return float("inf")


def longest_text(backbone: nn.Module) -> float:
    """How many tokens a model has positions for; infinite where they are relative."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            # RoBERTa's positions begin behind that of the padding.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    # XLNet says -1.
    longest = getattr(backbone.config, "max_position_embeddings", None) or -1
    return longest if longest > 0 else float("inf")
