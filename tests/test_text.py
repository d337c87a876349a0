"""Texts: data sets, tokens, classifiers and perturbations, through the same collection as images."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from text_models import (
    BAD,
    FAMILIES,
    save_bert,
    save_family,
    save_roberta,
    sentences,
    write_sst2,
    write_tsv,
    write_zip,
)
from tokenizers import normalizers

import data_statistics
import datasets
import models
import perturbations
from datasets import download
from registry import InputError
from robust_data import records
from robust_data.collection import Draws, collect, perturb_batch
from robust_data.command_line.options import judging_pgd_options, pgd_options
from robust_data.command_line.parser import run_script
from robust_data.measuring.evaluation import evaluate, evaluate_perturbed
from robust_data.running import inference, saved_models
from robust_data.running.inference import predict

PAIRS = [("what is it ?", "it is a film", "entailment"), ("who ?", "the cast", "not_entailment")] * 4
DISCRETE = [*perturbations.names("character"), *perturbations.names("word")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    return save_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(params=["bert", "roberta"])
def classifier(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def sst2(tmp_path_factory):
    return write_sst2(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def qnli(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for split in ("train", "dev"):
        rows = [(number, *row) for number, row in enumerate(PAIRS)]
        write_tsv(folder / "QNLI" / f"{split}.tsv", ("index", "question", "sentence", "label"), rows)
    return folder


def load(folder, task="sst2", split="train", **options):
    return datasets.load("glue", split, data_dir=folder, task_name=task, **options)


def only_batch(dataset):
    return next(dataset.batches([torch.arange(len(dataset))], "cpu"))


# The published layouts.


def test_sst2_gives_train_and_dev_and_keeps_quotation_marks(tmp_path):
    write_tsv(tmp_path / "SST-2" / "train.tsv", ("sentence", "label"), [('a "quote', 1), ("ends' here", 0)])
    write_tsv(tmp_path / "SST-2" / "dev.tsv", ("sentence", "label"), [("dev", 0)])
    train, test = load(tmp_path), load(tmp_path, split="test")
    assert train.sources == ['a "quote', "ends' here"] and test.sources == ["dev"]
    assert train.labels.tolist() == [1, 0] and train.label_names == ["negative", "positive"]
    assert (train.modality, train.image_size, datasets.modality("glue")) == ("text", None, "text")


def test_pairs_are_read_by_the_names_of_their_columns(qnli):
    dataset = load(qnli, "qnli")
    assert dataset.columns == [[pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]]
    assert dataset.labels.tolist() == [0, 1] * 4 and dataset.sources[0] == "what is it ? || it is a film"


def test_mnli_is_judged_on_the_matched_set_by_the_gold_label(tmp_path):
    header = ("index", "sentence1", "sentence2", "label1", "gold_label")
    write_tsv(tmp_path / "MNLI" / "train.tsv", header, [(0, "a", "b", "neutral", "contradiction")])
    write_tsv(tmp_path / "MNLI" / "dev_matched.tsv", header, [(0, "c", "d", "neutral", "entailment")])
    assert load(tmp_path, "mnli").labels.tolist() == [2]
    assert load(tmp_path, "mnli", "test").labels.tolist() == [0]


def test_qqp_drops_and_reports_rows_with_a_missing_field(tmp_path, capsys):
    rows = [(0, 1, 2, "a ?", "b ?", 1), (1, 3, 4, "broken"), (2, 5, 6, "", "c ?", 0), (3, 7, 8, "d ?", "e ?", 0)]
    header = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
    write_tsv(tmp_path / "QQP" / "train.tsv", header, rows)
    dataset = load(tmp_path, "qqp")
    assert dataset.labels.tolist() == [1, 0] and dataset.index.tolist() == [0, 1]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and told[0].endswith("left out 1 of 4 rows with a missing field, as line 3")
    assert told[1].endswith("left out 1 of 3 rows with a missing field, as line 4")


def test_ag_news_joins_title_and_description(tmp_path, capsys):
    (tmp_path / "ag_news_csv").mkdir()
    (tmp_path / "ag_news_csv" / "test.csv").write_text('"3","A ""title""","Its text"\n"1","B","C"\n')
    dataset = datasets.load("ag_news", "test", data_dir=tmp_path)
    assert dataset.sources == ['A "title" Its text', "B C"] and dataset.labels.tolist() == [2, 0]
    assert dataset.label_names == ["World", "Sports", "Business", "Sci/Tech"]
    assert "is not the official file" in capsys.readouterr().err


