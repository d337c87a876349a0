"""LoRA by the package peft: small matrices are trained beside the frozen layers of a Hugging Face classifier."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robust_data.models.saved import ADAPTER
from robust_data.reading import readable
from robust_data.registry import InputError


def add(model: nn.Module, rank: int, name: str) -> None:
    """Freeze all but the last layers of a classifier, and put matrices of this rank beside its linear layers.

    Hu et al., ICLR 2022, with its alpha the rank. model: of `models.build`. Raises InputError for one that is not
    Hugging Face's or starts from random weights, and without the package peft.
    """
    backbone = getattr(model, "backbone", None)
    if model.architecture is not None or not model.pretrained:
        raise InputError(f"--lora_rank {rank} is for trained weights of Hugging Face's models; {name} are none")
    backbone.base_model.requires_grad_(False)
    model.lora = {"rank": rank, "base": name, "sha256": _hash(backbone.base_model)}
    _tuner(backbone, rank)


def trained(backbone: nn.Module) -> dict[str, torch.Tensor]:
    """What the file of an adapter holds: all weights but the frozen ones."""
    weights = backbone.named_parameters()
    return {name: weight.detach().cpu().contiguous() for name, weight in weights if weight.requires_grad}


def load(backbone: nn.Module, folder: str | Path, described: dict[str, Any]) -> None:
    """Give a backbone of the base's weights what a folder's adapter learned, and merge both.

    described: the folder's base, its hash, and the rank. Raises InputError for an adapter of other weights.
    """
    from safetensors.torch import load_file

    if _hash(backbone.base_model) != described["sha256"]:
        raise InputError(
            f"--model_name {folder} was trained beside other weights than {described['base']} has now; restore those"
        )
    backbone.base_model.requires_grad_(False)
    tuner = _tuner(backbone, described["rank"])
    with readable(f"--model_name {folder}: {ADAPTER}", "save the model again"):
        wanted = dict(load_file(Path(folder) / ADAPTER))
        if wanted.keys() != trained(backbone).keys():
            raise ValueError("it is of another model")
        backbone.load_state_dict(wanted, strict=False)
    tuner.merge_and_unload()
    backbone.requires_grad_(True)


def _tuner(backbone: nn.Module, rank: int) -> Any:
    try:
        import peft
    except ImportError:
        raise InputError(
            f"--lora_rank {rank} needs the package peft, which is not installed; pip install peft, or leave it out"
        ) from None
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear")
    return peft.tuners.lora.LoraModel(backbone.base_model, config, "default")


def _hash(module: nn.Module) -> str:
    """Of all weights of a module, in order of their names."""
    found = hashlib.sha256()
    for name, weight in sorted(module.named_parameters()):
        found.update(name.encode())
        found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
    return found.hexdigest()
