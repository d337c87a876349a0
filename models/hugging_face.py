"""Image classifiers of Hugging Face, each behind the image processor that belongs to it."""

from __future__ import annotations

import importlib.util
import inspect
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from robust_data.models.classes import FROM_RANDOM, note_classes, order_classes, trial_images
from robust_data.models.saved import load_classifier
from robust_data.reading import quiet, reason
from robust_data.registry import InputError, hub_options

# The largest value of the images for which nearly all image processors are made.
BYTE = 255
# Where transformers looks for the settings of an image processor.
SETTINGS = ("preprocessor_config.json", "processor_config.json")


class ProcessedClassifier(nn.Module):
    """A backbone whose first layers are its own image processor, so that clean and perturbed images take one path.

    Called with `{"pixel_values": [B,3,H,W] float in [0,1]}` (or the same as keyword arguments), it returns
    logits [B, num_labels]. The processor's own code resizes, crops, flips, rescales and normalises, as its
    settings say; gradients pass through it. It gets images of whole or broken levels in 0..255 (of [0,1] where these
    are what its mean belongs to and it does not rescale) and does not round after resizing, as it does with images of
    bytes. A backbone of one channel gets the mean of the three.
    `pretrained` tells whether the backbone starts from published weights, `new_head` whether its last layers do not,
    `memory_format` how the backbone gets its images.
    """

    memory_format = torch.contiguous_format

    def __init__(self, backbone: nn.Module, processor: Any, pretrained: bool, new_head: bool):
        super().__init__()
        self.backbone = backbone
        self.processor = processor
        self.pretrained = pretrained
        self.new_head = new_head
        self._accepted = set(inspect.signature(backbone.forward).parameters)

    def forward(self, inputs: dict[str, torch.Tensor] | None = None, /, **named: torch.Tensor) -> torch.Tensor:
        features = self.prepare((inputs or named)["pixel_values"])
        taken = {name: values for name, values in features.items() if name in self._accepted}
        if self.memory_format is not torch.contiguous_format:
            images = {name: values for name, values in taken.items() if values.ndim == 4}
            taken |= {name: values.contiguous(memory_format=self.memory_format) for name, values in images.items()}
        return self.backbone(**taken).logits

    def prepare(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the backbone gets for images [B,3,H,W] in [0,1]: pixel_values and whatever goes with them."""
        if _channels(self.backbone.config) == 1:
            images = images.mean(dim=1, keepdim=True)
        if not torch.is_inference_mode_enabled():
            return self._process(images)
        # A processor keeps its mean and std from call to call, and what is made in inference mode could never
        # enter a gradient later.
        with torch.inference_mode(False), torch.no_grad():
            return self._process(images)

    def _process(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.processor(images * self.processor.largest, return_tensors="pt")


def _channels(config: Any) -> int:
    """How many channels a backbone takes; some models keep that in the part that is about vision."""
    return getattr(config, "num_channels", None) or getattr(getattr(config, "vision_config", None), "num_channels", 3)


def build_hugging_face(
    name: str, num_labels: int, pretrained: bool, image_size: tuple[int, int], label_names: Sequence[str] | None = None
) -> ProcessedClassifier:
    """A Hugging Face image classifier by hub name or local folder, behind its image processor.

    With `pretrained` False only the architecture is taken. image_size: (height, width) of the images it will be
    given. Raises InputError if there is no such model, or it cannot classify such images, which one trial shows.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    options = hub_options(name)
    try:
        with quiet():
            processor = _as_with_bytes(AutoImageProcessor.from_pretrained(name, **options))
        config = AutoConfig.from_pretrained(name, num_labels=num_labels, **options)
        config.return_dict = True
        backbone, new_head = load_classifier(AutoModelForImageClassification, config, name, pretrained)
    except InputError:
        raise
    except Exception as error:  # a damaged folder raises whatever its files suggest
        without = os.path.isdir(name) and not any(os.path.exists(os.path.join(name, file)) for file in SETTINGS)
        # A model of timm has them in its config.json.
        without = without and not isinstance(error, ImportError)
        why = f"it holds no {SETTINGS[0]}, the settings of its image processor" if without else _reason(error)
        raise InputError(f"--model_name {name}: no image classifier could be loaded ({why})") from None
    model = ProcessedClassifier(backbone, processor, pretrained, new_head)
    _try(model, name, num_labels, image_size)
    if label_names is not None and not new_head:
        theirs = [config.id2label[number] for number in range(num_labels)]
        if order_classes(model, theirs, label_names, trial_images(image_size), name, FROM_RANDOM):
            note_classes(backbone.config, label_names)
    return model


def _as_with_bytes(processor: Any) -> Any:
    """The processor, changed so that it resizes images of floats as it resizes images of bytes.

    A bicubic curve swings beyond the range of its points. With bytes, rows are resized first and the result is cut
    to 0..255, then columns, and again.
    """
    from transformers.image_processing_backends import TorchvisionBackend
    from transformers.image_utils import PILImageResampling, SizeDict

    class WithinRange(TorchvisionBackend):
        """What the classes of transformers find behind themselves when they resize."""

        def resize(self, image, size, resample=None, antialias=True, **more):
            # Without values, and by the plainest curve, for the sake of the size alone.
            of_size = super().resize(image.to("meta"), size, PILImageResampling.BILINEAR, antialias, **more)
            height, width = of_size.shape[-2:]
            for target in (SizeDict(height=image.shape[-2], width=width), SizeDict(height=height, width=width)):
                image = super().resize(image, target, resample, antialias, **more).clamp(0, self.largest)
            return image

    if type(processor).__name__ == "TimmWrapperImageProcessor":
        processor = _from_timm(processor.data_config)
    kind = type(processor)
    if not issubclass(kind, TorchvisionBackend):
        raise ValueError(f"its {kind.__name__} does not work on tensors")
    # Of the class, since what an image processor has of its own is saved with it.
    processor.__class__ = type(kind.__name__, (kind, WithinRange), {"largest": _largest(processor)})
    return processor


def _largest(processor: Any) -> int:
    """The largest value of the images that a processor is made for: 255, or 1 if its settings can only mean [0,1].

    They do where it does not rescale, as transformers says of images in [0,1], and yet subtracts a mean of such images.
    """
    if getattr(processor, "do_rescale", True) and getattr(processor, "rescale_factor", 1 / BYTE) != 1:
        return BYTE
    means = torch.as_tensor(getattr(processor, "image_mean", None) or 0.0).ravel()
    return 1 if getattr(processor, "do_normalize", False) and 0 < means.max() <= 1 else BYTE


def _from_timm(settings: dict[str, Any]) -> Any:
    """The image processor that does what timm does when it evaluates a model, by the settings of the checkpoint."""
    from torchvision.transforms.v2.functional import center_crop
    from transformers import BitImageProcessor
    from transformers.image_utils import PILImageResampling

    class TimmProcessor(BitImageProcessor):
        def center_crop(self, image, size, **more):
            """As torchvision does, which timm uses; where a margin is odd transformers leaves it elsewhere."""
            return center_crop(image, [size.height, size.width])

    _, height, width = settings["input_size"]
    if height != width or settings.get("crop_mode") not in (None, "center"):
        raise ValueError("of timm's models those that take a square out of the middle of the image can be used")
    return TimmProcessor(
        size={"shortest_edge": int(height / settings["crop_pct"])},
        crop_size={"height": height, "width": width},
        resample=PILImageResampling[settings["interpolation"].upper()],
        image_mean=list(settings["mean"]),
        image_std=list(settings["std"]),
    )


def _try(model: ProcessedClassifier, name: str, num_labels: int, image_size: tuple[int, int]) -> None:
    """Classify one image. Raises InputError if that fails."""
    refusal = f"--model_name {name} cannot classify images of {image_size[0]}x{image_size[1]} px"
    image = torch.zeros(1, 3, *image_size)
    training = model.training
    model.eval()
    try:
        differentiable = any(values.requires_grad for values in model.prepare(image.clone().requires_grad_()).values())
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            logits = model({"pixel_values": image})
    except Exception as error:  # every architecture has reasons of its own
        raise InputError(f"{refusal} ({_reason(error)}); name another model") from None
    finally:
        model.train(training)
    if not differentiable:
        kind = type(model.processor).__name__
        raise InputError(f"--model_name {name}: its {kind} lets no gradient reach the pixels; name another model")
    if logits.shape != (1, num_labels):
        raise InputError(f"{refusal}: its logits have the shape {tuple(logits.shape)}; name another model")


def _reason(error: Exception) -> str:
    """What an error says, on one line of a bearable length."""
    if isinstance(error, ImportError) and "timm" in str(error).lower() and importlib.util.find_spec("timm") is None:
        return "it is a model of timm, which is not installed: pip install timm"
    return reason(error)
