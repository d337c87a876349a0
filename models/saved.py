"""Reading models that were trained here: folders that hold model.safetensors and a config.json which says so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from robust_data.reading import check_kinds, check_regular, memory, quiet, read_json, readable, reason
from robust_data.registry import InputError, LazyModule, hub_options, no_model_in, one_line

torch = LazyModule("torch")

# The entry of config.json that makes a folder one of ours; what it holds is said in `description`.
MARK = "robust_data"
ENTRIES = {"architecture": str, "num_labels": int, "label_names": (list, str), "keep_stem": int}
# What a config.json may ask for, by what stands in an entry's name; the first that does counts. Of the largest models
# some have hundreds of layers, rows of 50,000 numbers, a million words and ten million positions.
LIMITS = {
    "layers|depth|blocks": 2_000,
    "vocab|position|length|experts": 10**8,
    "size|dim|width|d_model|d_ff|heads|channels": 10**6,
}
# A weight takes up to eight times the room in memory that it takes in a file, for numbers of four bits; beside that a
# model may have new layers.
LARGEST_TO_STORED, LARGEST_UNSTORED = 8, 2**28
WEIGHTS = "model.safetensors"
# In its place, what was trained beside the frozen weights of a base; its description then has a further entry.
ADAPTER, LORA = "adapter.safetensors", {"rank": int, "base": str, "sha256": str}
# A Hugging Face model of many GB is spread over several files, and this lists them.
WEIGHTS_INDEX = "model.safetensors.index.json"


def description(folder: str | Path, num_labels: int) -> dict[str, Any] | None:
    """What config.json says of a model saved here, or None for a folder that came from elsewhere.

    Its entries: `architecture`, the name it was built by, or None for a Hugging Face model; `num_labels`;
    `label_names`; `keep_stem`; of an adapter `lora`, see `LORA`. Raises InputError if the folder is incomplete or
    damaged, or if the model does not tell `num_labels` classes apart.
    """
    path = Path(folder) / "config.json"
    try:
        described = read_json(path, f"--model_name {folder}: config.json", "save the model again").get(MARK)
    except FileNotFoundError:
        raise no_model_in(folder) from None
    if described is None:
        return None
    missing = [entry for entry in ENTRIES if not isinstance(described, dict) or entry not in described]
    if missing:
        raise InputError(f"--model_name {folder}: config.json lacks {', '.join(missing)}; save the model again")
    with readable(f"--model_name {folder}: config.json", "save the model again"):
        check_kinds(described, ENTRIES | {"lora": dict})
        check_kinds(described.get("lora") or {}, LORA)
    if described["num_labels"] != num_labels:
        raise InputError(
            f"--model_name {folder} tells {described['num_labels']} classes apart, the dataset has {num_labels}"
        )
    if not (Path(folder) / WEIGHTS_INDEX).exists():
        _check_weights(Path(folder) / (ADAPTER if described.get("lora") else WEIGHTS))
    return described


def _check_weights(path: Path) -> None:
    """Open the weights, which reads their table of contents and compares it with the length of the file."""
    from safetensors import safe_open

    if not path.exists():
        raise InputError(f"--model_name {path.parent} is incomplete: it holds no {path.name}")
    with readable(str(path), "save the model again"):
        check_regular(path)
        with safe_open(path, "pt"):
            pass


def check_config(config: Any, argument: str) -> Any:
    """A configuration of transformers, as it is. Raises InputError for one of a size that no computer could build."""
    parts = [config.to_dict()]
    while parts:
        part = parts.pop()
        for name, value in part.items() if isinstance(part, dict) else ():
            limit = next((most for words, most in LIMITS.items() if re.search(words, str(name))), None)
            counts = value if isinstance(value, list) else [value]
            if limit is not None and any(isinstance(count, int) and count > limit for count in counts):
                shown = one_line(value, 60)
                raise InputError(f"{argument}: its config.json asks for {name} {shown}; give one up to {limit}")
            parts.append(value)
    return config


def check_weights_fit(kind: Any, config: Any, name: str, loaded: bool = True, argument: str = "--model_name") -> None:
    """Refuse, before it is built, a model that takes far more room than its files, or more than there is memory.

    kind: the class of transformers that makes it of `config`. name: the model's, or its folder. loaded: whether its
    weights will be those of its files. Raises InputError, which names the argument.
    """
    try:
        with torch.device("meta"):
            needed = sum(parameter.nbytes for parameter in kind.from_config(config).parameters())
    except Exception:
        return  # what is wrong with it is told when it is built
    found = [path for pattern in ("*.safetensors", "*.bin") for path in Path(name).glob(pattern)] if loaded else []
    stored = sum(path.stat().st_size for path in found)
    held = memory()
    most = min(held, LARGEST_TO_STORED * stored + LARGEST_UNSTORED) if stored else held
    if needed > most:
        room = f"its files hold {stored / 2**30:.1f} GiB" if most < held else f"there are {held / 2**30:.0f} GiB"
        raise InputError(
            f"{argument} {name}: its config.json asks for {needed / 2**30:.1f} GiB of weights, {room}; "
            "give a complete model, or a smaller one"
        )


def load_classifier(kind: Any, config: Any, name: str, pretrained: bool) -> tuple[torch.nn.Module, bool]:
    """A classifier of transformers with the weights of a folder or of the hub, or random ones; and if its head is new.

    kind: the class of transformers that makes it of `config`. Raises InputError for what `check_config`,
    `check_weights_fit` and `has_new_head` refuse, and whatever transformers does.
    """
    check_config(config, f"--model_name {name}")
    if pretrained and (Path(name) / ADAPTER).exists():
        from robust_data.models import lora

        described = description(name, config.num_labels)["lora"]
        backbone, _ = load_classifier(kind, config, described["base"], True)
        lora.load(backbone, name, described)
        return backbone, False
    check_weights_fit(kind, config, name, pretrained)
    if not pretrained:
        backbone = kind.from_config(config, dtype=torch.float32)
        # Where the tokenizer or the image processor is found when the model is saved.
        backbone.config.name_or_path = name
        return backbone, True
    more = {"ignore_mismatched_sizes": True, "output_loading_info": True, **hub_options(name)}
    with quiet():
        backbone, report = kind.from_pretrained(name, config=config, dtype=torch.float32, **more)
    return backbone, has_new_head(backbone, report, name)


def has_new_head(backbone: torch.nn.Module, report: dict[str, Any], name: str) -> bool:
    """Whether some weights of a classifier's last layers were not among those of a folder or of the hub.

    report: the loading info of transformers. Raises InputError if it lacks any other weights of `backbone`, or they
    have other shapes: they would be random.
    """
    mismatched = [key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]]
    parameters, head = dict(backbone.named_parameters()), backbone.base_model_prefix + "."
    inner = backbone.base_model is not backbone
    absent = [key for key in [*report["missing_keys"], *mismatched] if key in parameters]
    for key in absent:
        # Encoders that were trained to fill masks have no pooler; some classifiers count it to their last layers.
        encoder = key.startswith(head) and "pooler" not in key
        if encoder if inner else parameters[key].shape[:1] != (backbone.config.num_labels,):
            how = "another shape in its files" if key in mismatched else "no place in its files"
            raise InputError(
                f"--model_name {name}: {key} and {len(absent) - 1} other weights have {how}, so they would be "
                "random; give a complete model"
            )
    return bool(report["missing_keys"] or report["mismatched_keys"])


def load_weights(model: torch.nn.Module, folder: str | Path) -> torch.nn.Module:
    """Give a model the weights of a folder. Raises InputError if they are those of another architecture."""
    from safetensors.torch import load_file

    try:
        model.load_state_dict(load_file(Path(folder) / WEIGHTS))
    except Exception as error:  # whatever a damaged file leads to
        raise InputError(f"--model_name {folder}: the weights do not fit config.json ({reason(error)})") from None
    model.pretrained = True
    return model
