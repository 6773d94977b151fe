"""What simple rivals of a run reach on validation: a linear probe on frozen features, and TF-IDF.

Both are linear models of sklearn, which is imported when they are fitted: it takes a second to load. Their strength of
regularization is the best on validation, as a run's epoch is.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitfit.backbone.device import chosen_device
from bitfit.backbone.heads import Head
from bitfit.backbone.load import Backbone
from bitfit.data.encode.encoder import maybe_get_entry, put_entry
from bitfit.data.examples import Examples, TaskData, digest
from bitfit.data.task import LESS_IS_BETTER, Task, better
from bitfit.files import cache_folder
from bitfit.inference.metrics import score
from bitfit.inference.outputs import outputs, pass_tokens
from bitfit.inference.pass_budget import Budget
from bitfit.inference.thresholds import at_best
from bitfit.runtime.precision import compute_format, surroundings, trusted
from bitfit.runtime.row_model import RowModel, positions_per_token
from bitfit.training.config import TrainConfig

PROBE, TFIDF = "frozen probe", "TF-IDF"
# Of training, for seconds and not minutes; a token of TF-IDF takes 150 bytes.
MOST_EXAMPLES = {PROBE: 5_000, TFIDF: 20_000}
MOST_TOKENS = {PROBE: 300_000, TFIDF: 2_000_000}
MOST_WEIGHTS = 1_000_000  # of TF-IDF, for all classes: the solver takes 200 bytes for each
FEWEST_ROWS = 20  # of validation: fewer cannot tell two models apart
PROBE_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.1)  # sklearn's C, of standardized features; of ridge 1 / alpha
TFIDF_STRENGTHS = (1.0, 10.0, 100.0)
DEAD = 1e-5  # of the largest spread of a feature
ROUNDS, TOLERANCE = 300, 1e-3  # of the solver; further ones change no score that is shown
MOST_STORED = 100  # sets of features in the cache, of some 10 MB
FORMAT = 1  # raise when the features change their meaning: older entries are then not found

Matrix = Any  # (examples, features): an array, or scipy's sparse one
Say = Callable[[str], None]


def baseline_scores(backbone: Backbone, data: TaskData, config: TrainConfig, say: Say) -> dict[str, float]:
    """Each rival's main score on validation by its name; none where there is no one answer to a whole text, or where
    there is too little to tell, which is said."""
    if not data.task.per_text or not {"train", "validation"} <= set(data.splits):
        return {}
    train, validation = (labelled(data.splits[name]) for name in ("train", "validation"))
    few = sample(train, PROBE, positions_per_token(backbone.config))
    if problem := _too_little(few, validation):
        say(f"No baselines: {problem}")
        return {}
    scores = {}
    features = [frozen_features(backbone, examples, config, say) for examples in (few, validation)]
    if all(np.isfinite(values).all() for values in features):
        _say_size(PROBE, few, train, say)
        scores[PROBE] = _best(data.task, (few, validation), _standardized(*features), PROBE_STRENGTHS)
    if data.task.kind != "number" and "pixels" not in train.source:
        many = sample(train, TFIDF)
        _say_size(TFIDF, many, train, say)
        weights = _tfidf(many, validation, MOST_WEIGHTS // len(data.task.labels))
        scores[TFIDF] = _best(data.task, (many, validation), weights, TFIDF_STRENGTHS)
    return scores


def comparison(task: Task, name: str, own: float, rivals: Mapping[str, float]) -> str:
    """A run's score beside those of its rivals, in a line."""
    scale = 1 if task.metric in LESS_IS_BETTER else 100
    digits = 4 if scale == 1 else 1
    listed = {name: own, **_usual_order(rivals)}
    figures = ", ".join(f"{one} {scale * value:.{digits}f}" for one, value in listed.items())
    return f"{figures} (validation {task.metric})"


def better_baselines(task: Task, own: float, rivals: Mapping[str, float]) -> list[str]:
    """Those that score higher than a run does."""
    return [one for one, value in _usual_order(rivals).items() if better(task.metric, value, own)]


