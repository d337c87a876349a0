"""Attack sentences with TextAttack's recipes, in an environment of its own: `word_attacks.py` calls `main` there.

Reads from stdin, as JSON, a model's folder, the texts (pairs as two), their labels, the attacks, the seeds, and where
word vectors, a masked language model and a sentence encoder are. Writes to stdout, as JSON, attack by attack and seed
by seed what became of each text. The given encoder stands in for the Universal Sentence Encoder of the recipes, and
TextBlob's tagger for that of NLTK, since these are downloaded; without an encoder both are left out, as robust_data
leaves them out, and so are the word vectors of textbugger, where none are given.

This file imports nothing of the project, whose folder `datasets/` would hide the package that TextAttack needs.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import OrderedDict

import nltk
import numpy as np
import textattack
import torch
from textattack.attack_recipes import DeepWordBugGao2018
from textattack.constraints.grammaticality import PartOfSpeech
from textattack.constraints.overlap import MaxWordsPerturbed
from textattack.constraints.pre_transformation import InputColumnModification, RepeatModification, StopwordModification
from textattack.constraints.semantics import WordEmbeddingDistance
from textattack.constraints.semantics.sentence_encoders import SentenceEncoder
from textattack.goal_functions import UntargetedClassification
from textattack.search_methods import GreedyWordSwapWIR
from textattack.shared import WordEmbedding
from textattack.transformations import (
    CompositeTransformation,
    WordSwapEmbedding,
    WordSwapHomoglyphSwap,
    WordSwapMaskedLM,
    WordSwapNeighboringCharacterSwap,
    WordSwapRandomCharacterDeletion,
    WordSwapRandomCharacterInsertion,
)
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

COLUMNS = ("premise", "hypothesis")
# To how many tokens the masked language model's texts are padded.
LONGEST = 128
# What the recipes ask of the sentence encoder.
MEANING = {
    "textfooler": {
        "threshold": 0.840845057,
        "metric": "angular",
        "compare_against_original": False,
        "window_size": 15,
        "skip_text_shorter_than_window": True,
    },
    "textbugger": {"threshold": 0.8, "metric": "angular"},
    "bertattack": {"threshold": 0.2, "metric": "cosine"},
    "bae": {"threshold": 0.936338023, "metric": "cosine", "window_size": 15, "skip_text_shorter_than_window": True},
}


class Classifier(textattack.models.wrappers.ModelWrapper):
    """A model of Hugging Face that pads each batch to its own longest text."""

    def __init__(self, folder: str):
        self.model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def __call__(self, texts):
        columns = [list(column) for column in zip(*texts)] if isinstance(texts[0], tuple) else [list(texts)]
        inputs = self.tokenizer(*columns, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            return self.model(**inputs).logits.softmax(dim=1)


class MeanEncoder(SentenceEncoder):
    """The mean over the tokens of a model's last hidden layer."""

    def __init__(self, folder: str, **options):
        super().__init__(**options)
        self.model, self.tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def encode(self, sentences):
        inputs = self.tokenizer(list(sentences), padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            hidden = self.model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None]
        return (hidden * mask).sum(dim=1) / mask.sum(dim=1)


def tagged(words: list[str], **_) -> list[tuple[str, str]]:
    """Words and their parts of speech by TextBlob, as `nltk.pos_tag` gives them, which has no file to do so."""
    from textblob.en import parser

    universal = {"NN": "NOUN", "VB": "VERB", "MD": "VERB"}
    return [(word, universal.get(tag[:2], tag[:2])) for word, tag in parser.find_tags(list(words))]


class Neighbours:
    """The 50 nearest words of each, behind itself; TextAttack 0.3.11 cannot find them without such a table."""

    def __init__(self, vectors: np.ndarray):
        self.vectors = vectors

    def __getitem__(self, place: int) -> np.ndarray:
        return np.argsort(-(self.vectors @ self.vectors[place]), kind="stable")[:51]


