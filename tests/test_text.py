"""Texts: classifiers and perturbations, through the same collection as images."""

import dataclasses
import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import refuses
from text_models import (
    FAMILIES,
    load,
    only_batch,
    save_bert,
    save_canine,
    save_family,
    save_roberta,
    sentences,
    write_csv,
)
from tokenizers import normalizers

from robust_data import data_statistics, datasets, models, perturbations, records, settings
from robust_data.collection import Draws, collect, perturb_batch
from robust_data.evaluation import evaluate, evaluate_perturbed
from robust_data.judge import conditions
from robust_data.judge.judge import Judge
from robust_data.train import inference, saved_models
from robust_data.train.inference import predict

DISCRETE = [*perturbations.names("character"), *perturbations.names("word")]


# Classifiers.


def test_a_zero_perturbation_of_the_embeddings_gives_the_same_logits(classifier, qnli):
    dataset = load(qnli, "qnli", tokenizer=classifier)
    model = models.build(classifier, 2, modality="text").eval()
    batch = only_batch(dataset)
    with torch.no_grad():
        logits = model(batch.inputs)
        assert torch.allclose(model(batch.inputs | {"inputs_embeds": model.embed(batch.inputs)}), logits, atol=1e-6)
        assert torch.equal(model(**batch.inputs), logits)
        draws = Draws(pgd_options=perturbations.PgdOptions(steps=0, init_mag=0.0))
        inputs, delta = perturb_batch("pgd", batch, batch.labels, model, "fp32", draws)
        assert torch.allclose(model(inputs), logits, atol=1e-6) and (delta == 0).all()


def test_token_types_reach_the_perturbed_pass(bert, qnli):
    batch = only_batch(load(qnli, "qnli", tokenizer=bert))
    model = models.build(bert, 2, modality="text").eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, args, named: seen.append(named), with_kwargs=True)
    model.embed(batch.inputs)
    seen.clear()
    perturb_batch("pgd", batch, batch.labels, model, "fp32", Draws())
    assert len(seen) == 5 and all({*named} == {"input_ids", "attention_mask", "token_type_ids"} for named in seen)


def test_a_model_whose_embeddings_do_not_stand_for_its_tokens_is_not_attacked(bert, sst2):
    model = models.build(bert, 2, modality="text")
    # As in a decoder, where what a token becomes depends on more than the token.
    model.backbone.get_input_embeddings().forward = lambda ids: torch.rand(*ids.shape, 16)
    batch = only_batch(load(sst2, tokenizer=bert))
    with refuses("pgd"):
        perturb_batch("pgd", batch, batch.labels, model, "fp32", Draws())


@pytest.fixture
def alone_as_in_a_batch(tmp_path, monkeypatch):
    """A function that sees to it for the model in a folder, by tokens and by word embeddings, moved or not."""
    monkeypatch.setattr(inference, "CPU_BATCH", 4)
    words = " ".join(sentences(10)[0]).split()
    texts = [" ".join(words[number : number + length]) for number, length in enumerate((1, 2, 3, 5, 13, 20, 8, 2, 1))]
    write_csv(tmp_path / "mine.csv", [("text", "label"), *((text, len(text) % 2) for text in texts)])

    def check(name):
        dataset = datasets.load("csv", data_dir=tmp_path / "mine.csv", tokenizer=name)
        model = models.build(name, 2, modality="text", vocabulary=dataset.vocabulary).eval()
        batches = [*dataset.batches(torch.arange(len(dataset)).split(1), "cpu"), only_batch(dataset)]

        def logits(move):
            inputs = [batch.inputs | move(batch.inputs) for batch in batches]
            alone = torch.cat([model(single) for single in inputs[:-1]])
            torch.testing.assert_close(predict(model, inputs[-1], "fp32"), alone, atol=1e-5, rtol=0)
            return alone

        with torch.no_grad():
            by_words = logits(lambda inputs: {})
            by_embeddings = logits(lambda inputs: {"inputs_embeds": model.embed(inputs)})
            moved = logits(lambda inputs: {"inputs_embeds": model.embed(inputs).roll(1, dims=-1)})
        torch.testing.assert_close(by_embeddings, by_words, atol=1e-5, rtol=0)
        assert by_words.std(dim=0).min() > 1e-3 and (moved - by_words).abs().max() > 1e-3
        return model

    return check


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_the_same_logits_alone_and_in_any_batch(family, tmp_path, alone_as_in_a_batch):
    model = alone_as_in_a_batch(save_family(tmp_path / "model", family))
    assert model.padding == {"fnet": None, "xlnet": "left", "llama": "right"}.get(family, model.padding)