def _usual_order(rivals: Mapping[str, float]) -> dict[str, float]:
    """A file sorts its keys."""
    return {one: rivals[one] for one in (PROBE, TFIDF) if one in rivals}


def labelled(examples: Examples) -> Examples:
    """Those of them that have a label."""
    known = ~np.isnan(examples.labels) if examples.labels.dtype.kind == "f" else examples.labels >= 0
    known = known.all(axis=1) if known.ndim == 2 else known
    return examples if known.all() else examples.only(np.flatnonzero(known))


def sample(examples: Examples, name: str, positions_per_token: int = 1) -> Examples:
    """As many as a rival may learn from, always the same ones."""
    drawn = np.argsort(np.random.PCG64(0).random_raw(len(examples)), kind="stable")[: MOST_EXAMPLES[name]]
    positions = np.cumsum(examples.lengths[drawn]) * positions_per_token
    drawn = drawn[: max(1, int(np.searchsorted(positions, MOST_TOKENS[name], side="right")))]
    return examples if len(drawn) == len(examples) else examples.only(np.sort(drawn))


def _say_size(name: str, some: Examples, examples: Examples, say: Say) -> None:
    if some is not examples:
        say(f"{name}, to compare with, learns from {len(some):,} of {len(examples):,} training examples")


def _too_little(train: Examples, validation: Examples) -> str:
    """Why there is nothing to compare with, by the smallest sample that a rival learns from; empty where there is."""
    if len(validation) < FEWEST_ROWS:
        return f"validation has {len(validation)} labelled rows, and fewer than {FEWEST_ROWS} cannot tell"
    if len(np.unique(train.labels)) < 2:
        return f"{len(train):,} training examples all have the same label"
    return ""


# ---------------------------------------------------------------------- frozen features


def frozen_features(backbone: Backbone, examples: Examples, config: TrainConfig, say: Say) -> NDArray[np.float32]:
    """The mean of each text's last hidden states, (examples, size), from the cache where they are there."""
    device = chosen_device(config.device)
    compute = compute_format(trusted(config.precision, backbone.config.model_type), device)
    about = [FORMAT, backbone.fingerprint, surroundings(compute, device), digest(examples)]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    stored = maybe_get_entry(cache_folder() / "features", key)
    if stored is not None:
        return np.asarray(stored[0]["features"])
    features = _computed(_feature_model(backbone, compute, device), examples, say)
    put_entry(cache_folder() / "features", key, {"features": features}, {})
    _forget_oldest(cache_folder() / "features")
    return features


def _forget_oldest(folder: Path) -> None:
    """All entries but the newest."""
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    except OSError:
        return  # there is no cache, or another process tidies it just now
    for entry in entries[:-MOST_STORED]:
        shutil.rmtree(entry, ignore_errors=True)


def _feature_model(backbone: Backbone, compute: torch.dtype, device: torch.device) -> RowModel:
    """A task model whose head hands on what it reads, the mean of a text's tokens."""
    plain: Any = backbone.task_model(Head("class", 1, "mean"))
    size = cast(nn.Linear, plain.classifier).in_features
    plain.classifier = nn.Identity()
    return RowModel(plain, Head("class", size, "mean"), compute, device)


def _computed(model: RowModel, examples: Examples, say: Say) -> NDArray[np.float32]:
    budget = Budget(pass_tokens(model), int(examples.lengths.max(initial=1)), say)
    unlabelled = replace(examples, labels=np.full(len(examples), -1))  # no loss is wanted
    return np.asarray(budget.fit(partial(outputs, model, {}, unlabelled, 1))[0].values)


def _standardized(train: Matrix, validation: Matrix) -> tuple[Matrix, Matrix]:
    mean, spread = train.mean(0), alive(train.std(0))
    return (train - mean) / spread, (validation - mean) / spread


def alive(spread: NDArray[np.float32]) -> NDArray[np.float32]:
    """The spread of each feature to divide by: of one that is the same for all texts, but for rounding, none."""
    return np.where(spread > DEAD * spread.max(), spread, np.float32(np.inf))


# ---------------------------------------------------------------------- TF-IDF