def embedding(path: str) -> WordEmbedding:
    """A file of vectors in text format, as TextAttack holds them."""
    with open(path, encoding="utf-8") as file:
        lines = [line.split() for line in file]
    words = [line[0] for line in lines]
    vectors = np.array([line[1:] for line in lines], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = {word: place for place, word in enumerate(words)}
    return WordEmbedding(vectors, places, dict(enumerate(words)), Neighbours(vectors))


def look_alikes() -> WordSwapHomoglyphSwap:
    """TextBugger's look-alikes; the package 0.3.11 lacks a file that they open, and this attack has no use for."""
    swap = WordSwapHomoglyphSwap.__new__(WordSwapHomoglyphSwap)
    try:
        swap.__init__()
    except FileNotFoundError:
        swap.random_one = False
    return swap


def recipe(name: str, classifier: Classifier, given: dict) -> textattack.Attack:
    """An attack as its recipe in textattack/attack_recipes has it, but for what the head of this file says."""
    if name == "deepwordbug":
        return DeepWordBugGao2018.build(classifier)
    # The pre-transformation constraints of the recipes. That of textfooler has stop words of its own.
    stop_words = StopwordModification(stopwords=given["textfooler_stop_words"] if name == "textfooler" else None)
    constraints = [RepeatModification(), stop_words, InputColumnModification(list(COLUMNS), {COLUMNS[0]})]
    vectors = embedding(given["word_vectors"]) if given.get("word_vectors") else None
    if given.get("sentence_encoder"):
        nltk.pos_tag = tagged
        constraints += [PartOfSpeech(allow_verb_noun_swap=True)] if name in ("textfooler", "bae") else []
        constraints.append(MeanEncoder(given["sentence_encoder"], **MEANING[name]))
    if name == "textbugger":
        inner = {"random_one": True, "skip_first_char": True, "skip_last_char": True}
        parts = [
            WordSwapRandomCharacterInsertion(letters_to_insert=" ", **inner),
            WordSwapRandomCharacterDeletion(**inner),
            WordSwapNeighboringCharacterSwap(**inner),
            look_alikes(),
        ]
        if vectors is not None:
            parts.append(WordSwapEmbedding(max_candidates=5, embedding=vectors))
        transformation = CompositeTransformation(parts)
    elif name == "textfooler":
        transformation = WordSwapEmbedding(max_candidates=50, embedding=vectors)
        constraints.append(WordEmbeddingDistance(min_cos_sim=0.5, embedding=vectors))
    else:
        folder = given["masked_lm"]
        masked_lm, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        how = {"masked_language_model": masked_lm, "tokenizer": tokenizer, "max_length": LONGEST}
        if name == "bertattack":
            transformation = WordSwapMaskedLM("bert-attack", max_candidates=8, **how)
            constraints.append(MaxWordsPerturbed(max_percent=0.4))
        else:
            transformation = WordSwapMaskedLM("bae", max_candidates=50, min_confidence=0.0, **how)
    search = GreedyWordSwapWIR(wir_method="unk" if name == "bertattack" else "delete")
    return textattack.Attack(UntargetedClassification(classifier), constraints, transformation, search)


def outcome(attack: textattack.Attack, texts: list[str], label: int) -> dict:
    """What became of one text: skipped, failed or succeeded; the text at the end, and the queries."""
    given = texts[0] if len(texts) == 1 else OrderedDict(zip(COLUMNS, texts))
    result = attack.attack(given, label)
    kind = type(result).__name__.removesuffix("AttackResult").lower().replace("successful", "succeeded")
    text = result.perturbed_result.attacked_text._text_input
    return {"result": kind, "text": list(text.values())[-1], "queries": result.num_queries}


def main() -> None:
    given = json.load(sys.stdin)
    # What TextAttack and its parts print must not stand among the results.
    results, sys.stdout = sys.stdout, sys.stderr
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    classifier = Classifier(given["model_name"])

    def outcomes(name: str, seed: int) -> list[dict]:
        random.seed(seed)
        np.random.seed(seed)
        attack = recipe(name, classifier, given)
        return [outcome(attack, *one) for one in zip(given["texts"], given["labels"], strict=True)]

    json.dump({name: [outcomes(name, seed) for seed in given["seeds"]] for name in given["attacks"]}, results)