@pytest.mark.parametrize("family", ["roberta", "gpt2", "llama", "bart"])
@pytest.mark.parametrize(
    "config",
    [
        {"pad_token_id": None},
        {"pad_token_id": -1},
        {"return_dict": False},
        {"eos_token_id": [2, 5]},  # of several that end a text the first counts
    ],
    ids=str,
)
def test_so_it_has_whatever_its_config_says(family, config, tmp_path, alone_as_in_a_batch):
    folder = save_family(tmp_path / "model", family, padding_token="pad_token_id" not in config)
    edit_config(folder, **config)
    alone_as_in_a_batch(folder)


def edit_config(folder, **changes):
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_a_text_ends_once_whatever_it_says(family, tmp_path):
    name = save_family(tmp_path / "model", family)
    texts = ("good [SEP] film", "the［SEP］film", "[SEP]", "bad")
    write_csv(tmp_path / "mine.csv", [("text", "label"), *((text, len(text)) for text in texts)])
    dataset = datasets.load("csv", data_dir=tmp_path / "mine.csv", tokenizer=name)
    ids = only_batch(dataset).inputs["input_ids"]
    assert (ids == dataset.tokenizer.eos_token_id).sum(dim=1).tolist() == [1, 1, 1, 1]
    assert models.build(name, 4, modality="text")(only_batch(dataset).inputs).shape == (4, 4)


def test_a_model_of_characters_takes_a_text_of_one_and_is_not_attacked_by_pgd(tmp_path):
    name = save_canine(tmp_path / "model")
    texts, labels = sentences(8)
    write_csv(tmp_path / "mine.csv", [("text", "label"), ("a", 1), ("b", 0), *zip(texts, labels)])
    dataset = datasets.load("csv", data_dir=tmp_path / "mine.csv", tokenizer=name)
    model = models.build(name, 2, modality="text", vocabulary=dataset.vocabulary, max_seq_length=128)
    large, small = (collect(model, dataset, ["char_swap"], batch_size=size)["char_swap"] for size in (64, 1))
    for field in ("original_loss", "after_perturb_loss"):
        assert np.allclose(large[field], small[field], atol=1e-5), field
    with refuses("pgd"):
        collect(model, dataset, ["pgd"])


def test_a_text_of_which_the_tokenizer_leaves_nothing_is_an_unknown_word(tmp_path):
    name = save_family(tmp_path / "model", "gpt2")
    write_csv(tmp_path / "mine.csv", [("text", "label"), ("\N{ZERO WIDTH SPACE}", "x"), ("bad", "y")])
    tokenizer = datasets.tokens.load_tokenizer(name)
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer()
    dataset = datasets.load("csv", data_dir=tmp_path / "mine.csv", tokenizer=tokenizer)
    assert dataset.tokens.lengths.tolist() == [1, 1] and dataset.tokens.ids[0] == tokenizer.unk_token_id


def test_texts_are_cut_on_the_side_of_their_tokenizer(bert, sst2):
    tokenizer = datasets.tokens.load_tokenizer(bert)
    tokenizer.truncation_side = "left"
    whole, cut = load(sst2, tokenizer=bert), load(sst2, tokenizer=tokenizer, max_seq_length=4)
    for text, short in zip(whole.sources, only_batch(cut).inputs["input_ids"].tolist(), strict=True):
        assert short[1:3] == tokenizer(text)["input_ids"][-3:-1]


