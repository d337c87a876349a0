"""One way to any model: by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from registry import InputError, nearest

if TYPE_CHECKING:
    import torch


def names() -> list[str]:
    """The models that are known by name alone: the project's own, then torchvision's."""
    from models import vision

    return [*vision.SMALL_MODELS, *vision.torchvision_names()]


def build(
    name: str,
    num_labels: int,
    *,
    image_size: tuple[int, int] = (224, 224),
    pretrained: bool | None = None,
    keep_stem: bool = False,
) -> torch.nn.Module:
    """Build a classifier by the name of one of our own, of torchvision's, or a Hugging Face hub name or folder.

    image_size: (height, width) of the images it will be given, before any resizing.
    pretrained: load published weights; by default no for torchvision's models, yes for Hugging Face's.
    keep_stem: leave a 7x7 stride-2 stem as it is even for images up to 64 px.
    Returns a module that maps {"pixel_values": [B,3,H,W] in [0,1]} to logits [B, num_labels]. Raises
    InputError for a name that nothing answers to, or weights that cannot be loaded.
    """
    from models import vision

    if name in vision.SMALL_MODELS:
        if pretrained:
            raise InputError(f"--pretrained 1: '{name}' has no published weights; use --pretrained 0")
        return vision.build_small(name, num_labels)
    if name in vision.torchvision_names():
        return vision.build_torchvision(name, num_labels, bool(pretrained), image_size, keep_stem)
    if Path(name).is_dir() or (name.count("/") == 1 and not name.startswith((".", "/"))):
        return vision.build_hugging_face(name, num_labels, pretrained is not False)
    raise InputError(
        f"unknown model '{name}'; nearest: {', '.join(nearest(name, names()))}; "
        "or give a Hugging Face name (owner/model) or folder"
    )
