"""Attacks on words: what they may do, how they search, and what is reported of them."""

import json
import os
import statistics as stdlib
import string

import numpy as np
import pytest
import torch
from conftest import refuses, table
from fuzzing import call
from text_models import BAD, FILLERS, GOOD, save_bert, save_masked_lm, write_sst2, write_tsv

from robust_data import data_statistics, datasets, models
from robust_data.perturbations import edit_distances
from robust_data.settings import Training
from robust_data.train import saved_models
from robust_data.train.training import Trainer
from robust_data.words import attack, masked_lm, meaning, methods, plan, results, word_vectors
from robust_data.words.search import search
from robust_data.words.words import NLTK_STOP_WORDS, TEXTFOOLER_STOP_WORDS, WORD, apart


class CountingModel(torch.nn.Module):
    """Calls a text good (class 1) by as many of its tokens as are good words, and bad by the others'."""

    def __init__(self, tokenizer):
        super().__init__()
        vocabulary = tokenizer.get_vocab()
        self.weights = torch.nn.Parameter(torch.zeros(len(vocabulary)))
        with torch.no_grad():
            for words, sign in ((GOOD, 1.0), (BAD, -1.0)):
                self.weights[[vocabulary[word] for word in words]] = sign

    def forward(self, inputs):
        score = (self.weights[inputs["input_ids"]] * inputs["attention_mask"]).sum(dim=1)
        return torch.stack([-score, score + 0.1], dim=1)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def sst2(tmp_path_factory):
    return write_sst2(tmp_path_factory.mktemp("data"), train=320, test=40)


@pytest.fixture(scope="module")
def texts(bert, sst2):
    return datasets.load("glue", "test", task_name="sst2", data_dir=sst2, tokenizer=bert)


@pytest.fixture(scope="module")
def counting(texts):
    return CountingModel(texts.tokenizer)


@pytest.fixture
def vectors(tmp_path):
    """The first good and the first bad word are near each other, and `warm` is opposite."""
    path = tmp_path / "vectors.txt"
    path.write_text("4 2\ngood 1 0\nbad 0.9 0.1\nwarm -1 0\nthe 1 0\ngood 0 1\n")
    return path


def candidates(method, word, before="", after="", seed=0):
    """What a method would put in a word's place."""
    (found,) = method.candidates([methods.Slot(word, before, after, np.random.default_rng(seed))])
    return found


@pytest.mark.parametrize("word", ["a", "is", "the", "clever", "Boring"])
@pytest.mark.parametrize("slips", [methods.deepwordbug, methods.textbugger])
def test_candidates_are_slips_of_a_word(slips, word):
    for seed in range(20):
        found = slips(word, np.random.default_rng(seed))
        assert word not in found and len(set(found)) == len(found)
        assert (edit_distances([word] * len(found), found) <= 2).all()


def test_deepwordbug_swaps_substitutes_deletes_and_inserts():
    lengths = [len(other) for other in methods.deepwordbug("clever", np.random.default_rng(0))]
    assert lengths == [6, 6, 5, 7]
    assert all(methods.deepwordbug("clever", np.random.default_rng(seed))[-1][-1] == "r" for seed in range(50))


def test_textbugger_puts_look_alikes_at_every_position():
    found = methods.textbugger("cool", np.random.default_rng(0))
    assert found[:2] in (["c ool", "col"], ["co ol", "col"]) and found[-4:] == ["ϲool", "cоol", "coоl", "cooⅼ"]
    assert methods.textbugger("on", np.random.default_rng(0)) == ["оn", "oո"]


def test_words_are_told_apart_as_textattack_does():
    text = "it's n't a 'film-making' co-star's don't, -- (e.g. x_1) ``"
    words = ["it's", "n't", "a", "film-making", "co-star's", "don't", "e", "g", "x_1", "``"]
    assert apart(text)[1::2] == words and "".join(apart(text)) == text


