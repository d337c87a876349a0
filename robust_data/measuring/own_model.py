"""A user's own model as collection calls it: with a batch's inputs by name, for logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from registry import InputError, one_line
from robust_data.packages import project_module

if TYPE_CHECKING:
    from datasets.base import Dataset

text, vision = project_module("models.text"), project_module("models.vision")
hugging_face = project_module("models.hugging_face")

# These take the inputs by name, as `models.build` makes them.
OURS = (vision.ImageClassifier, hugging_face.ProcessedClassifier, text.TextClassifier)
Preprocess = Callable[[Any], Any] | tuple[Any, Any] | None


def unwrapped(model: nn.Module) -> nn.Module:
    """The module itself, without what spreads it over devices or processes, which would wait for the others."""
    parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    return model.module if parallel else model


def check(model: Any) -> None:
    """Raise InputError for a model that is no module."""
    if not isinstance(model, nn.Module):
        shown = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
        raise InputError(f"model is {shown}; give a torch.nn.Module, whose forward may call it")


def check_preprocess(preprocess: Any) -> None:
    """Raise InputError for what turns no pixels into what a model takes."""
    if preprocess is None or callable(preprocess):
        return
    if not isinstance(preprocess, tuple | list) or len(preprocess) != 2:
        raise InputError(
            f"preprocess is a {type(preprocess).__name__}; give a function, or (mean, std) of the channels"
        )
    for name, values in zip(("mean", "std"), preprocess):
        try:
            numbers = torch.as_tensor(values, dtype=torch.float32).flatten()
        except (TypeError, ValueError, RuntimeError):
            numbers = torch.empty(0)
        if len(numbers) not in (1, 3) or (name == "std" and not (numbers > 0).all()):
            remedy = "give one number or three, a standard deviation above 0"
            raise InputError(f"preprocess: the {name} is {one_line(values, 60)}; {remedy}")


class OwnClassifier(nn.Module):
    """A user's model, called with the inputs of a batch by name; returns logits [B, classes].

    A model of `models.build`, or one of Hugging Face for texts, gets these inputs; any other gets the pixels, for
    texts the dict of inputs. preprocess: see `recorder.Recorder`. Raises InputError for logits of another shape, and
    for a model of Hugging Face that does not suit the texts.
    """

    def __init__(self, model: nn.Module, dataset: Dataset, preprocess: Preprocess):
        super().__init__()
        own = getattr(model, "_orig_mod", model)  # as torch.compile has it
        self.by_name = isinstance(own, OURS)
        if dataset.modality == "text" and not self.by_name and hasattr(own, "get_input_embeddings"):
            _check_fits(model, dataset)
            model, self.by_name = text.TextClassifier(model, pretrained=True), True
        if self.by_name and preprocess is not None:
            raise InputError(f"preprocess has no use for a {type(own).__name__}; leave it out")
        self.model, self.classes = model, len(dataset.label_names)
        self.preprocess = preprocess if preprocess is None or callable(preprocess) else _normalise(*preprocess)

    def embed(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The word embeddings of a batch, which an attack moves."""
        own = getattr(self.model, "_orig_mod", self.model)
        if not hasattr(own, "embed"):
            raise InputError(
                f"pgd and fgsm move word embeddings, which a {type(own).__name__} does not give; give a model of "
                "Hugging Face, or one with a method embed(inputs) that takes the result as inputs['inputs_embeds']"
            )
        return own.embed(inputs)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        output = self.model(inputs) if self.by_name else self._called(inputs.get("pixel_values", inputs))
        logits = getattr(output, "logits", output)
        wanted = (len(next(iter(inputs.values()))), self.classes)
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if shape != wanted:
            shown = list(shape) if isinstance(shape, tuple) else f"of type {shape}"
            raise InputError(
                f"the model gave logits {shown} for {wanted[0]} instances of {wanted[1]} classes; give a model with "
                "one output for each class, or num_classes"
            )
        return logits

    def _called(self, given: Any) -> Any:
        """What the model returns for pixels, or the dict of inputs; an error of its own tells what it was given."""
        try:
            return self.model(given if self.preprocess is None else self.preprocess(given))
        except Exception as error:
            shown = f"a dict of {', '.join(given)}" if isinstance(given, dict) else f"{given.dtype} {list(given.shape)}"
            error.add_note(
                f"The Recorder's inputs are {shown}; give preprocess=, which turns them into what the model takes"
            )
            raise


def _normalise(mean: Any, std: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Pixels [B,3,H,W] less the mean of each channel, in units of its standard deviation."""
    mean, std = (torch.as_tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1) for values in (mean, std))
    return lambda pixels: (pixels - mean.to(pixels.device)) / std.to(pixels.device)


def _check_fits(model: nn.Module, dataset: Dataset) -> None:
    """Raise InputError where the texts have tokens that a model of Hugging Face does not know, or too many of them."""
    if (dataset.vocabulary or 0) > (known := text.known_tokens(model)):
        raise InputError(
            f"the tokenizer numbers {dataset.vocabulary} tokens, the model knows {known}; give them the same vocabulary"
        )
    longest, found = text.longest_text(model), int(dataset.tokens.lengths.max())
    if found > longest:
        raise InputError(f"a text has {found} tokens, the model takes {longest}; give max_seq_length={longest}")
