"""Texts: the published data sets, tables of one's own, and tokens."""

import dataclasses
import hashlib
import io
import tarfile
import urllib.error

import numpy as np
import pytest
import torch
from conftest import refuses
from text_models import PAIRS, load, only_batch, write_csv, write_tsv, write_zip

from robust_data import datasets
from robust_data.datasets import download

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
            # As an archiver of macOS leaves it behind.
            (folder / "aclImdb" / split / label / "._0_7.txt").write_bytes(b"\0\5\x16\7\0\2Mac OS X")


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


def test_a_download_is_verified_and_kept_or_removed(sst2, tmp_path, monkeypatch, published):
    archive = write_zip(tmp_path / "source.zip", sst2)
    fetched = published(archive)
    with refuses("SST-2.zip"):
        load(tmp_path / "new", download=True)
    assert list((tmp_path / "new").iterdir()) == []
    task = datasets.text.TASKS["sst2"]
    file = download.OfficialFile(task.archive.url, "md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setitem(datasets.text.TASKS._entries, "sst2", dataclasses.replace(task, archive=file))
    for _ in range(2):
        assert len(load(tmp_path / "new", download=True)) == 64
    assert fetched == ["https://dl.fbaipublicfiles.com/glue/data/SST-2.zip"] * 2


def test_a_download_that_fails_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    def fails(url, root, filename):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", fails)
    with refuses("--download 1"):
        load(tmp_path / "new", download=True)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize("member", ["../evil.txt", "/evil.txt", "aclImdb/../../evil.txt"])
def test_an_archive_member_that_leaves_its_folder_is_refused(tmp_path, member):
    (tmp_path / "data").mkdir()
    with tarfile.open(tmp_path / "data" / "aclImdb_v1.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(member), io.BytesIO())
    with refuses("aclImdb_v1.tar.gz"):
        datasets.load("imdb", data_dir=tmp_path / "data")
    assert len(list(tmp_path.iterdir())) == 1 and len(list((tmp_path / "data").iterdir())) == 1


# Files of one's own.


def test_a_carriage_return_within_a_text_does_not_end_its_row(tmp_path):
    write_tsv(tmp_path / "SST-2" / "train.tsv", ("sentence", "label"), [("one\rtext", 1), ("windows", "0\r")])
    assert load(tmp_path).sources == ["one\rtext", "windows"]


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
    "numbers and a name": ("1 0 1.0 0 other", ["0", "1", "other"], [1, 0, 1, 0, 2]),
    "codes": ("007 7 7.0 07", ["007", "07", "7"], [0, 2, 2, 1]),
    "two forms of é": ("\u00e9t\u00e9 e\u0301te\u0301 a", ["a", "\u00e9t\u00e9"], [1, 1, 0]),
    "names": ("b a 10 9", ["10", "9", "a", "b"], [3, 2, 0, 1]),
}


@pytest.mark.parametrize("written, names, labels", LABELS.values(), ids=LABELS)
def test_distinct_labels_are_the_classes(written, names, labels, tmp_path):
    rows = [(f"text {number}", label) for number, label in enumerate(written.split())]
    dataset = datasets.load("csv", data_dir=write_csv(tmp_path / "mine.csv", [("text", "label"), *rows]))
    assert (dataset.label_names, dataset.labels.tolist()) == (names, labels)


def test_labels_that_look_alike_are_named(tmp_path, capsys):
    labels = ("True", "true", "pos", "pos\N{ZERO WIDTH SPACE}", "07", "7", "other")
    path = write_csv(tmp_path / "mine.csv", [("text", "label"), *(("a", label) for label in labels)])
    assert len(datasets.load("csv", data_dir=path).label_names) == 7
    (told,) = capsys.readouterr().err.splitlines()
    assert all(pair in told for pair in ("'True' and 'true'", r"'pos' and 'pos\u200b'", "'07' and '7'"))
    assert "other" not in told


def test_test_has_the_classes_of_train_however_they_are_written(tmp_path):
    write_csv(tmp_path / "train.csv", [("text", "label"), ("a", 1), ("b", "\u00e9")])
    write_csv(tmp_path / "test.csv", [("text", "label"), ("c", "e\u0301"), ("d", "1.0")])
    test = datasets.load("csv", "test", data_dir=tmp_path)
    assert (test.label_names, test.labels.tolist()) == (["1", "\u00e9"], [1, 0])
    write_csv(tmp_path / "test.csv", [("text", "label"), ("c", 3)])
    with refuses("test.csv"):
        datasets.load("csv", "test", data_dir=tmp_path)


WRITTEN = {
    "semicolons": ("text;label\na,é;x\nb;y\n", "utf-8", {}),
    "tabs": ('text\tlabel\n"a,é"\tx\nb\ty\n', "utf-8", {}),
    "a mark": ('text,label\n"a,é",x\nb,y\n', "utf-8-sig", {}),
    "UTF-16": ('text,label\n"a,é",x\nb,y\n', "utf-16", {}),
    "Latin-1": ("text;label\na,é;x\nb;y\n", "latin-1", {"encoding": "latin-1"}),
    "blanks in the header": (' text ; label\n"a,é";x\nb;y\n', "utf-8", {}),
    "Windows": ('text,label\r\n"a,é",x\r\nb,y\r\n', "cp1252", {"encoding": "cp1252"}),
}


@pytest.mark.parametrize("content, encoding, options", WRITTEN.values(), ids=WRITTEN)
def test_a_table_may_be_written_otherwise(content, encoding, options, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(content.encode(encoding))
    dataset = datasets.load("csv", data_dir=path, **options)
    assert dataset.sources == ["a,é", "b"] and dataset.label_names == ["x", "y"]


@pytest.mark.parametrize(
    "encoding, options", [("latin-1", {}), ("utf-16-le", {"encoding": "utf-8"}), ("utf-8", {"encoding": "utf8000"})]
)
def test_what_to_pass_for_another_encoding_is_told(encoding, options, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(("text,label\na,x\nb,y\n" + "é,x\n" * (encoding == "latin-1")).encode(encoding))
    with refuses("--encoding"):
        datasets.load("csv", data_dir=path, **options)


@pytest.mark.parametrize(
    "start, named",
    [(b"PK\3\4", "workbook"), (b"\x1f\x8b\x08\0", "gzip"), (b"PAR1", "Parquet"), (b"id;Text;a\n1;b;", "--text_column")],
)
def test_a_file_of_another_kind_says_what_it_is(start, named, tmp_path):
    (tmp_path / "mine.csv").write_bytes(start + bytes(range(33, 100)))
    with refuses(named):
        datasets.load("csv", data_dir=tmp_path / "mine.csv")


def test_rows_without_a_label_or_with_more_cells_than_the_header_are_reported_and_dropped(tmp_path, capsys):
    rows = [("a" * 200_000, "x"), ("b", "-"), ("c", "NaN"), ("d", "y"), ("e", " "), ("f", "x"), ("warm", "wise", "x")]
    dataset = datasets.load("csv", data_dir=write_csv(tmp_path / "mine.csv", [("text", "label"), *rows]))
    assert dataset.sources == ["a" * 200_000, "d", "f"] and dataset.index.tolist() == [0, 1, 2]
    told = capsys.readouterr().err.splitlines()
    assert [("left out 1 of 7 rows" in told[0], "line 8" in told[0]), "left out 3 of 6 rows" in told[1]] == [
        (True,) * 2,
        True,
    ]


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
    with refuses("tokenizer"):
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