def test_a_tokenizer_with_more_words_than_the_model_is_refused_before_training(bert, sst2, tmp_path):
    name = save_family(tmp_path / "model", "bert", vocab_size=100)
    dataset = load(sst2, tokenizer=name)
    with refuses("166", "100"):
        models.build(name, 2, modality="text", vocabulary=dataset.vocabulary)
    assert load(sst2, tokenizer=bert).vocabulary == 167


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "xlnet", "bart"])
def test_classes_are_known_by_their_names(family, tmp_path):
    name = save_family(tmp_path / "model", family, num_labels=3)
    inputs = {"input_ids": torch.tensor([[1, 8, 9, 2]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    ours = ["entailment", "neutral", "contradiction"]

    def logits(*theirs, **options):
        edit_config(name, id2label=dict(enumerate(theirs)), label2id={label: n for n, label in enumerate(theirs)})
        model = models.build(name, 3, modality="text", label_names=ours, **options).eval()
        with torch.no_grad():
            return model(inputs)[0].tolist()

    as_it_is = logits("LABEL_0", "LABEL_1", "LABEL_2")
    assert logits(*ours) == logits("ENTAILMENT", "Neutral", "contradiction") == logits("a", "b", "c") == as_it_is
    turned = logits("CONTRADICTION", "ENTAILMENT", "NEUTRAL")
    assert turned == pytest.approx([as_it_is[1], as_it_is[2], as_it_is[0]])
    with refuses("other"):
        logits("neutral", "other", "contradiction")
    logits("neutral", "other", "contradiction", reinit_classifier=True)


def test_a_new_head_and_a_frozen_encoder(bert):
    torch.manual_seed(1)
    same, new = models.build(bert, 2, modality="text"), models.build(bert, 2, modality="text", reinit_classifier=True)
    other = models.build(bert, 3, modality="text", freeze_encoder=True)
    old, drawn = same.state_dict(), new.state_dict()
    differing = [name for name in old if not torch.equal(old[name], drawn[name])]
    assert differing == ["backbone.classifier.weight"]  # biases begin at 0
    assert [name for name, weight in other.named_parameters() if weight.requires_grad] == [
        "backbone.classifier.weight",
        "backbone.classifier.bias",
    ]
    assert same.pretrained and not models.build(bert, 2, modality="text", pretrained=False).pretrained


@pytest.mark.parametrize("save", [save_bert, save_roberta])
def test_a_text_longer_than_the_model_takes_is_refused(save, tmp_path):
    folder, without_limit = save(tmp_path / "model", positions=20), save_family(tmp_path / "xlnet", "xlnet")
    for name, length in ((folder, 20), (without_limit, 5000)):
        models.build(name, 2, modality="text", max_seq_length=length)
    with refuses("--max_seq_length"):
        models.build(folder, 2, modality="text", max_seq_length=21)


def test_a_saved_model_travels_with_its_tokenizer(classifier, sst2, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = models.build(classifier, 2, modality="text").eval()
    saved_models.save_model(tmp_path / "model", model, {"seed": 1}, ["bad", "good"])
    batch = only_batch(load(sst2, tokenizer=classifier))
    again = models.build(str(tmp_path / "model"), 2, modality="text").eval()
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenised = AutoTokenizer.from_pretrained(tmp_path / "model")(batch.columns[0], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(again(batch.inputs), model(batch.inputs))
        assert torch.allclose(theirs(**tokenised).logits, model(batch.inputs))
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    with refuses("--model_name"):
        models.build(str(tmp_path / "model"), 3, modality="text")
    assert models.build(str(tmp_path / "model"), 3, modality="text", reinit_classifier=True) is not None


# Perturbations.


@pytest.mark.parametrize("name", ["pgd", "fgsm"])
def test_an_attack_moves_words_alone_and_no_parameter_gathers_a_gradient(name, classifier, qnli):
    batch = only_batch(load(qnli, "qnli", tokenizer=classifier))
    model = models.build(classifier, 2, modality="text").eval()
    clean = model.embed(batch.inputs)
    inputs, delta = perturb_batch(name, batch, batch.labels, model, "fp32", Draws())
    moved = (inputs["inputs_embeds"] != clean).any(dim=-1)
    assert torch.equal(moved, batch.changeable) and (delta > 0).all()
    assert all(weight.grad is None for weight in model.parameters())


def test_special_tokens_move_only_if_asked_for_and_padding_never(classifier, qnli):
    batch = only_batch(load(qnli, "qnli", tokenizer=classifier))
    model = models.build(classifier, 2, modality="text").eval()
    draws = Draws(pgd_options=perturbations.PgdOptions(special_tokens=True))
    inputs, _ = perturb_batch("pgd", batch, batch.labels, model, "fp32", draws)
    moved = (inputs["inputs_embeds"] != model.embed(batch.inputs)).any(dim=-1)
    assert torch.equal(moved, batch.inputs["attention_mask"].bool()) and not moved.all()
    assert not torch.equal(moved, batch.changeable)


def test_every_script_that_attacks_texts_takes_special_tokens():
    from robust_data import complete
    from robust_data.analysis.metadata import last_perturbation
    from robust_data.judge.curve import EpochJudge

    collection = settings.Collect(attack_special_tokens=1)
    assert collection.options().special_tokens
    known = {"perturbation": "pgd", "severity": 3, "arguments": dataclasses.asdict(collection)}
    assert last_perturbation(known, 1)["pgd_options"] == collection.options()
    subset = settings.TrainSubset(attack_special_tokens=1, do_pgd_training=1)
    assert settings.of(EpochJudge, subset).pgd_options().special_tokens and subset.attack_in_training().special_tokens
    strength = conditions.settings(complete.judging(settings.Judgement(attack_special_tokens=1)))
    for condition in (conditions.Condition("attack", "pgd"), conditions.Condition("attack", "fgsm", eps=0.1)):
        assert strength.options(condition).special_tokens


def test_the_size_of_pgd_on_word_embeddings(classifier, qnli):
    dataset, model = load(qnli, "qnli", tokenizer=classifier), models.build(classifier, 2, modality="text").eval()
    batch = only_batch(dataset)
    clean = model.embed(batch.inputs).detach()

    def delta(**options):
        draws = Draws(pgd_options=perturbations.PgdOptions(**{"init_mag": 0.0} | options))
        inputs, size = perturb_batch("pgd", batch, batch.labels, model, "fp32", draws)
        moved = (inputs["inputs_embeds"] - clean).flatten(1)
        torch.testing.assert_close(size, moved.norm(dim=1))
        return moved

    free = batch.changeable.sum(dim=1) * clean.shape[2]
    start = delta(steps=0, init_mag=0.5).abs().amax(dim=1) * free.sqrt()
    assert (start <= 0.5).all() and (start > 0.45).all()
    one = torch.full((len(batch.labels),), 0.3)
    torch.testing.assert_close(delta(steps=1, lr=0.3).norm(dim=1), one)
    torch.testing.assert_close(delta(steps=1, lr=0.3, norm_type="linf").abs().amax(dim=1), one)
    torch.testing.assert_close(delta(steps=5, lr=0.3, max_norm=0.3).norm(dim=1), one)
    assert (delta(steps=5, lr=0.3).norm(dim=1) > 0.3).all()


def test_one_attack_serves_every_number_of_its_steps(classifier, sst2):
    """What is found after fewer steps, on the way, is what an attack of so few steps finds by itself."""
    dataset, model = load(sst2, tokenizer=classifier), models.build(classifier, 2, modality="text")
    sizes = [(1, 0.3), (3, 0.3), (3, 0.9)]
    under = [conditions.Condition("attack", "pgd", steps=steps, step_size=length) for steps, length in sizes]
    gradients = []
    model.register_forward_hook(lambda *_: gradients.append(1) if torch.is_grad_enabled() else None)
    judge = Judge(model, attack=conditions.AttackSettings(restarts=2))

    def found(*asked):
        gradients.clear()
        _, found = judge.judged(dataset, [conditions.CLEAN, *asked])
        return found.right[1:], found.margin[1:], len(gradients)

    right, margins, together = found(*under)
    alone = [found(condition) for condition in under]
    np.testing.assert_array_equal(right, np.concatenate([one[0] for one in alone]))
    # One that fewer steps leave standing is tried again, so its margin may fall further; and the batch is another.
    apart = margins - np.concatenate([one[1] for one in alone])
    assert np.abs(apart[right]).max() < 1e-5 and apart.max() < 1e-5
    assert not np.array_equal(margins[0], margins[1]) and not np.array_equal(margins[1], margins[2])
    assert together == alone[1][2] + alone[2][2]


@pytest.mark.parametrize(
    "name, family",
    [*product(["pgd", "char_swap", "word_drop"], ["bert", "roberta"]), *product(["pgd"], ["xlnet", "llama", "t5"])],
)
def test_a_collection_does_not_depend_on_its_batches(name, family, sst2, tmp_path):
    folder = save_family(tmp_path / "model", family)
    dataset, model = load(sst2, tokenizer=folder), models.build(folder, 2, modality="text")
    large = collect(model, dataset, [name], batch_size=64)[name]
    small = collect(model, dataset, [name], batch_size=7)[name]
    for field in ("original_loss", "after_perturb_loss", "delta_norm"):
        assert np.allclose(large[field], small[field], atol=1e-5), field
    assert np.array_equal(large["index"], np.arange(64)) and (large["delta_norm"] >= 0).all()


def test_identity_changes_nothing_and_pgd_raises_the_loss(classifier, sst2):
    dataset, model = load(sst2, tokenizer=classifier), models.build(classifier, 2, modality="text")
    options = perturbations.PgdOptions(steps=5, lr=0.3)
    collected = collect(model, dataset, ["identity", "pgd"], pgd_options=options)
    assert (records.column(collected["identity"], "loss_diff") == 0).all()
    assert (collected["identity"]["delta_norm"] == 0).all()
    assert (records.column(collected["pgd"], "loss_diff") > 0).all() and (collected["pgd"]["delta_norm"] > 0.1).all()
    clean, attacked = evaluate(model, dataset), evaluate_perturbed(model, dataset, "pgd", seed=1)
    assert attacked["loss"] > clean["loss"] and evaluate_perturbed(model, dataset, "identity") == clean


def test_the_input_gradient_of_a_text_is_that_of_its_own_tokens(classifier, sst2):
    dataset, model = load(sst2, tokenizer=classifier), models.build(classifier, 2, modality="text").eval()
    recorded = collect(model, dataset, ["identity"], input_gradient=True)["identity"]["original_input_gradient"]
    expected = []
    for batch in dataset.batches(torch.arange(64).split(1), "cpu"):  # alone a text has no padding
        embeddings = model.embed(batch.inputs).detach().requires_grad_()
        losses = torch.nn.functional.cross_entropy(model(batch.inputs | {"inputs_embeds": embeddings}), batch.labels)
        expected.append(float(torch.autograd.grad(losses, embeddings)[0].norm()))
    assert recorded == pytest.approx(expected, rel=1e-3)


TEXTS = ["it 's a charming and often affecting journey . ", "bad", "a", "  two  words ", "ten " * 10]


@pytest.mark.parametrize("name", DISCRETE)
def test_a_text_is_rewritten_alone_as_in_any_batch(name):
    for severity in range(1, 6):
        together = perturbations.perturb_texts(name, TEXTS, severity, torch.arange(5), seed=4)
        assert together == perturbations.perturb_texts(name, TEXTS, severity, torch.arange(5), seed=4)
        singly = [(TEXTS[number : number + 1], torch.tensor([number])) for number in range(5)]
        alone = [perturbations.perturb_texts(name, text, severity, index, seed=4)[0] for text, index in singly]
        assert alone == together and all(text.strip() for text in together)
    assert together[0] != TEXTS[0]
    assert perturbations.perturb_texts(name, TEXTS, 5, torch.arange(5), seed=5) != together
    assert perturbations.perturb_texts(name, TEXTS, 5, torch.arange(5), seed=4, column=1) != together


@pytest.mark.parametrize("name, edits", list(zip(perturbations.names("character"), (2, 1, 1, 1))))
def test_severity_is_the_share_of_the_words_that_is_touched(name, edits):
    text = "words " * 20
    for severity, words in enumerate((2, 4, 6, 8, 10), start=1):
        (rewritten,) = perturbations.perturb_texts(name, [text], severity, torch.tensor([3]))
        assert sum(word != "words" for word in rewritten.split()) == words
        assert perturbations.edit_distances([text], [rewritten])[0] <= edits * words


@pytest.mark.parametrize("name", ["char_swap", "char_delete", "char_insert", *perturbations.names("word")])
@pytest.mark.parametrize(
    "text", ["这部电影非常好看，我很喜欢它的音乐和画面", "この映画はとても面白かった", "ภาพยนตร์เรื่องนี้ดีมาก"]
)
def test_the_clauses_of_scripts_without_blanks_are_touched_in_many_places(name, text):
    edits = [
        perturbations.edit_distances([text], perturbations.perturb_texts(name, [text], severity, torch.tensor([0])))[0]
        for severity in (1, 5)
    ]
    assert 1 <= edits[0] < edits[1] < len(text)


def test_words_are_dropped_and_swapped_and_no_swap_is_undone():
    text = "one two three four five six seven eight nine ten"
    (dropped,) = perturbations.perturb_texts("word_drop", [text], 5, torch.tensor([0]))
    (swapped,) = perturbations.perturb_texts("word_swap", [text], 1, torch.tensor([0]))
    assert len(dropped.split()) == 5 and set(dropped.split()) < set(text.split())
    assert sorted(swapped.split()) == sorted(text.split()) and sum(map(str.__ne__, swapped.split(), text.split())) == 2
    for seed in range(200):
        (swapped,) = perturbations.perturb_texts("word_swap", ["a b c d"], 5, torch.tensor([0]), seed=seed)
        assert swapped != "a b c d" and sorted(swapped) == sorted("a b c d")


def test_the_characters_that_were_changed():
    pairs = [("a film of note", "a flim of note", 2), ("one two three", "one three", 4), ("two one", "one two", 6)]
    texts, others, expected = zip(*pairs, ("same", "same", 0))
    assert perturbations.changed_characters(texts, others).tolist() == list(expected)
    pairs = [("kitten", "sitting", 3), ("", "ab", 2), ("abc", "", 3), ("same", "same", 0), ("ab", "ba", 2)]
    texts, others, expected = zip(*pairs)
    assert perturbations.edit_distances(texts, others).tolist() == list(expected)


def test_a_perturbation_of_the_other_modality_is_refused_by_name():
    for name in DISCRETE:
        with refuses(name):
            perturbations.perturb(name, torch.rand(1, 3, 8, 8), 3, torch.tensor([0]))
        with refuses(name):
            perturbations.resolve([name])
    for name in ("blur", "family:blur", "weather"):
        with refuses("images"):
            perturbations.resolve([name], "text")
    assert perturbations.resolve(["all"], "text") == ["fgsm", "pgd", *DISCRETE, "identity"]
    assert not set(DISCRETE) & set(perturbations.names())


# The script.


def test_the_script_collects_by_pgd_under_its_name(bert, sst2, tmp_path):
    common = ("--dataset_name", "glue", "--task_name", "sst2", "--data_dir", sst2, "--model_name", bert, "--epochs", 1)
    given = map(str, [*common, "--output_dir", tmp_path])
    data_statistics.main(data_statistics.build_parser().parse_args(list(given)))
    (path,) = tmp_path.glob("*.npy")
    assert path.name.endswith("_with_untrained_model1_use_cur_preds0_tpgd_severity3.npy")
    assert "_datasetglue_tasksst2_" in path.name
    rows, about = records.load(path)
    assert rows.shape == (2, 64) and (about["perturbation"], about["dataset_name"]) == ("pgd", "glue")
    assert about["arguments"]["perturbations"] == ["pgd"] and about["arguments"]["lr"] == 2e-5
    assert json.loads(path.with_suffix(".json").read_text())["label_names"] == ["negative", "positive"]


BAD_FILES = {
    "missing column": "words,label\na,1\n",
    "empty text": "text,label\na,1\n  ,0\n",
    "hardly a label": "text,label\na,1\nb,\nc,n/a\n",
    "a column twice": "text,label,text\na,1,b\n",
    "one class": "text,label\na,x\nb,x\n",
    "no row": "text,label\n",
    "open quotation mark": 'text,label\n"a,1\n',
    "text behind a quotation": 'text,label\na,1\n"b"c,1\n',
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_refused_by_name(content, bert, tmp_path):
    (tmp_path / "mine.csv").write_text(content)
    with refuses("mine.csv"):
        datasets.load("csv", data_dir=tmp_path / "mine.csv", tokenizer=bert)


def test_a_folder_one_level_too_high_is_told_with_the_right_one(tmp_path):
    save_bert(tmp_path / "run" / "model")
    for load_it in (datasets.tokens.load_tokenizer, lambda folder: models.build(str(folder), 2)):
        with refuses("run/model"):
            load_it(tmp_path / "run")