@pytest.mark.parametrize(
    "text, words",
    [
        ("这部电影，很好。", "这 部 电 影 很 好"),
        ("iPhone的价格", "iPhone 的 价 格"),
        ("カタカナを食べる", "カタカナ を 食 べ る"),
        ("เด็กที่ดี", "เ ด็ ก ที่ ดี"),
        ("हिन्दी में, 한국어 문장", "हिन्दी में 한국어 문장"),
    ],
)
def test_of_scripts_without_blanks_a_character_is_a_word_and_a_letter_keeps_its_marks(text, words):
    assert apart(text)[1::2] == words.split() and "".join(apart(text)) == text


def chinese(texts):
    """Logits of any two classes: as many as the good and the bad characters."""
    return np.array([[2.0 * text.count("坏") + 0.5, 2.0 * text.count("好")] for text in texts])


def test_a_chinese_sentence_is_attacked_character_by_character_through_a_callable(tmp_path):
    (tmp_path / "vectors.txt").write_text("坏 1 0\n好 0.9 0.1\n很 0 1\n")
    fooler = methods.method("textfooler", word_vectors.load(tmp_path / "vectors.txt"))
    texts, labels = ["这部电影很坏，真的。", "很好", "坏"], [0, 1, 1]
    attacked = attack.attack_texts(chinese, texts, labels, fooler)
    assert ["".join(one.pieces) for one in attacked] == ["这部电影很好，真的。", "很坏", "坏"]
    assert [one.result for one in attacked] == ["succeeded", "succeeded", "skipped"]
    assert attacked[0].share_changed == 1 / 8
    bug = attack.attack_texts(
        lambda texts: torch.from_numpy(chinese(texts)), texts, labels, methods.method("deepwordbug")
    )
    assert bug[0].result == "failed" and "坏" not in bug[0].pieces and bug[1].result == "succeeded"


def test_bae_fills_the_place_of_a_chinese_character_with_one():
    class Filler:
        def fill(self, gaps, count):
            return [["好", "7", "very", "好看"] for _ in gaps]

    assert candidates(methods.method("bae", filler=Filler()), "坏", "很") == ["好", "very"]
    assert candidates(methods.method("bae", filler=Filler()), "bad", "a ") == ["very"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda texts: np.zeros(len(texts)),
        lambda texts: np.zeros((len(texts) + 1, 2)),
        lambda texts: np.zeros((len(texts), 1)),
        lambda texts: np.full((len(texts), 2), np.nan),
        lambda texts: np.full((len(texts), 2), 0.5),
        lambda texts: ["positive"] * len(texts),
    ],
    ids=["no classes", "other texts", "one class", "nan", "probabilities", "names"],
)
def test_what_gives_no_logits_is_refused(answer):
    with refuses("classify"):
        attack.attack_texts(answer, ["a bad plot"], [0], methods.method("deepwordbug"))


def test_texts_and_labels_of_a_callable_go_together():
    for texts, labels in ((["a"], [0, 1]), (["a"], [-1]), ([("a", "b")], [0])):
        with refuses("texts"):
            attack.attack_texts(chinese, texts, labels, methods.method("deepwordbug"))
    assert attack.attack_texts(chinese, [], [], methods.method("deepwordbug")) == []


@pytest.mark.parametrize("name, asked", [("deepwordbug", "a [UNK] plot"), ("textbugger", "a plot")])
def test_a_words_importance_is_measured_without_it(name, asked):
    """DeepWordBug puts the unknown token in its place, TextBugger deletes it; stop words are not asked about."""
    searching = search("a bad plot", 0, methods.method(name), np.random.default_rng(0))
    assert next(searching) == ["a bad plot"]
    assert searching.send((np.array([0.9]), np.array([0])))[0] == asked


def test_stop_words_are_the_recipes():
    assert len(NLTK_STOP_WORDS) == 179 and len(TEXTFOOLER_STOP_WORDS) == 266
    assert NLTK_STOP_WORDS - TEXTFOOLER_STOP_WORDS >= {"be", "had", "very"} and "anyone" not in NLTK_STOP_WORDS
    assert methods.method("deepwordbug").stop_words == methods.method("textbugger").stop_words


