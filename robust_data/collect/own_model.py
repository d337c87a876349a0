"""A user's own model as collection calls it: with a batch's inputs by name, for logits; and what it must not do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from robust_data.collection import check_logits, measure
from robust_data.datasets.base import Dataset
from robust_data.models import hugging_face, text, vision
from robust_data.registry import InputError, one_line
from robust_data.train import distributed
from robust_data.train.inference import evaluation_mode, predict

# These take the inputs by name, as `models.build` makes them.
OURS = (vision.ImageClassifier, hugging_face.ProcessedClassifier, text.TextClassifier)
Preprocess = Callable[[Any], Any] | tuple[Any, Any] | None
# So many instances are passed again where a model or a restart is examined.
EXAMINED = 64
# Shares of the largest value within which two passes agree: of float32 on a CPU; of bfloat16, GPUs, other machines.
ROUNDING, COARSE_ROUNDING = 1e-4, 1e-2


def unwrapped(model: Any) -> nn.Module:
    """The module itself, without what spreads it over devices or processes, which would wait for the others.

    Raises InputError for what is no module.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is {one_line(repr(model), 60)}; give a torch.nn.Module, whose forward may call it")
    parallel = isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel)
    return model.module if parallel else model


def device_of(model: nn.Module) -> torch.device:
    """Where the model is."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def precision_of(model: nn.Module) -> torch.dtype:
    """The type of the model's first weights, in which it gets pixels."""
    return next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)


def as_preprocess(preprocess: Any) -> Callable[[Any], Any] | None:
    """What turns pixels into what a model takes, as a function or None. Raises InputError for anything else."""
    if preprocess is None or callable(preprocess):
        return preprocess
    try:
        mean, std = (torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1, 1) for values in preprocess)
        torch.broadcast_shapes(mean.shape, std.shape, (3, 1, 1))
        if not (std > 0).all():
            raise ValueError
    except (TypeError, ValueError, RuntimeError):
        shown = one_line(repr(preprocess), 80)
        raise InputError(
            f"preprocess is {shown}; give a function, or (mean, standard deviation above 0), each one number or three"
        ) from None
    return lambda pixels: (pixels - mean.to(pixels.device)) / std.to(pixels.device)


class OwnClassifier(nn.Module):
    """A user's model, called with the inputs of a batch by name; returns logits [B, classes].

    A model of `models.build`, or one of Hugging Face for texts, gets these inputs; any other gets the pixels, for
    texts the dict of inputs; it may write into what it gets. preprocess: as `as_preprocess` gives it. Raises
    InputError for logits of another shape or that are not finite, and for a model of Hugging Face that does not suit
    the texts.
    """

    def __init__(self, model: nn.Module, dataset: Dataset, preprocess: Callable[[Any], Any] | None):
        super().__init__()
        own = getattr(model, "_orig_mod", model)  # as torch.compile has it
        self.by_name = isinstance(own, OURS)
        if dataset.modality == "text" and not self.by_name and hasattr(own, "get_input_embeddings"):
            _check_fits(model, dataset)
            model, self.by_name = text.TextClassifier(model, pretrained=True), True
        if self.by_name and preprocess is not None:
            raise InputError(f"preprocess has no use for a {type(own).__name__}; leave it out")
        self.model, self.classes, self.preprocess = model, len(dataset.label_names), preprocess
        self.channels = 1 if not self.by_name and _is_grey(own, dataset) else 3

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
        count = len(next(iter(inputs.values())))
        # A model, or what comes before it, may write into what it gets.
        output = self._called({name: values.clone() for name, values in inputs.items()})
        logits = getattr(output, "logits", output)
        if (shape := getattr(logits, "shape", None)) != (count, self.classes):
            raise InputError(
                f"the model gave a {type(logits).__name__} of shape {shape} for {count} instances of {self.classes} "
                f"classes; give a model that returns [{count},{self.classes}], the batch first also where it is one "
                "instance, or num_classes; one logit becomes two by nn.ConstantPad1d((1, 0), 0.0)"
            )
        if not logits.isfinite().all():
            check_logits(logits, "the model")
        return logits

    def _called(self, inputs: dict[str, torch.Tensor]) -> Any:
        """What the model returns; an error of its own tells what it was given."""
        if self.by_name:
            return self.model(inputs)
        given = inputs if "pixel_values" not in inputs else inputs["pixel_values"][:, : self.channels]
        try:
            ready = given if self.preprocess is None else self.preprocess(given)
            is_float = isinstance(ready, torch.Tensor) and ready.is_floating_point()
            return self.model(ready.to(precision_of(self.model)) if is_float else ready)
        except Exception as error:
            what = list(getattr(given, "shape", given))
            error.add_note(f"The Recorder gave {what}; preprocess= turns that into what the model takes")
            raise


