"""One way to any model: by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robust_data.registry import InputError, LazyModule, nearest, one_line

torch = LazyModule("torch")


MEMORY_FORMATS = ("auto", "contiguous", "channels_last")


def names() -> list[str]:
    """The models that are known by name alone: the project's own, then torchvision's."""
    from robust_data.models import vision

    return [*vision.SMALL_MODELS, *vision.torchvision_names()]


def build(
    name: str,
    num_labels: int,
    *,
    modality: str = "image",
    image_size: tuple[int, int] | None = (224, 224),
    max_seq_length: int | None = None,
    vocabulary: int | None = None,
    label_names: Sequence[str] | None = None,
    pretrained: bool | None = None,
    keep_stem: bool = False,
    memory_format: str = "auto",
    reinit_classifier: bool = False,
    freeze_encoder: bool = False,
) -> torch.nn.Module:
    """Build a classifier by the name of one of our own, of torchvision's, a Hugging Face hub name, or a folder.

    A folder holds a Hugging Face model, or any model that was saved here; one saved here keeps its head, so
    it must have been trained on as many classes.

    modality: "image", or "text" for a Hugging Face sequence classifier; see `models.text.TextClassifier`.
    image_size: (height, width) of the images it will be given, before any resizing.
    max_seq_length: the tokens of the longest text it will be given. vocabulary: how many tokens the tokenizer
    of its texts numbers. label_names: where the classes of a trained model have these names they get these
    numbers.
    pretrained: load published weights; by default no for torchvision's models, yes for Hugging Face's and
    for folders.
    keep_stem: leave a 7x7 stride-2 stem as it is even for images up to 64 px.
    memory_format: how an image classifier lays out weights and images, one of `MEMORY_FORMATS`; what it computes
    is the same up to rounding. "auto" is channels_last for convolutional nets, whose steps take less time so.
    reinit_classifier, freeze_encoder: of a text classifier; draw a new head, also for a folder that has one
    for as many classes; train the head alone.
    Returns a module that maps {"pixel_values": [B,3,H,W] in [0,1]}, or {"input_ids", "attention_mask", ...}
    int64 [B,L], to logits [B, num_labels]. Raises InputError for a name that nothing answers to, weights
    that cannot be loaded, or texts longer than the model takes.
    """
    if modality == "text":
        from robust_data.models import text

        if memory_format != "auto":
            raise InputError(f"--memory_format {memory_format} is for image classifiers; '{name}' is to classify texts")
        options = text.TextOptions(
            pretrained is not False, reinit_classifier, freeze_encoder, max_seq_length, vocabulary, label_names
        )
        return _noted(text.build_text(name, num_labels, options), None, num_labels)
    if reinit_classifier or freeze_encoder:
        switch = "--reinit_classifier" if reinit_classifier else "--freeze_encoder"
        raise InputError(f"{switch} 1 is for text classifiers; '{name}' is to classify images")
    model = _build_image(name, num_labels, image_size, pretrained, keep_stem, label_names)
    if memory_format == "auto":
        memory_format = "channels_last" if _is_convolutional(model) else "contiguous"
    if memory_format == "contiguous":
        return model
    import torch

    model.memory_format = torch.channels_last
    return model.to(memory_format=torch.channels_last)


def _is_convolutional(model: torch.nn.Module) -> bool:
    """Whether a convolution looks at overlapping parts of its input, which one that cuts out patches does not."""
    from torch import nn

    convolutions = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return any(max(module.kernel_size) > max(module.stride) for module in convolutions)


def _build_image(
    name: str,
    num_labels: int,
    image_size: tuple[int, int],
    pretrained: bool | None,
    keep_stem: bool,
    label_names: Sequence[str] | None = None,
) -> torch.nn.Module:
    """An image classifier; see `build`."""
    from robust_data.models import saved, vision

    if name in vision.SMALL_MODELS:
        if pretrained:
            raise InputError(f"--pretrained 1: '{name}' has no published weights; use --pretrained 0")
        return _noted(vision.build_small(name, num_labels), name, num_labels)
    if name in vision.torchvision_names():
        model = vision.build_torchvision(name, num_labels, bool(pretrained), image_size, keep_stem)
        return _noted(model, name, num_labels)
    described = saved.description(name, num_labels) if Path(name).is_dir() else None
    if described is not None and (architecture := described["architecture"]) is not None:
        if architecture not in names():
            shown = one_line(architecture, 100)
            raise InputError(
                f"--model_name {name}: its config.json names the unknown architecture '{shown}'; save the model again"
            )
        model = _build_image(architecture, num_labels, (1, 1), False, described["keep_stem"])
        if pretrained is False:
            return model
        saved.load_weights(model, name)
        if label_names is not None and described["label_names"] is not None:
            from robust_data.models import classes

            batch, theirs = classes.trial_images(image_size), described["label_names"]
            classes.order_classes(model, theirs, label_names, batch, name, classes.FROM_RANDOM)
        return model
    if Path(name).is_dir() or (name.count("/") == 1 and not name.startswith((".", "/"))):
        from robust_data.models import hugging_face

        model = hugging_face.build_hugging_face(name, num_labels, pretrained is not False, image_size, label_names)
        return _noted(model, None, num_labels)
    raise InputError(
        f"unknown model '{one_line(name, 100)}'; nearest: {', '.join(nearest(name, names()))}; "
        "or give a Hugging Face name (owner/model) or folder"
    )


def starts_pretrained(name: str, modality: str = "image", pretrained: bool | None = None) -> bool:
    """Whether the model that `build` makes starts from trained weights, told without building it."""
    if pretrained is not None or modality == "text":
        return pretrained is not False
    # No name of our own or torchvision's has a slash. A folder of one of those names stays unused; see `build`.
    return "/" in name or (Path(name).is_dir() and name not in names())


def image_side(name: str) -> int | None:
    """The side in pixels of the images that a model known by name is made for; None for other models."""
    from robust_data.models import vision

    if name in vision.SMALL_MODELS:
        return vision.SMALL_SIDE
    return vision.trained_side(name) if name in vision.torchvision_names() else None


def short_name(name: str) -> str:
    """A model's name for titles and files: its last part; for a run's folder `model` the name of the run."""
    path = Path(name)
    return path.resolve().parent.name if path.name == "model" else path.name


def _noted(model: torch.nn.Module, architecture: str | None, num_labels: int) -> torch.nn.Module:
    """Note what builds this architecture again, for whoever saves the model; None for Hugging Face's own."""
    model.architecture, model.num_labels = architecture, num_labels
    return model