@pytest.mark.parametrize("name", ["deepwordbug", "textbugger"])
def test_the_word_that_tells_the_label_is_changed_and_no_other(name, counting, texts):
    attacked = attack.attack_dataset(counting, texts, methods.method(name))
    assert [one.index for one in attacked] == list(range(40))
    for one in attacked:
        assert one.result == ("succeeded" if one.label == 0 else "failed")
        changed = [before for before, after in zip(one.original, one.pieces) if before != after]
        assert len(changed) == 1 and changed[0] in GOOD + BAD
        words = "".join(one.original).split()
        assert one.share_changed == pytest.approx(1 / len(words))
        # The text, a question for each word that may change, and the candidates for each word tried.
        tried = [word for word in words if word not in NLTK_STOP_WORDS]
        most = 4 if name == "deepwordbug" else 3 + max(map(len, tried))
        assert 1 + len(tried) < one.queries <= 1 + len(tried) + most * len(tried)
    # A text without a telling word is called good, so only bad ones can be turned.
    figures = results.summary(attacked)
    assert (figures["instances"], figures["accuracy"], figures["accuracy_under_attack"]) == (40, 1.0, 0.5)
    assert figures["attack_success_rate"] == 0.5 and figures["loss"] > 0


def test_an_attack_does_not_depend_on_what_else_is_attacked(counting, texts, monkeypatch):
    method = methods.method("deepwordbug")
    together = attack.attack_dataset(counting, texts, method, seed=3)
    monkeypatch.setattr(attack, "AT_ONCE", 3)
    assert attack.attack_dataset(counting, texts, method, seed=3, batch_size=5) == together
    part = texts.subset(torch.tensor([4, 9]))
    assert attack.attack_dataset(counting, part, method, seed=3) == [together[4], together[9]]
    assert attack.attack_dataset(counting, texts, method, seed=4) != together


def test_the_edits_of_a_text_are_bounded(texts):
    """A model that is never fooled lets the attack spend all it may."""
    method = methods.Method("much", lambda slots: [[slot.word + "xxxx"] for slot in slots], most_edits=10)
    searching = search(" ".join(["word"] * 9), 0, method, np.random.default_rng(0))
    wants, probability = next(searching), 0.9
    while True:
        probability -= 0.01
        scores = np.full(len(wants), probability), np.zeros(len(wants), dtype=int)
        try:
            wants = searching.send(scores)
            while isinstance(wants, methods.Slot):
                wants = searching.send(*method.candidates([wants]))
        except StopIteration as end:
            pieces, before, after, _ = end.value
            break
    assert (before, after) == (0, 0)
    assert sum(piece == "wordxxxx" for piece in pieces) == 2


def test_an_instance_that_is_wrong_already_is_skipped(counting, texts):
    wrong = texts.subset(torch.arange(4))
    wrong.labels = 1 - wrong.labels
    attacked = attack.attack_dataset(counting, wrong, methods.method("deepwordbug"))
    assert all((one.result, one.queries, one.pieces) == ("skipped", 1, one.original) for one in attacked)
    figures = results.summary(attacked)
    assert figures["accuracy"] == 0 and figures["attack_success_rate"] is None and figures["queries"] is None
    assert "success rate -" in results.describe("deepwordbug", figures)


def test_word_vectors_give_the_nearest_words(vectors):
    found = word_vectors.load(vectors)
    assert found.words == ["good", "bad", "warm", "the"]
    assert found.nearest("good", 50, 0.5) == ["the", "bad"] and found.nearest("good", 1, 0.5) == ["the"]
    assert found.nearest("nothing", 50, 0.5) == []


def test_textfooler_takes_the_nearest_words_and_leaves_stop_words(vectors, counting, bert, tmp_path):
    rows = [("The good film", 1), ("a (bad) plot", 0), ("the warm cast", 1)]
    write_tsv(tmp_path / "train.tsv", ("text", "label"), rows)
    dataset = datasets.load("tsv", data_dir=tmp_path, tokenizer=bert)
    method = methods.method("textfooler", word_vectors.load(vectors))
    attacked = attack.attack_dataset(counting, dataset, method)
    # `the` is as near to `good` as can be, but of those that fool the model only `bad` does.
    assert ["".join(one.pieces) for one in attacked] == ["The bad film", "a (good) plot", "the warm cast"]
    assert [one.result for one in attacked] == ["succeeded", "succeeded", "failed"]
    assert candidates(method, "good") == ["the", "bad"] and candidates(method, "nothing") == []
    assert candidates(method, "Good") == ["The", "Bad"] and candidates(method, "GOOD") == ["THE", "BAD"]


