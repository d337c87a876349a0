#!/usr/bin/env python3
"""How close collection comes to its limit, K + 1 bare forward passes, and how far behind a per-instance loop is."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from robust_data import files, tables
from robust_data.command_line.parser import Parser, run_script
from robust_data.registry import LazyModule
from robust_data.settings import positive_int

np = LazyModule("numpy")
torch = LazyModule("torch")

ROOT = Path(__file__).resolve().parent.parent

LIMIT_BATCH_SIZES = (32, 64, 128, 256, 512)
VOCABULARY = 1000
TEXT_MODELS = {
    "tiny_bert": {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768},
    "bert_base": {},
}


def build_parser() -> Parser:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--models", nargs="+", default=["resnet20", "tiny_vit", "tiny_bert"], metavar="NAME", help="models to measure"
    )
    parser.add_argument(
        "-t",
        "--perturbations",
        nargs="+",
        default=["identity", "blur"],
        metavar="NAME[+NAME]",
        help="one run each, also of several together or of a family, where the model's kind has them",
    )
    parser.add_argument("--instances", type=positive_int, default=2000, help="images of 32 px, or sentences, random")
    parser.add_argument("--naive_instances", type=positive_int, default=500, help="of these, for the slow loop")
    parser.add_argument("--repeats", type=positive_int, default=7, help="runs of which the median counts")
    parser.add_argument(
        "--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"], help="one run each"
    )
    parser.add_argument("--eval_size", type=positive_int, default=256, help="instances per batch of the collection")
    parser.add_argument(
        "--output", default=str(ROOT / "results" / "benchmark_collection.json"), metavar="FILE", help="JSON"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from robust_data.train import distributed
    from robust_data.train.identity import versions

    device = distributed.default_device()
    rows = []
    for model_name in args.models:
        dataset = (random_texts if model_name in TEXT_MODELS else random_images)(args.instances, device)
        model = build(model_name).to(device).eval()
        for precision in args.precisions:
            rows += measure(args, model_name, model, dataset, precision, device)
    print(tables.markdown(lines_of(rows)))
    files.output_folder(str(Path(args.output).parent))
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    files.write_json(args.output, {"hardware": hardware, "versions": versions(), "arguments": vars(args), "rows": rows})
    print(f"\nhardware: {hardware}\nsaved {args.output}")


def random_images(instances: int, device):
    """Random images of 32 px in memory, as a dataset with ten classes."""
    from robust_data.datasets.catalogue import Options
    from robust_data.datasets.images import ImageArrays

    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (instances, 32, 32, 3), dtype=np.uint8)
    source = ImageArrays(images, np.arange(instances) % 10, [str(number) for number in range(10)])
    return source.build("random", "train", np.arange(instances), Options()).to(device)


def random_texts(instances: int, device):
    """Sentences of random words, about as long as those of SST-2, as a dataset with two classes."""
    from transformers import BertTokenizer

    from robust_data.datasets.catalogue import Options
    from robust_data.datasets.tokens import Texts

    draws = np.random.default_rng(0)
    words = [f"w{number}" for number in range(VOCABULARY)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate([*special, *words])})
    lengths = np.clip(draws.gamma(1.3, 7.5, instances).astype(int), 1, 52)
    texts = [" ".join(draws.choice(words, length)) for length in lengths]
    source = Texts([texts], np.arange(instances) % 2, ["0", "1"])
    return source.build("random", "train", np.arange(instances), Options(extra={"tokenizer": tokenizer})).to(device)


def build(model_name: str):
    """A model of the project, or with random weights a text classifier of BERT's shape, `tiny_bert` or `bert_base`, or
    `tiny_vit`: 4 blocks, 96 wide, patches of 4 px, at 32 px.
    """
    import torchvision

    from robust_data import models
    from robust_data.models.vision import ImageClassifier

    torch.manual_seed(0)
    if model_name in TEXT_MODELS:
        from transformers import BertConfig, BertForSequenceClassification

        from robust_data.models.text import TextClassifier

        config = BertConfig(vocab_size=VOCABULARY + 5, **TEXT_MODELS[model_name])
        return TextClassifier(BertForSequenceClassification(config), pretrained=False)
    if model_name != "tiny_vit":
        return models.build(model_name, 10, image_size=(32, 32))
    vit = torchvision.models.VisionTransformer(
        32, 4, num_layers=4, num_heads=3, hidden_dim=96, mlp_dim=384, num_classes=10
    )
    return ImageClassifier(vit, (0.5,) * 3, (0.5,) * 3)


def measure(args: argparse.Namespace, model_name: str, model, dataset, precision: str, device) -> list[dict]:
    """One row per perturbation: seconds of the limit, of the collection and of the naive loop."""
    from robust_data.collection import collect

    together = {name: found for name in args.perturbations if (found := resolved(name, dataset.modality))}
    jobs: dict[str, Callable[[], None]] = {
        name: lambda names=names: collect(model, dataset, names, batch_size=args.eval_size, precision=precision)
        for name, names in together.items()
    }
    limits = {f"limit {size}": bare_passes(model, dataset, size, precision, device) for size in LIMIT_BATCH_SIZES}
    seconds = interleaved_medians(jobs | limits, args.repeats, device)
    best = min(limits, key=seconds.get)
    limit = {name: seconds[best] * (1 + len(names)) / 2 for name, names in together.items()}
    loops = [name for name, names in together.items() if names == [name] and is_quick(name) and precision == "fp32"]
    naive = {name: naive_seconds(args, model, dataset, name, device) for name in loops}
    return [
        {
            "model": model_name,
            "precision": precision,
            "perturbation": name if len(names) == 1 else f"{len(names)} together",
            "limit_seconds": limit[name],
            "limit_batch_size": int(best.split()[1]),
            "collection_seconds": seconds[name],
            "ratio": seconds[name] / limit[name],
            "naive_seconds": naive.get(name),
            "speedup": naive[name] / seconds[name] if name in naive else None,
            "instances_per_second": len(dataset) / seconds[name],
        }
        for name, names in together.items()
    ]


def resolved(names: str, modality: str) -> list[str]:
    """The perturbations of NAME+NAME; [] where one does not act on that modality."""
    from robust_data import perturbations

    found = perturbations.resolve(names.split("+"))
    return found if all(perturbations.CATALOGUE[name].acts_on(modality) for name in found) else []


def is_quick(name: str) -> bool:
    """Whether a loop over single instances can be timed: it takes no gradients."""
    from robust_data import perturbations

    return not perturbations.CATALOGUE[name].needs_gradient


def bare_passes(model, dataset, batch_size: int, precision: str, device) -> Callable[[], None]:
    """The limit for one perturbation: two forward passes over inputs already in memory, floats or tokens."""
    from robust_data.train.inference import autocast

    prepared = [batch.inputs for batch in dataset.batches(dataset.collection_order().split(batch_size), device)]

    def run() -> None:
        with torch.inference_mode(), autocast(device, precision):
            for _ in range(2):
                for inputs in prepared:
                    model(inputs)

    return run


def interleaved_medians(jobs: dict[str, Callable[[], None]], repeats: int, device) -> dict[str, float]:
    """Median seconds of each job; the jobs take turns, so that a slow spell of the machine meets them all.

    Those of the processor where one thread does all the work, since other processes hardly disturb them.
    """
    now = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            started = now()
            job()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first round warms up
                times[name].append(now() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def naive_seconds(args: argparse.Namespace, model, dataset, name: str, device) -> float:
    """Seconds for all instances by the loop that one writes first, extrapolated from `--naive_instances`.

    One image at a time, by way of numpy, with gradients on and an `.item()` per field.
    """
    count = min(args.naive_instances, len(dataset))
    batches = list(dataset.batches([torch.tensor([position]) for position in range(count)], torch.device("cpu")))
    started = time.perf_counter()
    kept = {}
    for batch in batches:
        fields = {}
        for prefix, inputs in zip(("original", "after_perturb"), naive_inputs(dataset, batch, name)):
            logits = model({key: value.to(device) for key, value in inputs.items()})
            label = batch.labels.to(device)
            fields[f"{prefix}_loss"] = torch.nn.functional.cross_entropy(logits, label).item()
            fields[f"{prefix}_pred"] = (logits.argmax(1) == label).item()
            fields[f"{prefix}_logit"] = logits[0, label].item()
            fields[f"{prefix}_probability"] = logits.softmax(1)[0, label].item()
        kept[batch.index.item()] = fields
    return (time.perf_counter() - started) * len(dataset) / count


def naive_inputs(dataset, batch, name: str) -> Iterator[dict]:
    """A model's inputs for one instance, clean and perturbed; a text is tokenised each time."""
    from robust_data import perturbations

    if dataset.modality == "text":
        for text in (*batch.columns[0], *perturbations.perturb_texts(name, batch.columns[0], 3, batch.index)):
            yield dict(dataset.tokenizer(text, return_tensors="pt"))
        return
    image = batch.inputs["pixel_values"][0].numpy().transpose(1, 2, 0)
    perturbed = perturbations.perturb(name, torch.from_numpy(image.transpose(2, 0, 1).copy())[None], 3, batch.index)
    for pixels in (image, np.asarray(perturbed[0]).transpose(1, 2, 0)):
        yield {"pixel_values": torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]}


def lines_of(rows: list[dict]) -> list[list[str]]:
    """The table that benchmarks/README.md keeps."""
    head = ["model", "precision", "perturbation", "limit (s)", "collection (s)", "collection / limit"]
    lines = [[*head, "naive loop (s)", "naive / collection"]]
    for row in rows:
        naive = ("", "") if row["naive_seconds"] is None else (f"{row['naive_seconds']:.2f}", f"{row['speedup']:.1f}")
        limit = f"{row['limit_seconds']:.3f} (batch {row['limit_batch_size']})"
        named = [row[name] for name in ("model", "precision", "perturbation")]
        lines.append([*named, limit, f"{row['collection_seconds']:.3f}", f"{row['ratio']:.3f}", *naive])
    return lines


if __name__ == "__main__":
    run_script(build_parser(), main)