def _tfidf(train: Examples, validation: Examples, most: int) -> tuple[Matrix, Matrix]:
    """Weights of the pieces of a text and of pairs of neighbours, of the `most` frequent in training.

    Pieces of the tokenizer stand for words: examples have no texts, and the scores are within a point or so.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    terms, counts = np.unique(_terms(train)[1], return_counts=True)
    vocabulary = np.sort(terms[np.argsort(-counts, kind="stable")[:most]])
    weights = TfidfTransformer(sublinear_tf=True)
    return weights.fit_transform(_counts(train, vocabulary)), weights.transform(_counts(validation, vocabulary))


def _terms(examples: Examples) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The example of each term, and the term as a number: single pieces first, then pairs of neighbours."""
    ids = np.asarray(examples.ids, np.int64)
    owner = np.repeat(np.arange(len(examples)), examples.lengths)
    inside = owner[1:] == owner[:-1]
    pairs = (ids[:-1] + 1 << 32) + ids[1:]
    return np.concatenate([owner, owner[1:][inside]]), np.concatenate([ids, pairs[inside]])


def _counts(examples: Examples, vocabulary: NDArray[np.int64]) -> Matrix:
    """How often each term of the vocabulary is in each example."""
    from scipy.sparse import csr_matrix

    owner, terms = _terms(examples)
    column = np.searchsorted(vocabulary, terms).clip(max=len(vocabulary) - 1)
    known = vocabulary[column] == terms
    shape = (len(examples), len(vocabulary))
    return csr_matrix((np.ones(int(known.sum()), np.float32), (owner[known], column[known])), shape)


# ---------------------------------------------------------------------- linear models


def _best(
    task: Task, sides: tuple[Examples, Examples], features: tuple[Matrix, Matrix], strengths: Sequence[float]
) -> float:
    """The best score on validation of a linear model over these strengths."""
    best: float | None = None
    for strength in strengths:
        with warnings.catch_warnings():  # of a solver that ran out of rounds
            warnings.simplefilter("ignore")
            answers = _answers(task, strength, sides, features)
        now = score(task, sides[1], answers)[task.metric]
        if best is None or better(task.metric, now, best):
            best = now
    assert best is not None
    return best


def _answers(
    task: Task, strength: float, sides: tuple[Examples, Examples], features: tuple[Matrix, Matrix]
) -> NDArray[Any]:
    """A linear model's answers on validation, as `score` takes them."""
    labels = sides[0].labels
    if task.kind == "labels":
        return at_best(task, sides[1], _one_against_rest(features, np.asarray(labels, np.float64), strength))
    predicted = np.asarray(linear_model(task, strength).fit(features[0], labels).predict(features[1]))
    return predicted if task.kind == "number" else np.asarray(np.eye(len(task.labels))[predicted])


def linear_model(task: Task, strength: float) -> Any:
    """Of classes or numbers, not fitted yet, of this strength of regularization."""
    from sklearn.linear_model import LogisticRegression, Ridge

    if task.kind == "number":
        return Ridge(1 / strength)
    return LogisticRegression(C=strength, max_iter=ROUNDS, tol=TOLERANCE)


def _one_against_rest(features: tuple[Matrix, Matrix], there: NDArray[np.float64], strength: float) -> NDArray[Any]:
    """The numbers on validation of a logistic regression for each label, all fitted at once: one by one they take as
    many times as long."""
    from scipy.optimize import minimize
    from scipy.special import expit

    rows, many = there.shape
    width = features[0].shape[1]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = flat[:-many].reshape(width, many), flat[-many:]
        numbers = features[0] @ weights + bias
        total = (np.logaddexp(0, numbers) - numbers * there).sum() + (weights**2).sum() / (2 * strength)
        off = expit(numbers) - there
        slope = features[0].T @ off + weights / strength
        return total / rows, np.concatenate([np.asarray(slope).ravel(), off.sum(axis=0)]) / rows

    options = {"maxiter": ROUNDS, "gtol": TOLERANCE}
    found = minimize(loss, np.zeros((width + 1) * many), jac=True, method="L-BFGS-B", options=options).x
    return np.asarray(features[1] @ found[:-many].reshape(width, many) + found[-many:])