def test_words_of_a_file_of_vectors_may_hold_blanks(tmp_path):
    (tmp_path / "vectors.txt").write_text("good 1 0\n. . . 0 1\n")
    assert word_vectors.load(tmp_path / "vectors.txt").words == ["good", ". . ."]


def test_deepwordbug_spends_30_edits_at_most():
    assert methods.method("deepwordbug").most_edits == 30
    assert methods.method("textbugger").most_edits is None


def test_of_a_pair_only_the_column_asked_for_changes(counting, bert, tmp_path):
    write_tsv(tmp_path / "train.tsv", ("one", "two", "label"), [("bad film", "bad cast", 0), ("a", "good", 1)])
    options = {"text_column": "one", "text_pair_column": "two", "tokenizer": bert}
    dataset = datasets.load("tsv", data_dir=tmp_path, **options)
    assert [plan.attacked_column(dataset, named) for named in (None, "one", "two", "2")] == [1, 0, 1, 1]
    with refuses("--attack_column"):
        plan.attacked_column(dataset, "three")
    method = methods.method("deepwordbug")
    first = attack.attack_dataset(counting, dataset, method)[0]
    assert first.other == "bad film" and "".join(first.original) == "bad cast"
    first = attack.attack_dataset(counting, dataset, method, column=0)[0]
    assert first.other == "bad cast" and "".join(first.original) == "bad film"


def test_the_sentences_are_written_with_their_changes_marked(tmp_path):
    one = results.Attacked(3, 0, 0, 1, *map(apart, ("a bad plot", "a bd plot")), "", 0.4, 9)
    results.write_csv(tmp_path / "sentences.csv", [one], ["negative", "positive"])
    (row,) = table(tmp_path / "sentences.csv")
    assert (row["original"], row["attacked"]) == ("a [[bad]] plot", "a [[bd]] plot")
    assert (row["label"], row["predicted_after"], row["result"]) == ("negative", "positive", "succeeded")
    assert (row["queries"], row["words_changed"]) == ("9", "0.3333")


# A masked language model.


@pytest.fixture(scope="module")
def filler(tmp_path_factory):
    """The folder of a BERT that fills a gap with the words of its vocabulary in a random order of its own."""
    return save_masked_lm(tmp_path_factory.mktemp("masked_lm"))


def test_a_masked_language_model_fills_a_gap_with_words(filler):
    model = masked_lm.load(filler, torch.device("cpu"))
    alone = model.fill([("a ", " plot")], 50)
    assert len(alone[0]) == 50 and len(model.fill([("a ", " plot")], 1000)[0]) > 50
    found = set(model.fill([("a ", " plot")], 1000)[0])
    # Pieces such as ##e are words; what the tokenizer adds and punctuation are none.
    assert {"good", "film", "e", "7"} <= found and not found & {"[CLS]", "[MASK]", "##e", "!", "##!"}
    together = model.fill([("a ", " plot"), ("the film is ", ""), ("film " * 200, "")], 50)
    assert together[0] == alone[0] and together[1] != alone[0]
    assert together[2] == []  # the gap is cut off


def test_bae_takes_the_words_of_a_masked_language_model(filler, counting, texts):
    model = masked_lm.load(filler, torch.device("cpu"))
    method = methods.method("bae", filler=model)
    slot = ("bad", "a ", " plot")
    expected = [word for word in model.fill([slot[1:]], 50)[0] if word != "bad" and not word.isdecimal()]
    assert candidates(method, *slot) == expected
    attacked = attack.attack_dataset(counting, texts, method)
    assert attacked == attack.attack_dataset(counting, texts, method)
    fooled = [one for one in attacked if one.result == "succeeded"]
    assert fooled and all(one.label == 1 or "bad" not in one.pieces for one in fooled)
    for one in fooled:
        changed = [after for before, after in zip(one.original, one.pieces) if before != after]
        assert all(WORD.fullmatch(word) for word in changed)


