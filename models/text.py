"""Text classifiers: any sequence classifier of Hugging Face, fed with tokens or with word embeddings."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from registry import InputError

# The largest difference of a logit by which the two ways into a model may differ, from rounding.
ROUNDING = 1e-3


@dataclass(frozen=True)
class TextOptions:
    """How to build a text classifier; see `models.build`."""

    pretrained: bool = True
    reinit_classifier: bool = False
    freeze_encoder: bool = False
    max_seq_length: int | None = None


class TextClassifier(nn.Module):
    """A sequence classifier that takes tokens, or in their place the word embeddings that an attack has moved.

    Called with `{"input_ids", "attention_mask", ...}`, int64 [B,L] each, or with
    `{"inputs_embeds": float [B,L,D], "attention_mask", ...}` (or the same as keyword arguments), it returns
    logits [B, num_labels]; where both are given the embeddings count. The backbone adds positions and types
    itself. Inputs that it has no use for, such as the token types of a tokenizer that is not its own, are
    left out. `pretrained` tells whether the backbone starts from published weights, `new_head` whether its last
    layers do not.
    """

    def __init__(self, backbone: nn.Module, pretrained: bool, new_head: bool = False):
        super().__init__()
        self.backbone = backbone
        self.pretrained = pretrained
        self.new_head = new_head
        self._accepted = set(inspect.signature(backbone.forward).parameters)

    def forward(self, inputs: dict[str, torch.Tensor] | None = None, /, **named: torch.Tensor) -> torch.Tensor:
        inputs = inputs or named
        left_out = {"input_ids"} if "inputs_embeds" in inputs else set()
        taken = {name: values for name, values in inputs.items() if name in self._accepted - left_out}
        return self.backbone(**taken).logits

    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The word embeddings of a batch, [B,L,D], which an attack may move.

        Raises InputError for a model that does not give the same logits for them as for the tokens.
        """
        if not self._takes_embeddings:
            raise InputError(
                f"--model_name {self.backbone.config.name_or_path}: this model does not classify word embeddings "
                "as it classifies words, so pgd and fgsm cannot attack it; name another perturbation"
            )
        return self.backbone.get_input_embeddings()(inputs["input_ids"])

    @property
    def _takes_embeddings(self) -> bool:
        """Whether both ways into the model agree on a padded batch; measured once."""
        if "_agrees" not in self.__dict__:
            self._agrees = self._compare_ways()
        return self._agrees

    @torch.no_grad()
    def _compare_ways(self) -> bool:
        device = next(self.parameters()).device
        tokens = torch.arange(8, 16, device=device).view(2, 4) % self.backbone.config.vocab_size
        mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]], device=device)
        pad = getattr(self.backbone.config, "pad_token_id", None) or 0
        tokens = tokens.masked_fill(mask == 0, pad)
        was_training = self.training
        self.eval()
        try:
            # In full precision, whatever that of the run.
            with torch.autocast(device.type, enabled=False):
                by_tokens = self({"input_ids": tokens, "attention_mask": mask})
                embeddings = self.backbone.get_input_embeddings()(tokens)
                by_embeddings = self({"inputs_embeds": embeddings, "attention_mask": mask})
        except (ValueError, TypeError, NotImplementedError):
            return False
        finally:
            self.train(was_training)
        return bool((by_tokens - by_embeddings).abs().max() < ROUNDING)


def build_text(name: str, num_labels: int, options: TextOptions) -> TextClassifier:
    """A Hugging Face sequence classifier by hub name or folder.

    A folder that was saved here keeps its head, so it must have been trained on as many classes, unless
    `options.reinit_classifier`; any other model gets a new head where it has none, or one for another number
    of classes. Raises InputError if there is no such model, or it takes no texts as long as
    `options.max_seq_length`.
    """
    from models import saved

    if Path(name).is_dir() and not options.reinit_classifier:
        saved.description(name, num_labels)
    backbone, new_head = _load(name, num_labels, options)
    longest = longest_text(backbone)
    if options.max_seq_length is not None and options.max_seq_length > longest:
        raise InputError(
            f"--max_seq_length {options.max_seq_length} is beyond the {longest} tokens that {name} takes; lower it"
        )
    if options.freeze_encoder:
        backbone.base_model.requires_grad_(False)
    if backbone.config.pad_token_id is None:
        # As `datasets` pads where the tokenizer has no token for it; such models look for the end of a text by it.
        backbone.config.pad_token_id = getattr(backbone.config, "eos_token_id", None)
    return TextClassifier(backbone, options.pretrained, new_head)


def _load(name: str, num_labels: int, options: TextOptions) -> tuple[nn.Module, bool]:
    """The classifier, and whether its head is new."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    loaded = None
    try:
        config = AutoConfig.from_pretrained(name, num_labels=num_labels)
        if options.pretrained:
            with quiet():
                loaded, report = AutoModelForSequenceClassification.from_pretrained(
                    name, config=config, ignore_mismatched_sizes=True, dtype=torch.float32, output_loading_info=True
                )
        if loaded is not None and not options.reinit_classifier:
            return loaded, bool(report["missing_keys"] or report["mismatched_keys"])
        backbone = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    except Exception as error:  # a damaged folder raises whatever its files suggest
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(f"--model_name {name}: no text classifier could be loaded ({reason})") from None
    if loaded is not None:
        backbone.base_model.load_state_dict(loaded.base_model.state_dict())
    # Where the tokenizer is found when the model is saved.
    backbone.config.name_or_path = name
    return backbone, True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from showing bars, and from reporting on many lines that the head of a classifier is new."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def longest_text(backbone: nn.Module) -> float:
    """How many tokens a model has positions for; infinite where they are relative."""
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings"):
            # RoBERTa's positions begin behind that of the padding.
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return getattr(backbone.config, "max_position_embeddings", None) or float("inf")