def _is_grey(model: nn.Module, dataset: Dataset) -> bool:
    """Whether a model takes one channel, and the images are grey."""
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)), None)
    if dataset.modality != "image" or first is None:
        return False
    (pixels,) = (batch.inputs["pixel_values"] for batch in dataset.batches([_examined(dataset)], "cpu"))
    height, width = dataset.image_size
    takes_one = first.in_channels == 1 if isinstance(first, nn.Conv2d) else first.in_features == height * width
    return takes_one and bool((pixels == pixels[:, :1]).all())


def _check_fits(model: nn.Module, dataset: Dataset) -> None:
    """Raise InputError where the texts have tokens that a model of Hugging Face does not know, or too many of them."""
    if (dataset.vocabulary or 0) > (known := text.known_tokens(model)):
        raise InputError(
            f"the tokenizer numbers {dataset.vocabulary} tokens, the model knows {known}; give them the same vocabulary"
        )
    longest, found = text.longest_text(model), int(dataset.tokens.lengths.max())
    if found > longest:
        raise InputError(f"a text has {found} tokens, the model takes {longest}; give max_seq_length={longest}")


def _examined(dataset: Dataset) -> torch.Tensor:
    """The positions of at most `EXAMINED` instances, from all over the data set."""
    return torch.linspace(0, len(dataset) - 1, EXAMINED).round().long().unique()


def _logits(model: OwnClassifier, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with evaluation_mode(model), torch.no_grad():
        return predict(model, inputs, "fp32")


def _agree(values: torch.Tensor, others: torch.Tensor, rounding: float) -> bool:
    """Whether two passes gave the same, but for rounding."""
    return bool((values - others).abs().max() <= rounding * (0.1 + values.abs().max()))


def check_answers(model: OwnClassifier, dataset: Dataset, anew: Dataset) -> None:
    """Raise InputError unless some instances have the same logits again, read anew, and one of them alone.

    anew: the data set, each instance read again. What they have are also to be logits, see `check_logits`.
    """
    positions, device = _examined(dataset), device_of(model)
    (batch,), (again,) = (data.batches([positions], device) for data in (dataset, anew))
    if not all(torch.equal(values, again.inputs[name]) for name, values in batch.inputs.items()):
        raise InputError(
            "dataset: instances read a second time are not the same; give it without its random transforms, such as a "
            "second data set of the same files"
        )
    logits = _logits(model, batch.inputs)
    check_logits(logits, "the model")
    fine = logits.device.type == "cpu" and logits.dtype in (torch.float32, torch.float64)
    rounding = ROUNDING if fine else COARSE_ROUNDING
    if not _agree(logits, _logits(model, again.inputs), rounding):
        raise InputError(
            "the model gives other logits to the same inputs a second time, in eval mode; draw nothing at random in "
            "preprocess or forward: functional dropout takes training=self.training"
        )
    alone = _logits(model, {name: values[:1] for name, values in batch.inputs.items()})
    if not _agree(logits[:1], alone, rounding):
        raise InputError(
            "the model gives an instance other logits alone than in a batch; take no statistics of the batch in eval "
            "mode, as batch norm without running ones does, and mask padding"
        )


def check_identity(model: OwnClassifier, dataset: Dataset, recorded: Callable[[], np.ndarray], where: str) -> None:
    """Raise InputError unless some instances fare as in the records (N,) of an earlier training.

    recorded: gives these records, on the main process. where: they lie.
    """
    (batch,) = dataset.batches([positions := _examined(dataset)], device_of(model))
    found = measure(_logits(model, batch.inputs), batch.labels, batch.labels)
    names = ("loss", "logit", "margin")
    now = torch.stack([found[name].cpu() for name in names])

    def check() -> None:
        rows = recorded()[positions.numpy()]
        before = torch.from_numpy(np.stack([rows[f"original_{name}"] for name in names]))
        if not _agree(before, now, COARSE_ROUNDING):
            raise InputError(
                f"{where} is of another training: mean clean loss {before[0].mean():.4g} there and {now[0].mean():.4g} "
                "here; the model, its settings, images or preprocess differ, or it does not train alike twice: give "
                "overwrite=True to record anew, or another output"
            )

    distributed.from_main(check)
