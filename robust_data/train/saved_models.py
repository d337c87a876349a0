"""Saving a trained model as a folder from which `models.build` makes it again."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_data.files import full_disk_is_an_oserror, sync, to_json
from robust_data.models import saved
from robust_data.reading import check_kinds, quiet, read_json, readable
from robust_data.records import KINDS_OF_ARGUMENTS
from robust_data.registry import InputError, LazyModule, hub_options
from robust_data.train.identity import timestamp, versions

torch = LazyModule("torch")
lora = LazyModule("robust_data.models.lora")


def save_model(
    folder: str | os.PathLike,
    model: torch.nn.Module,
    arguments: Mapping[str, Any],
    label_names: Sequence[str] | None = None,
    identity: Mapping[str, str] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Path:
    """Write a classifier to a folder, whole or not at all, in place of what is there.

    model: of `models.build`. The folder gets `model.safetensors`, `config.json` and `args.json`, the
    arguments of the run and versions; a Hugging Face model is written by its own `save_pretrained`, with its
    image processor or tokenizer, so that the Auto classes load it too; with `lora_rank` its trained weights alone are,
    as `adapter.safetensors`, with the name and the hash of the base. label_names: noted in config.json.
    identity: what tells the run's data from other data, noted in args.json. data: what the arguments do not say of
    them, noted there, too: "seed", by which subsets were drawn, and "image_size", (H, W).
    Returns the folder. Raises InputError if it cannot be written, or holds something other than a model.
    """
    folder = Path(folder)
    check_replaceable(folder)
    with _replacing(folder) as temporary:
        save = _save_hugging_face if model.architecture is None else _save_ours
        save(temporary, model, _description(model, label_names))
        run = {"arguments": dict(arguments), "known_by": dict(identity or {}), "data": dict(data or {})}
        run |= {"versions": versions(), "saved": timestamp()}
        _write_json(temporary / "args.json", run)
        _follow_umask(temporary, temporary / "args.json")
    return folder


def check_replaceable(folder: str | os.PathLike) -> None:
    """Refuse to save a model in the place of anything that is not a model."""
    folder = Path(folder)
    if folder.exists() and not (folder / "config.json").exists():
        raise InputError(f"{folder} is in the way of the model to be saved there; move it or name another --output_dir")


def saved_arguments(folder: str | os.PathLike) -> dict[str, Any]:
    """Arguments and identity of the run that saved this model. Raises InputError if the folder does not tell."""
    try:
        run = read_json(Path(folder) / "args.json", "args.json", "save the model again")
        return run["arguments"] | run["known_by"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{folder} holds a model without the arguments of its run; use --overwrite 1 or another --output_dir"
        ) from None


def trained_with(folder: str | os.PathLike) -> dict[str, Any]:
    """The arguments of the run that saved a model, with `data_seed`, by which subsets were drawn, and `image_size`.

    The size is the side of the images, or (H, W), also where no argument set it. {} where no run of ours tells.
    Raises InputError for a damaged args.json.
    """
    path = Path(folder) / "args.json"
    if not path.is_file():
        return {}
    run = read_json(path, str(path), "save the model again")
    if not isinstance(run.get("arguments"), dict):
        return {}
    arguments, data = run["arguments"], run.get("data") or {}
    with readable(str(path), "save the model again"):
        check_kinds(run, {"data": dict})
        check_kinds(arguments, KINDS_OF_ARGUMENTS)
        check_kinds(data, {"seed": int, "image_size": (list, int)})
    found = arguments | {"data_seed": data.get("seed")}
    height, width = size if len(size := data.get("image_size") or ()) == 2 else (None, None)
    return found if height is None else found | {"image_size": height if height == width else (height, width)}


def _description(model: torch.nn.Module, label_names: Sequence[str] | None) -> dict[str, Any]:
    """The entry of config.json that `models.saved.description` reads."""
    return {
        "architecture": model.architecture,
        "num_labels": model.num_labels,
        "label_names": None if label_names is None else list(label_names),
        # Only the models whose stem was adapted to small images run at the images' own size.
        "keep_stem": getattr(model, "size", None) is not None,
        # Of an adapter what it was trained beside.
        **({"lora": model.lora} if hasattr(model, "lora") else {}),
    }


def _save_ours(folder: Path, model: torch.nn.Module, description: dict[str, Any]) -> None:
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / saved.WEIGHTS)
    _write_json(folder / "config.json", {saved.MARK: description})


def _save_hugging_face(folder: Path, model: torch.nn.Module, description: dict[str, Any]) -> None:
    from transformers import AutoImageProcessor, AutoTokenizer

    backbone = model.backbone
    # What it was trained for, whatever it came with; transformers' own pipeline asks for it.
    backbone.config.problem_type = "single_label_classification"
    if description["label_names"] is not None:
        from robust_data.models import classes

        classes.note_classes(backbone.config, description["label_names"])
    setattr(backbone.config, saved.MARK, description)
    with quiet():
        if "lora" in description:
            from safetensors.torch import save_file

            save_file(lora.trained(backbone), folder / saved.ADAPTER)
            backbone.config.save_pretrained(folder)
        else:
            backbone.save_pretrained(folder)
    # What turns raw inputs into the model's travels with it.
    preprocessor = AutoTokenizer if hasattr(model, "embed") else AutoImageProcessor
    source = backbone.config.name_or_path
    preprocessor.from_pretrained(source, **hub_options(source)).save_pretrained(folder)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(to_json(content, indent=2, default=str) + "\n")


def _follow_umask(folder: Path, made_by_open: Path) -> None:
    """Give the files of a folder the permissions of one of them: safetensors makes its own for their owner alone."""
    mode = stat.S_IMODE(made_by_open.stat().st_mode)
    for path in folder.iterdir():
        if path.is_file():
            path.chmod(mode)


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `folder` once all of it is written and synced, or vanishes."""
    # Always the same names, so that what a killed run left is written over, not left to lie.
    temporary, old = (folder.with_name(f".{folder.name}.{state}") for state in ("partial", "old"))
    try:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
        temporary.mkdir(parents=True)
        with full_disk_is_an_oserror(temporary):
            yield temporary
        for path in [*temporary.iterdir(), temporary]:
            sync(path)
        # A folder can only be renamed to a name that is free.
        if folder.exists():
            os.rename(folder, old)
        os.rename(temporary, folder)
        sync(folder.parent)
    except OSError as error:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