def test_bae_sees_the_other_text_of_a_pair(filler, counting, bert, tmp_path):
    write_tsv(tmp_path / "train.tsv", ("one", "two", "label"), [("good film", "bad cast", 1), ("a", "bad", 0)])
    options = {"text_column": "one", "text_pair_column": "two", "tokenizer": bert}
    dataset = datasets.load("tsv", data_dir=tmp_path, **options)
    seen = []

    def nothing(slots):
        seen.extend((slot.before, slot.word, slot.after) for slot in slots)
        return [[] for _ in slots]

    attack.attack_dataset(counting, dataset, methods.Method("none", nothing))
    attack.attack_dataset(counting, dataset, methods.Method("none", nothing), column=0)
    assert ("good film\n", "bad", " cast") in seen and ("", "good", " film\nbad cast") in seen


def test_a_masked_language_model_that_sees_a_word_gives_others_for_it(filler):
    model = masked_lm.load(filler, torch.device("cpu"))
    slots = [("a ", "plot", " and"), ("a ", "zed", ""), ("film " * 200, "plot", "")]
    one, several, cut = model.substitute(slots, 8)
    assert one and all(WORD.fullmatch(word) for word in one + several) and len(one) <= 8 >= len(several)
    # A word of one token becomes whole ones; zed is z ##e ##d, so three likely tokens together take its place.
    assert {*one} <= {*GOOD, *BAD, *FILLERS, *string.ascii_lowercase, *string.digits}
    assert any(len(word) > 2 and word not in {*GOOD, *BAD, *FILLERS} for word in several)
    assert cut == [] and model.substitute(slots[1:2], 8) == [several]


def test_bertattack_changes_two_of_five_words_at_most(filler):
    def classify(texts):
        return [[-1.0 * len(text), 99.0 + len(text)] for text in texts]

    method = methods.method("bertattack", filler=masked_lm.load(filler, torch.device("cpu")))
    (one,) = attack.attack_texts(classify, ["film plot cast story good"], [1], method)
    assert one.result == "failed" and sum(map(str.__ne__, one.original, one.pieces)) <= 2


# What the recipes hold words to.


def held(limits, words, slot, encode=None, tagger=None):
    """Of these words those that may stand in a slot: word, before, after, and what was before and after at first."""
    word, before, after, *original = slot
    slots = [methods.Slot(word, before, after, None, tuple(original) or (before, after))]
    (kept,) = meaning.held(lambda slots: [words], limits, encode, tagger)(slots)
    return kept


def angle(texts):
    """Vectors that turn by 0.1 radians with every e in a text."""
    turns = torch.tensor([0.1 * text.count("e") for text in texts])
    return torch.stack([turns.cos(), turns.sin()], dim=1)


def test_candidates_stay_close_to_the_meaning():
    words, slot = ["e", "eee", "eeeee", "eeeeee"], ("x", "a ", " b")
    assert held(meaning.Limits(np.cos(0.55)), words, slot, angle) == words[:3]
    assert held(meaning.RECIPES["textfooler"], words, slot, angle, lambda words: ["NN"] * len(words)) == words
    assert held(meaning.Limits(1 - 0.35 / np.pi, angular=True), words, slot, angle) == words[:2]
    changed = ("x", "ee ", " b", "a ", " b")
    assert held(meaning.Limits(np.cos(0.35), so_far=True), words, changed, angle) == words[:2]
    assert held(meaning.Limits(np.cos(0.35)), words, changed, angle) == words[:1]


@pytest.mark.parametrize("place, window", [(0, "0 1 2 3 4"), (4, "2 3 4 5 6"), (8, "4 5 6 7 8")])
def test_of_a_long_text_the_words_around_are_compared(place, window):
    seen, words = [], [str(number) for number in range(9)]

    def encode(texts):
        seen.extend(texts)
        return angle(texts)

    before, after = (" ".join(part) for part in (words[:place], words[place + 1 :]))
    slot = (words[place], before + " " * bool(before), " " * bool(after) + after)
    assert held(meaning.Limits(0, window=5), ["x"], slot, encode) == ["x"]
    assert seen == [window, window.replace(words[place], "x")]
    assert held(meaning.Limits(1, window=10), ["e"], slot, encode) == ["e"] and len(seen) == 2