def write_imdb(folder):
    for split in ("train", "test"):
        for label in ("neg", "pos"):
            (folder / "aclImdb" / split / label).mkdir(parents=True)
            for number in range(2):
                (folder / "aclImdb" / split / label / f"{number}_7.txt").write_text(f"{split} {label} {number}")


def test_imdb_is_read_from_its_folder_or_its_archive(tmp_path):
    write_imdb(tmp_path / "made")
    expected = ["test neg 0", "test neg 1", "test pos 0", "test pos 1"]
    assert datasets.load("imdb", "test", data_dir=tmp_path / "made").sources == expected
    assert datasets.load("imdb", "test", data_dir=tmp_path / "made" / "aclImdb").sources == expected
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "aclImdb_v1.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "aclImdb", "aclImdb")
    dataset = datasets.load("imdb", "test", data_dir=tmp_path / "packed")
    assert dataset.sources == expected and dataset.labels.tolist() == [0, 0, 1, 1]
    assert sorted(path.name for path in (tmp_path / "packed").iterdir()) == ["aclImdb", "aclImdb_v1.tar.gz"]


# Archives.


def test_a_zip_that_lies_in_the_data_folder_is_read_in_place_with_a_warning(sst2, tmp_path, capsys):
    write_zip(tmp_path / "SST-2.zip", sst2)
    assert load(tmp_path).sources == load(sst2).sources
    assert "SST-2.zip is not the official file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["SST-2.zip"]


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A function that lets a file stand for what the network has, and says how often it was fetched."""
    fetched = []

    def publish(path):
        def download_url(url, root, filename):
            fetched.append(url)
            (root / filename).write_bytes(path.read_bytes())

        monkeypatch.setattr("torchvision.datasets.utils.download_url", download_url)
        return fetched

    return publish


def test_a_download_is_verified_and_kept(sst2, tmp_path, monkeypatch, published):
    archive = write_zip(tmp_path / "source.zip", sst2)
    fetched = published(archive)
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    task = datasets.text.TASKS["sst2"]
    monkeypatch.setitem(
        datasets.text.TASKS._entries,
        "sst2",
        SimpleNamespace(**vars(task) | {"archive": download.OfficialFile(task.archive.url, "md5", digest)}),
    )
    for _ in range(2):
        assert len(load(tmp_path / "new", download=True)) == 64
    assert fetched == ["https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"]


def test_a_download_that_does_not_match_is_removed(sst2, tmp_path, published):
    published(write_zip(tmp_path / "source.zip", sst2))
    with pytest.raises(InputError, match="SST-2.zip does not match its md5 9f81648d4199384278b86e315dac217c"):
        load(tmp_path / "new", download=True)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("member", ["../evil.txt", "/evil.txt", "SST-2/../../evil.txt"])
def test_an_archive_member_that_leaves_its_folder_is_refused(tmp_path, member):
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "data" / "SST-2.zip", "w") as archive:
        archive.writestr("SST-2/train.tsv", "sentence\tlabel\na\t1\nb\t0\n")
        archive.writestr(member, "x")
    with tarfile.open(tmp_path / "data" / "aclImdb_v1.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    for name in ("glue", "imdb"):
        with pytest.raises(InputError, match="which leaves its folder; nothing was unpacked"):
            datasets.load(name, data_dir=tmp_path / "data", task_name="sst2")
    assert len(list(tmp_path.iterdir())) == 1 and len(list((tmp_path / "data").iterdir())) == 2


def test_a_damaged_archive_is_refused(tmp_path):
    (tmp_path / "SST-2.zip").write_bytes(b"PK not an archive")
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(b"\x1f\x8b not an archive")
    for name in ("glue", "imdb"):
        with pytest.raises(InputError, match="cannot be unpacked"):
            datasets.load(name, data_dir=tmp_path, task_name="sst2")


def test_processes_take_turns_at_unpacking_and_tokenise_together(sst2, bert, tmp_path, monkeypatch):
    turns = []

    @contextlib.contextmanager
    def in_turn():
        turns.append("begin")
        yield
        turns.append("end")

    for module, name in ((download, "_unpacked"), (datasets.tokens, "tokenise")):
        whole = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, whole=whole: turns.append(whole.__name__) or whole(*given))
    write_imdb(tmp_path / "made")
    with tarfile.open(tmp_path / "aclImdb_v1.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "made" / "aclImdb", "aclImdb")
    datasets.load("imdb", data_dir=tmp_path, tokenizer=bert, in_turn=in_turn)
    assert turns == ["begin", "_unpacked", "end", "tokenise"]


# Files of one's own.


def test_an_archive_that_opens_but_cannot_be_read_is_refused(sst2, tmp_path):
    archive = write_zip(tmp_path / "SST-2.zip", sst2)
    with zipfile.ZipFile(archive) as contents:
        place = contents.getinfo("SST-2/train.tsv").header_offset + 60
    damaged = bytearray(archive.read_bytes())
    damaged[place : place + 4] = b"????"
    archive.write_bytes(damaged)
    with pytest.raises(InputError, match="SST-2/train.tsv cannot be read, its archive is damaged"):
        load(tmp_path)


def test_a_carriage_return_within_a_text_does_not_end_its_row(tmp_path):
    write_tsv(tmp_path / "SST-2" / "train.tsv", ("sentence", "label"), [("one\rtext", 1), ("windows", "0\r")])
    assert load(tmp_path).sources == ["one\rtext", "windows"]


def write_csv(path, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_csv_may_name_its_labels_and_columns(tmp_path):
    rows = [("id", "says", "feels"), (7, 'so, "well"\nsaid', "joy"), (8, "no", "anger"), (9, "ah", "joy")]
    path = write_csv(tmp_path / "mine.csv", rows)
    dataset = datasets.load("csv", data_dir=path, text_column="says", label_column="feels")
    assert dataset.sources == ['so, "well"\nsaid', "no", "ah"]
    assert (dataset.label_names, dataset.labels.tolist()) == (["anger", "joy"], [1, 0, 1])
    with pytest.raises(datasets.MissingSplit, match="holds no test.csv"):
        datasets.load("csv", "test", data_dir=path, text_column="says", label_column="feels")


def test_a_folder_of_tsv_files_has_the_classes_of_train(tmp_path):
    write_tsv(tmp_path / "train.tsv", ("text", "other", "label"), [("a", "b", 2), ("c", "d", 0), ("e", "f", 1)])
    write_tsv(tmp_path / "test.tsv", ("label", "text", "other"), [(1, "e", "f")])
    options = {"data_dir": tmp_path, "text_pair_column": "other"}
    train, test = datasets.load("tsv", **options), datasets.load("tsv", "test", **options)
    assert train.label_names == test.label_names == ["0", "1", "2"]
    assert test.columns == [["e"], ["f"]] and test.labels.tolist() == [1]


LABELS = {
    "stars": ("5 1 3 10", ["1", "3", "5", "10"], [2, 0, 1, 3]),
    "signs": ("1 -1 +1", ["-1", "1"], [1, 0, 1]),
    "points": ("1.0 0.0 1 0.50", ["0", "0.5", "1"], [2, 0, 2, 1]),
    "names": ("b a 10 9", ["10", "9", "a", "b"], [3, 2, 0, 1]),
}


@pytest.mark.parametrize("written, names, labels", LABELS.values(), ids=LABELS)
def test_distinct_labels_are_the_classes(written, names, labels, tmp_path):
    rows = [(f"text {number}", label) for number, label in enumerate(written.split())]
    dataset = datasets.load("csv", data_dir=write_csv(tmp_path / "mine.csv", [("text", "label"), *rows]))
    assert (dataset.label_names, dataset.labels.tolist()) == (names, labels)


def test_test_has_the_classes_of_train_however_numbers_are_written(tmp_path):
    write_csv(tmp_path / "train.csv", [("text", "label"), ("a", 1), ("b", 5)])
    write_csv(tmp_path / "test.csv", [("text", "label"), ("c", "5.0")])
    test = datasets.load("csv", "test", data_dir=tmp_path)
    assert (test.label_names, test.labels.tolist()) == (["1", "5"], [1])
    write_csv(tmp_path / "test.csv", [("text", "label"), ("c", 3)])
    with pytest.raises(InputError, match=r"test.csv line 2: label '3' is none of the classes: 1, 5"):
        datasets.load("csv", "test", data_dir=tmp_path)


WRITTEN = {
    "semicolons": ("text;label\na,é;x\nb;y\n", "utf-8", {}),
    "tabs": ('text\tlabel\n"a,é"\tx\nb\ty\n', "utf-8", {}),
    "a mark": ('text,label\n"a,é",x\nb,y\n', "utf-8-sig", {}),
    "UTF-16": ('text,label\n"a,é",x\nb,y\n', "utf-16", {}),
    "Latin-1": ("text;label\na,é;x\nb;y\n", "latin-1", {"encoding": "latin-1"}),
    "Windows": ('text,label\r\n"a,é",x\r\nb,y\r\n', "cp1252", {"encoding": "cp1252"}),
}


@pytest.mark.parametrize("content, encoding, options", WRITTEN.values(), ids=WRITTEN)
def test_a_table_may_be_written_otherwise(content, encoding, options, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(content.encode(encoding))
    dataset = datasets.load("csv", data_dir=path, **options)
    assert dataset.sources == ["a,é", "b"] and dataset.label_names == ["x", "y"]


@pytest.mark.parametrize(
    "encoding, options, message",
    [
        ("latin-1", {}, "is not in utf-8-sig .*; pass --encoding, such as latin-1"),
        ("utf-16-le", {"encoding": "utf-8"}, "pass --encoding utf-16-le or utf-16-be"),
        ("utf-8", {"encoding": "utf8000"}, "--encoding utf8000 is not known"),
    ],
)
def test_what_to_pass_for_another_encoding_is_told(encoding, options, message, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(("text,label\na,x\nb,y\n" + "é,x\n" * (encoding == "latin-1")).encode(encoding))
    with pytest.raises(InputError, match=message):
        datasets.load("csv", data_dir=path, **options)


def test_rows_without_a_label_are_reported_and_dropped(tmp_path, capsys):
    rows = [("a", "x"), ("b", "-"), ("c", "NaN"), ("d", "y"), ("e", " "), ("f", "x")]
    dataset = datasets.load("csv", data_dir=write_csv(tmp_path / "mine.csv", [("text", "label"), *rows]))
    assert dataset.sources == ["a", "d", "f"] and dataset.index.tolist() == [0, 1, 2]
    assert capsys.readouterr().err.endswith("left out 3 of 6 rows with no label, as line 3\n")


def test_a_row_with_more_cells_than_the_header_is_reported(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    path.write_text("text,label\nwarm, and wise,x\ncold,y\ngood,x,\n")
    dataset = datasets.load("csv", data_dir=path)
    assert (dataset.sources, dataset.label_names) == (["cold", "good"], ["x", "y"])
    assert "left out 1 of 3 rows with more or fewer fields than the header, as line 2" in capsys.readouterr().err


def test_a_document_may_be_long(tmp_path):
    path = write_csv(tmp_path / "mine.csv", [("text", "label"), ("word " * 40_000, "x"), ("b", "y")])
    assert len(datasets.load("csv", data_dir=path).sources[0]) == 200_000


def test_quotation_marks_in_a_tsv_are_told(tmp_path, capsys):
    (tmp_path / "mine.tsv").write_text('text\tlabel\n"a"\tx\n"b"\ty\n')
    assert datasets.load("tsv", data_dir=tmp_path / "mine.tsv").sources == ['"a"', '"b"']
    assert "2 texts stand in quotation marks, which are kept; csv takes them off" in capsys.readouterr().err


# Tokens.


def test_a_batch_is_padded_to_its_own_longest_text(bert, sst2):
    dataset = load(sst2, tokenizer=bert)
    tokenizer = datasets.tokens.load_tokenizer(bert)
    positions = torch.tensor([5, 2, 9])
    batch = next(dataset.batches([positions], "cpu"))
    expected = tokenizer([dataset.sources[place] for place in positions], padding=True, return_tensors="pt")
    assert batch.inputs.keys() == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(torch.equal(batch.inputs[name], expected[name]) for name in batch.inputs)
    assert batch.index.tolist() == [5, 2, 9] and batch.labels.tolist() == dataset.labels[positions].tolist()
    # Neither [CLS], nor [SEP], nor padding.
    assert torch.equal(batch.changeable, expected["input_ids"] > 4)
    assert batch.columns == [[dataset.sources[place] for place in positions]]


def test_a_pair_has_token_types_where_the_tokenizer_makes_them(qnli, bert, roberta):
    with_types, without = (only_batch(load(qnli, "qnli", tokenizer=model)) for model in (bert, roberta))
    assert with_types.inputs["token_type_ids"].unique().tolist() == [0, 1]
    assert "token_type_ids" not in without.inputs
    # <s> a </s></s> b </s>
    fixed = without.inputs["attention_mask"].bool() & ~without.changeable
    assert fixed.sum(dim=1).tolist() == [4] * len(PAIRS)


def test_texts_are_cut_to_the_length_asked_for(bert, sst2):
    batch = only_batch(load(sst2, tokenizer=bert, max_seq_length=6))
    assert batch.inputs["input_ids"].shape[1] == 6 and (batch.inputs["attention_mask"].sum(dim=1) <= 6).all()


def test_a_subset_keeps_index_texts_and_tokens(bert, sst2):
    whole, part = load(sst2, tokenizer=bert), load(sst2, tokenizer=bert, dataset_len=10, seed=3)
    assert len(part) == 10 and part.labels.bincount().tolist() == [5, 5]
    assert part.sources == [whole.sources[index] for index in part.index]
    other = next(whole.batches([part.index], "cpu"))
    again = whole.subset(part.index)
    for batch in (only_batch(part), only_batch(again)):
        assert all(torch.equal(batch.inputs[name], other.inputs[name]) for name in other.inputs)
        assert batch.columns == other.columns and torch.equal(batch.index, part.index)


def test_without_a_tokenizer_there_are_texts_but_no_batches(sst2):
    with pytest.raises(InputError, match="loaded without a tokenizer"):
        only_batch(load(sst2))


def test_sorting_by_length_wastes_little_on_padding(bert, tmp_path):
    """Lengths as in SST-2: most phrases short, a few of up to fifty words."""
    lengths = np.clip(np.random.default_rng(0).gamma(1.3, 7.5, 6000).astype(int), 1, 52)
    rows = [("a " * length, number % 2) for number, length in enumerate(lengths)]
    write_tsv(tmp_path / "train.tsv", ("text", "label"), rows)
    dataset = datasets.load("tsv", data_dir=tmp_path, tokenizer=bert)
    order = dataset.collection_order()
    assert order.sort().values.tolist() == list(range(6000))
    masks = [batch.inputs["attention_mask"] for batch in dataset.batches(order.split(256), "cpu")]
    padding = sum(int((mask == 0).sum()) for mask in masks) / sum(mask.numel() for mask in masks)
    assert padding < 0.1
    # Stable: equal lengths stay in the order of the data set.
    sizes = dataset.tokens.lengths[order]
    assert (sizes.diff() >= 0).all() and (order.diff()[sizes.diff() == 0] > 0).all()


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
    with pytest.raises(InputError, match="pgd and fgsm cannot attack it"):
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
    alone_as_in_a_batch(save_family(tmp_path / "model", family))


@pytest.mark.parametrize("family", ["roberta", "gpt2", "llama", "bart"])
def test_so_it_has_without_a_padding_token(family, tmp_path, alone_as_in_a_batch):
    alone_as_in_a_batch(save_family(tmp_path / "model", family, padding_token=False))


def test_texts_are_padded_where_the_model_takes_it(tmp_path, alone_as_in_a_batch):
    paddings = {"fnet": None, "xlnet": "left", "llama": "right"}
    for family, padding in paddings.items():
        assert alone_as_in_a_batch(save_family(tmp_path / family, family)).padding == padding


def test_of_several_tokens_that_end_a_text_the_first_counts(tmp_path, alone_as_in_a_batch):
    name = save_family(tmp_path / "model", "bart")
    edit_config(name, eos_token_id=[2, 5])
    alone_as_in_a_batch(name)


@pytest.mark.parametrize("name, value", [("return_dict", False), ("pad_token_id", -1), ("pad_token_id", None)])
def test_a_config_may_say_what_does_not_matter(name, value, tmp_path, alone_as_in_a_batch):
    folder = save_family(tmp_path / "model", "llama")
    edit_config(folder, **{name: value})
    alone_as_in_a_batch(folder)


def edit_config(folder, **changes):
    path = Path(folder) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("family", ["xlnet", "llama", "t5"])
def test_pgd_does_not_depend_on_the_batch_where_texts_are_padded_otherwise(family, sst2, tmp_path):
    name = save_family(tmp_path / "model", family)
    dataset, model = load(sst2, tokenizer=name), models.build(name, 2, modality="text")
    large, small = (collect(model, dataset, ["pgd"], batch_size=size)["pgd"] for size in (64, 7))
    for field in ("original_loss", "after_perturb_loss", "delta_norm"):
        assert np.allclose(large[field], small[field], atol=1e-5), field
    assert (records.column(large, "loss_diff") > 0).all()


def test_an_end_of_text_within_a_text_is_letters(tmp_path):
    name = save_family(tmp_path / "model", "bart")
    write_csv(tmp_path / "mine.csv", [("text", "label"), ("good [SEP] film", "x"), ("bad", "y")])
    dataset = datasets.load("csv", data_dir=tmp_path / "mine.csv", tokenizer=name)
    ids = only_batch(dataset).inputs["input_ids"]
    assert (ids == dataset.tokenizer.eos_token_id).sum(dim=1).tolist() == [1, 1]
    assert models.build(name, 2, modality="text")(only_batch(dataset).inputs).shape == (2, 2)


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
    with pytest.raises(InputError, match="its tokenizer numbers 166 tokens, the model knows 100; give them the same"):
        models.build(name, 2, modality="text", vocabulary=dataset.vocabulary)
    assert load(sst2, tokenizer=bert).vocabulary == 167


def test_a_model_without_a_limit_takes_any_length(tmp_path):
    name = save_family(tmp_path / "model", "xlnet")
    assert models.build(name, 2, modality="text", max_seq_length=5000) is not None


def test_a_padding_token_that_is_a_list_is_one_line(tmp_path):
    name = save_family(tmp_path / "model", "bert")
    edit_config(name, pad_token_id=[0, 1])
    with pytest.raises(InputError, match="no text classifier could be loaded .*pad_token_id"):
        models.build(name, 2, modality="text")


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
    with pytest.raises(InputError, match="numbers its classes neutral, other, contradiction, the dataset entailment"):
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
    folder = save(tmp_path, positions=20)
    models.build(folder, 2, modality="text", max_seq_length=20)
    with pytest.raises(InputError, match="--max_seq_length 21 is beyond the 20 tokens"):
        models.build(folder, 2, modality="text", max_seq_length=21)


def test_a_saved_model_travels_with_its_tokenizer(classifier, sst2, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = models.build(classifier, 2, modality="text").eval()
    saved_models.save_model(tmp_path / "model", model, SimpleNamespace(seed=1), ["bad", "good"])
    batch = only_batch(load(sst2, tokenizer=classifier))
    again = models.build(str(tmp_path / "model"), 2, modality="text").eval()
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    tokenised = AutoTokenizer.from_pretrained(tmp_path / "model")(batch.columns[0], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(again(batch.inputs), model(batch.inputs))
        assert torch.allclose(theirs(**tokenised).logits, model(batch.inputs))
    assert theirs.config.id2label == {0: "bad", 1: "good"}
    with pytest.raises(InputError, match="tells 2 classes apart, the dataset has 3"):
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
    import data_statistics
    import evaluate_robustness
    import finetune_with_select_data
    from robust_data.command_line import conditions, resolve
    from robust_data.measuring.metadata import last_perturbation

    given = ["--attack_special_tokens", "1"]
    args = data_statistics.build_parser().parse_args(given)
    assert pgd_options(args).special_tokens
    known = {"perturbation": "pgd", "severity": 3, "arguments": vars(args)}
    assert last_perturbation(known, 1)["pgd_options"] == pgd_options(args)
    args = finetune_with_select_data.build_parser().parse_args([*given, "--statistics_source", "x"])
    assert judging_pgd_options(args).special_tokens and pgd_options(args).special_tokens
    settings = conditions.settings(resolve.judging(evaluate_robustness.build_parser().parse_args(given)))
    for condition in (conditions.Condition("attack", "pgd"), conditions.Condition("attack", "fgsm", eps=0.1)):
        assert settings.options(condition).special_tokens


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


@pytest.mark.parametrize("name", ["pgd", "char_swap", "word_drop"])
def test_a_collection_does_not_depend_on_its_batches(name, classifier, sst2):
    dataset, model = load(sst2, tokenizer=classifier), models.build(classifier, 2, modality="text")
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


def test_the_input_gradient_of_a_text_is_that_of_its_own_tokens(classifier, sst2):
    dataset, model = load(sst2, tokenizer=classifier), models.build(classifier, 2, modality="text").eval()
    recorded = collect(model, dataset, ["identity"], input_gradient=True)["identity"]["original_input_gradient"]
    expected = []
    for batch in dataset.batches(torch.arange(64).split(1), "cpu"):  # alone a text has no padding
        embeddings = model.embed(batch.inputs).detach().requires_grad_()
        losses = torch.nn.functional.cross_entropy(model(batch.inputs | {"inputs_embeds": embeddings}), batch.labels)
        expected.append(float(torch.autograd.grad(losses, embeddings)[0].norm()))
    assert recorded == pytest.approx(expected, rel=1e-3)


def test_texts_are_evaluated_as_images_are(bert, sst2):
    dataset, model = load(sst2, tokenizer=bert), models.build(bert, 2, modality="text")
    clean, attacked = evaluate(model, dataset), evaluate_perturbed(model, dataset, "pgd", seed=1)
    assert attacked["loss"] > clean["loss"] and evaluate_perturbed(model, dataset, "identity") == clean


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


def test_words_are_dropped_and_swapped():
    text = "one two three four five six seven eight nine ten"
    (dropped,) = perturbations.perturb_texts("word_drop", [text], 5, torch.tensor([0]))
    (swapped,) = perturbations.perturb_texts("word_swap", [text], 1, torch.tensor([0]))
    assert len(dropped.split()) == 5 and set(dropped.split()) < set(text.split())
    assert sorted(swapped.split()) == sorted(text.split()) and sum(map(str.__ne__, swapped.split(), text.split())) == 2


def test_a_swap_is_never_undone():
    for seed in range(200):
        (swapped,) = perturbations.perturb_texts("word_swap", ["a b c d"], 5, torch.tensor([0]), seed=seed)
        assert swapped != "a b c d" and sorted(swapped) == sorted("a b c d")


def test_the_characters_that_were_changed():
    pairs = [("a film of note", "a flim of note", 2), ("one two three", "one three", 4), ("two one", "one two", 6)]
    texts, others, expected = zip(*pairs, ("same", "same", 0))
    assert perturbations.changed_characters(texts, others).tolist() == list(expected)


def test_edit_distances():
    pairs = [("kitten", "sitting", 3), ("", "ab", 2), ("abc", "", 3), ("same", "same", 0), ("ab", "ba", 2)]
    texts, others, expected = zip(*pairs)
    assert perturbations.edit_distances(texts, others).tolist() == list(expected)


def test_a_perturbation_of_the_other_modality_is_refused_by_name():
    for name in DISCRETE:
        with pytest.raises(InputError, match=f"'{name}' acts on texts, not on images"):
            perturbations.perturb(name, torch.rand(1, 3, 8, 8), 3, torch.tensor([0]))
        with pytest.raises(InputError, match="acts on texts"):
            perturbations.resolve([name])
    for name in ("blur", "family:blur", "weather"):
        with pytest.raises(InputError, match="acts on images, not on texts"):
            perturbations.resolve([name], "text")
    assert perturbations.resolve(["all"], "text") == ["fgsm", "pgd", *DISCRETE, "identity"]
    assert not set(DISCRETE) & set(perturbations.names())


# The script.


def run(capsys, monkeypatch, *options):
    """Run data_statistics.py in this process: status and the lines on stderr."""
    monkeypatch.setattr(sys, "argv", ["data_statistics.py", *map(str, options)])
    status = 0
    try:
        run_script(data_statistics.build_parser(), data_statistics.main)
    except SystemExit as exit:
        status = exit.code
    return status, capsys.readouterr().err.splitlines()


def test_the_script_collects_by_pgd_under_its_name(bert, sst2, tmp_path, capsys, monkeypatch):
    common = ("--dataset_name", "glue", "--task_name", "sst2", "--data_dir", sst2, "--model_name", bert, "--epochs", 1)
    assert run(capsys, monkeypatch, *common, "--output_dir", tmp_path)[0] == 0
    (path,) = tmp_path.glob("*.npy")
    assert path.name.endswith("_with_untrained_model1_use_cur_preds0_tpgd_severity3.npy")
    assert "_datasetglue_tasksst2_" in path.name
    rows, about = records.load(path)
    assert rows.shape == (2, 64) and (about["perturbation"], about["dataset_name"]) == ("pgd", "glue")
    assert about["arguments"]["perturbations"] == ["pgd"] and about["arguments"]["lr"] == 2e-5
    assert json.loads(path.with_suffix(".json").read_text())["label_names"] == ["negative", "positive"]


BAD_FILES = {
    "missing column": ("words,label\na,1\n", "'text', only words, label; name one of them with --text_column"),
    "empty text": ("text,label\na,1\n  ,0\n", "line 3: the text is empty"),
    "hardly a label": ("text,label\na,1\nb,\nc,n/a\n", "2 of 3 rows have no label in column 'label', as line 3"),
    "a column twice": ("text,label,text\na,1,b\n", "has 2 columns 'text'; give each a name of its own"),
    "one class": ("text,label\na,x\nb,x\n", "has one class, 'x'"),
    "no row": ("text,label\n", "holds no complete row"),
    "open quotation mark": ('text,label\n"a,1\n', "is no table (unexpected end of data)"),
}


@pytest.mark.parametrize("content, message", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_line_and_status_2(content, message, bert, tmp_path, capsys, monkeypatch):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    options = ("--dataset_name", "csv", "--data_dir", path, "--model_name", bert, "--output_dir", tmp_path)
    status, lines = run(capsys, monkeypatch, *options)
    assert status == 2 and len(lines) == 1 and message in lines[0], lines


BAD_OPTIONS = {
    "no task": ((), "--task_name is missing; for glue give one of sst2, qnli, qqp, mnli"),
    "unknown task": (("--task_name", "sst"), "unknown task of glue 'sst'; nearest: sst2"),
    "not there": (("--task_name", "mnli"), "holds no MNLI.zip, nor what it contains; --download 1 fetches it"),
    "too long": (("--task_name", "sst2", "--max_seq_length", 600), "--max_seq_length 600 is beyond the 128 tokens"),
    "too short": (("--task_name", "sst2", "--max_seq_length", 2), "--max_seq_length 2 leaves no room"),
    "for images": (("--task_name", "sst2", "-t", "blur"), "perturbation 'blur' acts on images, not on texts"),
    "for pixels": (("--task_name", "sst2", "--model_name", "small_cnn"), "--model_name small_cnn classifies images"),
    "no such folder": (("--task_name", "sst2", "--model_name", "runs/a/b"), "--model_name runs/a/b: there is no such"),
    "no network": (
        ("--task_name", "sst2", "--model_name", "bert-base-uncased"),
        "--model_name bert-base-uncased: not in the cache, and the hub cannot be reached (",
    ),
}


@pytest.mark.parametrize("options, message", BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_a_bad_option_is_one_line_and_status_2(options, message, bert, sst2, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    common = ("--dataset_name", "glue", "--data_dir", sst2, "--model_name", bert, "--output_dir", tmp_path)
    status, lines = run(capsys, monkeypatch, *common, *options)
    assert status == 2 and len(lines) == 1 and message in lines[0], lines


def test_a_folder_one_level_too_high_is_told_with_the_right_one(tmp_path):
    save_bert(tmp_path / "run" / "model")
    for load_it in (datasets.tokens.load_tokenizer, lambda folder: models.build(str(folder), 2)):
        with pytest.raises(InputError, match="holds no config.json; give .*/run/model$"):
            load_it(tmp_path / "run")


def test_an_archive_that_is_not_the_official_one_can_be_used_as_it_is(sst2, tmp_path, monkeypatch):
    write_zip(tmp_path / "SST-2.zip", sst2)

    def fail(*_):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fail)
    with pytest.raises(InputError, match="SST-2.zip: found, but not the official archive .*; --download 0 uses it"):
        load(tmp_path, download=True)
    assert len(load(tmp_path)) == 64


def test_a_text_perturbation_of_images_is_refused(tmp_path, capsys, monkeypatch):
    status, lines = run(capsys, monkeypatch, "-t", "char_swap", "--output_dir", tmp_path)
    assert status == 2 and len(lines) == 1 and "'char_swap' acts on texts, not on images" in lines[0]


def test_a_pair_task_with_one_column_is_refused(bert, tmp_path, capsys, monkeypatch):
    write_tsv(tmp_path / "QNLI" / "train.tsv", ("question", "label"), [("a", "entailment")])
    common = ("--dataset_name", "glue", "--task_name", "qnli", "--data_dir", tmp_path, "--model_name", bert)
    status, lines = run(capsys, monkeypatch, *common, "--output_dir", tmp_path)
    assert status == 2 and len(lines) == 1 and "has no column 'sentence', only question, label" in lines[0]


def test_the_sentences_of_the_tests_tell_their_label():
    texts, labels = sentences(20)
    assert [any(word in text.split() for word in BAD) for text in texts] == [label == 0 for label in labels]
