"""The tasks known by name: columns, labels, metrics, lengths and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from bitfit.data.task import Metric, Task

GLUE_LENGTH = 128
_NO_ROWS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Known:
    """A task and where its rows are: in a folder of the hub's layout, on the hub, or in an extra."""

    task: Task
    folder: str  # under DataOptions.data_dir
    config: str  # folder below it, and the hub's name for this part; "" where there is none
    hub: str = ""  # "" where the hub has no copy that loads without running its code
    official: Mapping[str, int] = field(default_factory=lambda: _NO_ROWS)  # split -> rows of the release
    names: Mapping[str, str] = field(default_factory=dict)  # our split -> the release's, where they differ
    caution: str = ""  # shown with every score

    def release_name(self, split: str) -> str:
        """What the release calls one of our splits."""
        return self.names.get(split, split)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Our names of the splits, train first."""
        return tuple(dict.fromkeys(["train", "validation", "test", *self.official]))


def _glue(
    config: str,
    texts: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[Metric, ...],
    rows: tuple[int, int, int],
) -> Known:
    task = Task(
        name=config,
        kind="class" if labels else "number",
        texts=texts,
        label="label",
        labels=labels,
        metrics=metrics,
        max_length=GLUE_LENGTH,
    )
    official = dict(zip(("train", "validation", "test"), rows, strict=True))
    return Known(task, "glue", config, "nyu-mll/glue", official)


def _tags(name: str, folder: str, label: str, metrics: tuple[Metric, ...], rows: tuple[int, int, int]) -> Known:
    task = Task(name, "tags", ("tokens",), label, metrics=metrics, max_length=GLUE_LENGTH)
    return Known(task, folder, "", official=dict(zip(("train", "validation", "test"), rows, strict=True)))


_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")
_REVIEW = Task("imdb", "class", ("text",), "label", ("negative", "positive"), ("accuracy", "f1"), max_length=256)

_MNLI = replace(
    _glue(
        "mnli",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("accuracy", "macro_f1"),
        (392_702, 9_815, 9_796),
    ),
    official={
        "train": 392_702,
        "validation": 9_815,
        "validation_mismatched": 9_832,
        "test": 9_796,
        "test_mismatched": 9_847,
    },
    names={"validation": "validation_matched", "test": "test_matched"},
)

_SQUAD = Known(
    Task(
        "squad",
        "span",
        ("question", "context"),
        "answers",
        metrics=("exact_match", "f1"),
        max_length=384,
        stride=128,
    ),
    "squad",
    "plain_text",
    "rajpurkar/squad",
    {"train": 87_599, "validation": 10_570},
)

_TABLE = (
    _glue(
        "cola",
        ("sentence",),
        ("unacceptable", "acceptable"),
        ("matthews_correlation", "accuracy"),
        (8_551, 1_043, 1_063),
    ),
    _glue("sst2", ("sentence",), ("negative", "positive"), ("accuracy", "f1"), (67_349, 872, 1_821)),
    _glue("mrpc", _PAIR, ("not_equivalent", "equivalent"), ("f1", "accuracy"), (3_668, 408, 1_725)),
    _glue("stsb", _PAIR, (), ("spearman", "pearson"), (5_749, 1_500, 1_379)),
    _glue(
        "qqp",
        ("question1", "question2"),
        ("not_duplicate", "duplicate"),
        ("f1", "accuracy"),
        (363_846, 40_430, 390_965),
    ),
    _MNLI,
    _glue("qnli", ("question", "sentence"), _ENTAILMENT, ("accuracy", "macro_f1"), (104_743, 5_463, 5_463)),
    _glue("rte", _PAIR, _ENTAILMENT, ("accuracy", "macro_f1"), (2_490, 277, 3_000)),
    _glue("wnli", _PAIR, ("not_entailment", "entailment"), ("accuracy", "macro_f1"), (635, 71, 146)),
    Known(_REVIEW, "imdb", "plain_text", "stanfordnlp/imdb", {"train": 25_000, "test": 25_000}),
    Known(
        replace(_REVIEW, name="rotten-tomatoes", max_length=128),
        "rotten_tomatoes",
        "",
        "cornell-movie-review-data/rotten_tomatoes",
        {"train": 8_530, "validation": 1_066, "test": 1_066},
    ),
    _SQUAD,
    _tags("ud-ewt", "ud_english_ewt", "upos", ("accuracy", "macro_f1"), (12_544, 2_001, 2_077)),
    _tags("ud-ewt-upos", "ud_english_ewt", "upos", ("accuracy", "macro_f1"), (12_544, 2_001, 2_077)),
    _tags("ud-ewt-xpos", "ud_english_ewt", "xpos", ("accuracy", "macro_f1"), (12_544, 2_001, 2_077)),
    replace(
        _tags("ptb-pos", "ptb_pos_sample", "pos_tags", ("accuracy", "macro_f1"), (3_140, 423, 351)),
        caution="the public sample of the Penn Treebank, split by file: compares with no published figure",
    ),
    _tags("conll2003", "conll2003", "ner_tags", ("entity_f1", "accuracy"), (14_041, 3_250, 3_453)),
)

KNOWN: Mapping[str, Known] = MappingProxyType({known.task.name: known for known in _TABLE})

# GLUE's diagnostic set: answered by the MNLI model, no labels, wanted by the server
DIAGNOSTIC = Known(replace(_MNLI.task, name="ax"), "glue", "ax", "nyu-mll/glue", {"test": 1_104})