def test_candidates_keep_the_part_of_speech_but_nouns_and_verbs():
    kinds, seen = {"film": "NN", "run": "VB", "good": "JJ"}, []

    def tagger(words):
        seen.append(" ".join(words))
        return [kinds.get(word, "NN") for word in words]

    slot = ("film", "z c d e f ", " g h i j", "a b c d e f ", " g h i j")
    limits = meaning.Limits(-1, grammar=True)
    assert held(limits, ["run", "good", "film"], slot, angle, tagger) == ["run", "film"]
    assert seen == ["c d e f film g h i", "c d e f run g h i", "c d e f good g h i"]


def test_a_sentence_encoder_is_the_mean_over_the_tokens(bert):
    encoder = meaning.load(bert, torch.device("cpu"))
    alone, together = encoder(["a film"]), encoder(["a film", "the film is a moving story"])
    assert torch.allclose(alone[0], together[0], atol=1e-5) and torch.allclose(together.norm(dim=1), torch.ones(2))
    hidden = encoder.model(**encoder.tokenizer(["a film"], return_tensors="pt")).last_hidden_state.mean(dim=1)
    assert torch.allclose(torch.nn.functional.normalize(hidden, dim=1), alone, atol=1e-5)


def test_what_is_no_sentence_encoder_is_refused(tmp_path, monkeypatch):
    with refuses("--sentence_encoder"):
        meaning.load(str(tmp_path), torch.device("cpu"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with refuses("--sentence_encoder", "textblob"):
        meaning.as_published(methods.method("textfooler"), angle)
    assert meaning.as_published(methods.method("textbugger"), angle).name == "textbugger"


def test_textblob_tells_parts_of_speech():
    pytest.importorskip("textblob")
    assert meaning.load_tagger()("the film is clever".split()) == ["DT", "NN", "VB", "JJ"]


# Beside TextAttack, in an environment of its own: TEXTATTACK_PYTHON=/its/bin/python bash scripts/test.sh -m slow


@pytest.fixture(scope="module")
def textattack():
    """The two sides of the comparison, and the interpreter that has TextAttack."""
    if (python := os.environ.get("TEXTATTACK_PYTHON")) is None:
        pytest.skip("TEXTATTACK_PYTHON names no interpreter that has TextAttack")
    from robust_data.benchmarks import word_attacks

    return word_attacks, python


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["bare", "whole"])
def test_attacks_without_chance_do_as_textattack_does(whole, textattack, trained, texts, filler, tmp_path):
    sides, python = textattack
    if whole:
        pytest.importorskip("textblob")
    draws = np.random.default_rng(0)
    lines = [" ".join([word, *map(str, draws.normal(size=4))]) + "\n" for word in GOOD + BAD + FILLERS]
    (tmp_path / "vectors.txt").write_text("".join(lines))
    job = {"model_name": trained, "attacks": ["textfooler", "bae", "bertattack"], "seeds": [0]}
    job |= {"word_vectors": tmp_path / "vectors.txt", "masked_lm": filler}
    job |= {"sentence_encoder": trained} if whole else {}
    ours, theirs = sides.ours(texts, **job), sides.theirs(texts, python, **job)
    assert ours["textfooler"] == theirs["textfooler"]
    # Of equal words TextAttack takes the part of speech of the first; of what fools, with an encoder, the most similar.
    assert whole or ours["bae"] == theirs["bae"]
    for name in job["attacks"]:
        assert [one["result"] for one in ours[name][0]] == [one["result"] for one in theirs[name][0]]


# The script.


@pytest.fixture(scope="module")
def trained(bert, sst2, tmp_path_factory):
    """A model that has learned the task, in a folder."""
    train_set = datasets.load("glue", task_name="sst2", data_dir=sst2, tokenizer=bert)
    model = models.build(bert, 2, modality="text")
    trainer = Trainer(model, train_set, Training(epochs=10, bsz=32, lr=0.01), torch.device("cpu"))
    trainer.train_until(trainer.total_steps)
    folder = tmp_path_factory.mktemp("trained") / "model"
    return saved_models.save_model(folder, model, {"seed": 1}, train_set.label_names)


JUDGE, FLOODING = "evaluate_robustness.py", "new_fine_tune_flooding/new_fine_tune_flooding.py"


@pytest.fixture
def judging(trained, sst2, tmp_path):
    given = ("--dataset_name", "glue", "--task_name", "sst2", "--data_dir", sst2, "--model_name", trained)
    return (*given, "--output_dir", tmp_path / "judged")


def test_a_text_classifier_is_judged(judging, tmp_path):
    options = ("--attacks", "pgd", "fgsm", "deepwordbug", "--pgd_step", 8, "--pgd_lr", 0.06, "--num_examples", 20)
    status, out, err = call(JUDGE, *judging, *options, "-t", "character", "--severities", 5)
    assert status == 0, err
    (report,) = (json.loads(path.read_text()) for path in (tmp_path / "judged").glob("*.json"))
    rows = {row["name"]: row for row in report["results"]}
    assert {"clean", "pgd", "fgsm", "deepwordbug", "char_swap", "char_keyboard"} <= rows.keys()
    assert rows["clean"]["accuracy"] > 0.8 and rows["deepwordbug"]["accuracy"] < rows["clean"]["accuracy"]
    assert rows["pgd"]["accuracy"] <= rows["clean"]["accuracy"] and rows["pgd"]["eps"] is None
    figures = report["word_attacks"]["deepwordbug"]
    assert figures["instances"] == rows["deepwordbug"]["instances"] == 20
    assert figures["accuracy_under_attack"] == rows["deepwordbug"]["accuracy"]
    assert len(table(figures["sentences"])) == 20
    with np.load(next((tmp_path / "judged").glob("*.npz")), allow_pickle=False) as found:
        place = found["conditions"].tolist().index("deepwordbug")
        attacked = np.isfinite(found["margin"][place])
        right, margin = found["right"][place][attacked], found["margin"][place][attacked]
    assert attacked.sum() == 20 and right.mean() == pytest.approx(figures["accuracy_under_attack"])
    assert np.array_equal(margin > 0, right)
    assert f"saved {figures['sentences']}" in out and "deepwordbug, 20 instances: accuracy" in out


def test_a_text_classifier_is_judged_under_pgd_of_several_steps_and_lengths(judging, tmp_path):
    given = (*judging, "--attacks", "pgd", "--pgd_step", 4, 2, "--pgd_lr", 0.06, 0.03, "--max_instances", 8)
    status, out, err = call(JUDGE, *given)
    assert status == 0, err
    (path,) = (tmp_path / "judged").glob("*.json")
    rows = json.loads(path.read_text())["results"]
    names = [row["condition"] for row in rows]
    assert names == ["clean", "pgd 2 x 0.03", "pgd 4 x 0.03", "pgd 2 x 0.06", "pgd 4 x 0.06"]
    assert [(row["steps"], row["step_size"]) for row in rows[1:]] == [(2, 0.03), (4, 0.03), (2, 0.06), (4, 0.06)]
    assert "pgd, 4 steps of 0.06 x 1" in out


def test_a_judgement_of_the_time_of_one_length_is_known_again(judging, tmp_path):
    given = (*judging, "--attacks", "pgd", "--max_instances", 8, "--pgd_lr", 0.06)
    assert call(JUDGE, *given, "--pgd_step", 2)[0] == 0
    (path,) = (tmp_path / "judged").glob("*.json")
    report = json.loads(path.read_text())
    report["arguments"] |= {"pgd_step": 2, "pgd_lr": 0.06}
    path.write_text(json.dumps(report))
    status, out, err = call(JUDGE, *given, "--pgd_step", 3)
    assert status == 2 and "of other arguments: --pgd_step was 2, is 3; give" in err
    assert call(JUDGE, *given, "--pgd_step", 2)[0] == 0


def test_a_text_classifier_is_judged_under_bae(judging, filler):
    options = ("--attacks", "bae", "--masked_lm", filler, "--num_examples", 6)
    status, out, err = call(JUDGE, *judging, *options)
    assert status == 0 and "bae, 6 instances: accuracy" in out, err


@pytest.mark.parametrize("content", ["good 1 0\nbad 1\n", "good 1 x\n", "good 1 nan\n", ""])
def test_a_damaged_file_of_vectors_is_refused(content, tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with refuses("--word_vectors"):
        word_vectors.load(path)


@pytest.fixture(scope="module")
def statistics(bert, sst2, tmp_path_factory):
    """The file of a collection on 32 sentences."""
    folder = tmp_path_factory.mktemp("statistics")
    options = ("--dataset_name", "glue", "--task_name", "sst2", "--data_dir", sst2, "--model_name", bert)
    parser = data_statistics.build_parser()
    size = ("--dataset_len", "32", "--epochs", "1", "--output_dir", folder)
    data_statistics.main(parser.parse_args([*map(str, options + size)]))
    (path,) = folder.glob("*.npy")
    return path


def test_fine_tuning_ends_with_attacks_and_over_seeds_with_a_line_of_means_for_each(bert, statistics, tmp_path):
    given = ("--statistics_source", statistics, "--model_name", bert, "--epochs", 1, "--output_dir", tmp_path)
    attacks = ("--do_attack", 1, "--attack_method", "deepwordbug", "textbugger", "--num_examples", 4)
    status, out, err = call(FLOODING, *given, *attacks, "--pgd_step", 0, "--seeds", 1, 2)
    assert status == 0, err
    rows = table(tmp_path / "results.csv")
    assert [(row["attack_method"], row["attacked_instances"]) for row in rows] == 2 * [
        ("deepwordbug+textbugger", "4+4")
    ]
    for place, name in enumerate(("deepwordbug", "textbugger")):
        accuracies = [float(row["accuracy_under_attack"].split("+")[place]) for row in rows]
        mean = f"{stdlib.fmean(accuracies):.4f} ± {stdlib.stdev(accuracies):.4f}"
        assert f"attack on words by {name}: accuracy under attack {mean}" in out
        assert len(table(tmp_path / "seed1" / f"attacked_{name}.csv")) == 4


def test_an_attack_that_cannot_be_made_is_refused_before_training(bert, statistics, tmp_path):
    common = ("--statistics_source", statistics, "--model_name", bert, "--output_dir", tmp_path)
    bae = ("--do_attack", 1, "--attack_method", "bae", "--masked_lm", bert)
    status, out, err = call(FLOODING, *common, *bae)
    assert status == 2 and f"--masked_lm {bert} was not trained to fill masks" in err
    status, out, err = call(FLOODING, *common, "--do_attack", 1, "--attack_method", "textfooler")
    assert status == 2 and "attack textfooler takes its words from --word_vectors FILE" in err
    assert not (tmp_path / "log.jsonl").exists()


def test_a_model_that_numbers_the_classes_otherwise_is_judged_by_their_names(bert, judging, tmp_path):
    from transformers import BertForSequenceClassification, BertTokenizer

    accuracy = {}
    for names in (("NEGATIVE", "POSITIVE"), ("POSITIVE", "NEGATIVE")):
        model = BertForSequenceClassification.from_pretrained(bert)
        model.config.id2label = dict(enumerate(names))
        folder = tmp_path / names[0]
        model.save_pretrained(folder)
        BertTokenizer.from_pretrained(bert).save_pretrained(folder)
        given = (*judging, "--output_dir", folder / "judged", "--attacks", "none", "--model_name", folder)
        assert call(JUDGE, *given)[0] == 0
        (report,) = (folder / "judged").glob("robustness_*.json")
        accuracy[names[0]] = json.loads(report.read_text())["results"][0]["accuracy"]
    assert accuracy["POSITIVE"] == pytest.approx(1 - accuracy["NEGATIVE"])


def test_a_model_with_a_new_head_is_judged_with_a_warning(bert, judging, tmp_path):
    from transformers import BertModel, BertTokenizer

    BertModel.from_pretrained(bert).save_pretrained(tmp_path / "encoder")
    BertTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "encoder")
    given = (*judging, "--output_dir", tmp_path / "judged", "--attacks", "none")
    _, _, err = call(JUDGE, *given, "--model_name", tmp_path / "encoder")
    assert "is new and untrained; expect the accuracy of chance" in err
