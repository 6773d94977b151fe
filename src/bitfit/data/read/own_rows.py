"""Makes a task of a user's own rows: files, data in memory, or a data set of the hub."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from bitfit.backbone.heads import HeadKind
from bitfit.data.options import DataOptions, option
from bitfit.data.read.check import checked, has_labels, label_problem, parted, usable
from bitfit.data.read.chunk import NOT_UTF8, Chunk, first_of, is_of_one_row, refused
from bitfit.data.read.columns import WHOLE, Columns, choose, mostly_numbers
from bitfit.data.read.copies import Copy
from bitfit.data.read.formats import check_text_format, read_file
from bitfit.data.read.labels import as_list, gathered, label_text
from bitfit.data.read.memory import NAME, SOURCE, Rows, chunk_of, chunks_by_split
from bitfit.data.read.remarks import balance, leaks
from bitfit.data.read.split import SPLIT_WORDS, held_out_note, hold_out, split_files, split_of
from bitfit.data.table import TaskTable
from bitfit.data.task import COLUMN_EACH, NAMED, Metric, Task
from bitfit.data.text_format import TextFormat
from bitfit.errors import DataError

METRICS: Mapping[HeadKind, tuple[Metric, ...]] = {
    "class": ("accuracy", "macro_f1"),
    "labels": ("micro_f1", "macro_f1", "mean_average_precision"),
    "number": ("spearman", "pearson", "mean_squared_error"),
    "tags": ("accuracy", "macro_f1"),
    "span": ("exact_match", "f1"),
}
SPAN_LENGTH, SPAN_STRIDE = 384, 128
ALL = "all"  # the split of a file that is scored whole

LeftOut = dict[str, list[str]]  # split -> what is wrong with each row that is left out


def own_files(path: Path, options: DataOptions) -> TaskTable:
    """The task in a file, or in a folder of train, validation and test files."""
    files, notes = split_files(path)
    written = TextFormat.of(options)
    check_text_format([file for paths in files.values() for file in paths], written)
    chunks = {split: [read_file(file, written) for file in paths] for split, paths in files.items()}
    name = options.name or (path.stem if path.is_file() else path.resolve().name)
    return _Building.of(name, str(path), chunks, options).table(notes)


def own_memory(data: object, options: DataOptions) -> TaskTable:
    """The task in rows that are in memory already, checked like files."""
    TextFormat.of(options).refuse("rows in memory")
    chunks, notes = chunks_by_split(data, options)
    return _Building.of(options.name or NAME, SOURCE, chunks, options).table(notes)


def own_copy(name: str, copy: Copy, options: DataOptions) -> TaskTable:
    """The task in a data set of the hub, checked like files."""
    TextFormat.of(options).refuse(f"the data set '{name}'")
    chunks: dict[str, list[Chunk]] = {}
    for split, rows in copy.splits.items():
        ours = split_of(split)
        if ours is not None:
            columns = {column: rows[column].to_pylist() for column in rows.column_names}
            chunks.setdefault(ours, []).append(Chunk(f"{copy.source}/{split}", columns, 1, None, copy.label_names))
    if "train" not in chunks:
        raise DataError(f"{copy.source} has no train split; found {', '.join(copy.splits)}.")
    return _Building.of(options.name or name, copy.source, chunks, options).table(())


def labelled_rows(data: str | Path | Rows, task: Task, options: DataOptions) -> TaskTable:
    """All labelled rows of one file or table, read as a task that is known already: its columns, its labels; to be
    scored."""
    from_file = isinstance(data, str | Path)
    if isinstance(data, str | Path):
        written = TextFormat.of(options)
        check_text_format([Path(data)], written)
        chunk = read_file(Path(data), written)
    else:
        TextFormat.of(options).refuse("rows in memory")
        chunk = chunk_of(data, options)
    if not len(chunk) and not chunk.problems:
        raise DataError(f"{chunk.source} has no rows to score.")
    name = options.name or (Path(chunk.source).stem if from_file else NAME)
    if task.label == COLUMN_EACH:
        chunk = gathered(chunk, options.label_columns or task.labels)
    columns = Columns(task.kind, task.texts, task.label)
    left_out: LeftOut = {}
    by_split = {ALL: [_readable(chunk, columns, options.label_separator)]}
    if options.skip_bad_rows:
        by_split = _without_bad_rows(_without_unread(by_split, left_out), columns, task.labels, left_out)
    chunk = by_split[ALL][0]
    problems = list(chunk.problems)
    rows = checked(chunk, columns, task.labels, problems)
    if problems or not rows.num_rows:
        problems += left_out.get(ALL, [])
        raise _unusable(chunk.source, problems) if problems else DataError(f"{chunk.source} has no rows to score.")
    notes = (f"{name}: read from {chunk.source}", *_left_out_notes(left_out))
    return TaskTable(replace(task, name=name), {ALL: rows}, notes, measured_on={ALL: f"{rows.num_rows:,}"})


@dataclass(frozen=True)
class _Building:
    """The steps from chunks to a table."""

    name: str
    source: str
    chunks: Mapping[str, Sequence[Chunk]]
    options: DataOptions

    @classmethod
    def of(cls, name: str, source: str, chunks: Mapping[str, Sequence[Chunk]], options: DataOptions) -> Self:
        """With columns of 0 and 1 as one column of lists."""
        if names := options.label_columns:
            chunks = {
                split: [gathered(chunk, names, optional=split == "test") for chunk in each]
                for split, each in chunks.items()
            }
            options = replace(options, label=COLUMN_EACH, kind="labels")
        return cls(name, source, chunks, options)

    def table(self, notes: Sequence[str]) -> TaskTable:
        left_out: LeftOut = {}
        chunks = _without_unread(self.chunks, left_out) if self.options.skip_bad_rows else self.chunks
        problems = [problem for each in chunks.values() for chunk in each for problem in chunk.problems]
        try:
            columns, named, labels = self._read(chunks, left_out)
        except DataError as error:  # reported together with the rows that could not be read
            problems += [problem for each in left_out.values() for problem in each]
            raise refused(self.source, [*problems, str(error)]) if problems else error from None
        labelled, dropped = self._checked(named, columns, labels, problems)
        if problems:
            raise _unusable(self.source, problems)
        task = self._task(columns, labels)
        notes = [f"{self.name}: read from {self.source}", *columns.notes, *notes, *dropped, *_left_out_notes(left_out)]
        splits = _with_validation(labelled, task, self.source, notes)
        notes += [*balance(splits["train"], task), *leaks(splits, task)]
        measured = {split: f"{rows.num_rows:,}" for split, rows in splits.items()}
        return TaskTable(task, splits, tuple(notes), measured_on=measured)

    def _read(
        self, chunks: Mapping[str, Sequence[Chunk]], left_out: LeftOut
    ) -> tuple[Columns, Mapping[str, Sequence[Chunk]], tuple[str, ...]]:
        """The columns, the rows with their labels by name, and the names of all labels."""
        train = chunks["train"]
        if not any(map(len, train)):
            raise DataError(f"{self.source} has no rows to train on.")
        columns = choose(_merged(train), self.options, train[0].source)
        named: Mapping[str, Sequence[Chunk]]
        named = {
            split: [_readable(chunk, columns, self.options.label_separator) for chunk in each]
            for split, each in chunks.items()
        }
        labels = _labels(named, columns, self.options.kind is None)
        for _ in range(2 * self.options.skip_bad_rows):  # again, for labels that were those of bad rows alone
            named = _without_bad_rows(named, columns, labels, left_out)
            if not any(map(len, named["train"])):
                raise DataError(f"{self.source} has no rows to train on.")
            labels = _labels(named, columns, self.options.kind is None)
        return columns, named, labels

    def _checked(
        self,
        by_split: Mapping[str, Sequence[Chunk]],
        columns: Columns,
        labels: Sequence[str],
        problems: list[str],
    ) -> tuple[dict[str, pa.Table], list[str]]:
        tables: dict[str, pa.Table] = {}
        dropped = []
        for split in (split for split in SPLIT_WORDS if split in by_split):
            if _is_unlabelled(split, by_split[split], columns):
                dropped.append("test: no labels, so nothing to score; answer it with `bitfit predict`")
                continue
            made = [checked(chunk, columns, labels, problems) for chunk in by_split[split]]
            if not problems:
                tables[split] = pa.concat_tables(made)
        return tables, dropped

    def _task(self, columns: Columns, labels: tuple[str, ...]) -> Task:
        span = columns.kind == "span"
        length = self.options.max_length or (SPAN_LENGTH if span else 128)
        entities = columns.kind == "tags" and any(label.startswith("B-") for label in labels)
        return Task(
            name=self.name,
            kind=columns.kind,
            texts=columns.texts,
            label=columns.label,
            labels=labels,
            metrics=("entity_f1", "accuracy") if entities else METRICS[columns.kind],
            max_length=length,
            pool=self.options.pool,
            stride=min(SPAN_STRIDE, length // 4) if span else 0,
        )


def _without_unread(by_split: Mapping[str, Sequence[Chunk]], left_out: LeftOut) -> dict[str, list[Chunk]]:
    """The chunks without their problems of single rows, which go to `left_out`."""
    chunks: dict[str, list[Chunk]] = {}
    for split, each in by_split.items():
        left_out.setdefault(split, []).extend(one for chunk in each for one in chunk.problems if is_of_one_row(one))
        chunks[split] = [
            replace(chunk, problems=[one for one in chunk.problems if not is_of_one_row(one)]) for chunk in each
        ]
    return chunks


def _without_bad_rows(
    by_split: Mapping[str, Sequence[Chunk]], columns: Columns, labels: Sequence[str], left_out: LeftOut
) -> dict[str, list[Chunk]]:
    """The chunks without the rows that cannot be used; what is wrong with these goes to `left_out`."""
    chunks: dict[str, list[Chunk]] = {}
    for split, each in by_split.items():
        chunks[split] = list(each)
        if not _is_unlabelled(split, each, columns):
            sifted = [usable(chunk, columns, labels) for chunk in each]
            chunks[split] = [chunk for chunk, _ in sifted]
            left_out[split] += [one for _, wrong in sifted for one in wrong]
    return chunks


def _left_out_notes(left_out: LeftOut) -> list[str]:
    return [f"{split}: {_rows(wrong)} left out: {first_of(wrong)}" for split, wrong in left_out.items() if wrong]


def _rows(wrong: Sequence[str]) -> str:
    return "1 row that cannot be used is" if len(wrong) == 1 else f"{len(wrong):,} rows that cannot be used are"


def _unusable(source: str, problems: Sequence[str]) -> DataError:
    """All problems, and the way on where each is one row's own."""
    skip = f" Mend these rows, or leave them out: {option('skip_bad_rows', True)}."
    return refused(source, problems, skip if all(map(is_of_one_row, problems)) else "")


def _is_unlabelled(split: str, chunks: Sequence[Chunk], columns: Columns) -> bool:
    """Whether a split is there to be answered and not to be scored."""
    return split == "test" and not any(has_labels(chunk, columns.label) for chunk in chunks)


def _merged(chunks: Sequence[Chunk]) -> dict[str, list[Any]]:
    """Every value of each column, to choose by."""
    names = dict.fromkeys(name for chunk in chunks for name in chunk.columns)
    return {name: [value for chunk in chunks for value in chunk.columns.get(name, ())] for name in names}


def _readable(chunk: Chunk, columns: Columns, separator: str | None) -> Chunk:
    """The chunk with labels by their names, and with lists where it has texts of words or of labels (as CSV must)."""
    if columns.kind == "labels":
        labels = [as_list(one, separator) for one in chunk.columns.get(columns.label, ())]
        chunk = replace(chunk, columns={**chunk.columns, columns.label: labels}) if labels else chunk
        return _with_names(chunk, columns)
    named = _with_names(chunk, columns)
    if columns.kind != "tags":
        return named
    lists = {name: [parted(one) for one in named.columns.get(name, ())] for name in (*columns.texts, columns.label)}
    return replace(named, columns={name: lists.get(name, values) for name, values in named.columns.items()})


def _with_names(chunk: Chunk, columns: Columns) -> Chunk:
    """Label numbers as the names that the file states for them; a number without a name is missing."""
    names = chunk.label_names.get(columns.label)
    if names is None or columns.label not in chunk.columns:
        return chunk

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(one) for one in value]
        if isinstance(value, int):
            return names[value] if 0 <= value < len(names) else None
        return value

    return replace(chunk, columns={**chunk.columns, columns.label: [named(v) for v in chunk.columns[columns.label]]})


def _labels(by_split: Mapping[str, Sequence[Chunk]], columns: Columns, guessed: bool) -> tuple[str, ...]:
    """Label names: as the file states them, else those of train in order (for tags: of every chunk)."""
    if columns.kind not in NAMED:
        return ()
    stated = by_split["train"][0].label_names.get(columns.label)
    if stated:
        return stated
    used = [chunk for split, rows in by_split.items() if split == "train" or columns.kind == "tags" for chunk in rows]
    values = [value for chunk in used for value in chunk.columns.get(columns.label, ())]
    flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
    named = [text for value in flat if _is_name(value) and (text := label_text(value))]
    labels = {text for text in named if not guessed or not mostly_numbers(named) or WHOLE.fullmatch(text)}
    least = 1 if columns.kind == "labels" else 2  # a label may be there or not
    if len(labels) < least:
        only = f"one label alone ({', '.join(labels)})" if labels else "no labels"
        source = by_split["train"][0].source
        raise DataError(
            f"The column '{columns.label}' of {source} has {only}; at least {least} "
            f"{'is' if least == 1 else 'are'} needed to learn a difference."
        )
    return tuple(sorted(labels, key=_label_order))


def _is_name(value: Any) -> bool:
    """Whether a value names a class. In a foreign encoding it does too: the check of rows tells of it, by its row."""
    problem = label_problem(value)
    return problem is None or NOT_UTF8 in problem


def _label_order(name: str) -> tuple[int, float, str]:
    return (0, float(name), name) if WHOLE.fullmatch(name) else (1, 0.0, name)


def _with_validation(splits: dict[str, pa.Table], task: Task, source: str, notes: list[str]) -> dict[str, pa.Table]:
    if "validation" in splits:
        if not splits["validation"].num_rows:
            raise DataError(f"The validation split of {source} has no rows. Remove it, and bitfit holds some out.")
        return splits
    if splits["train"].num_rows < 2:
        raise DataError(f"{source} has 1 row; at least 2 are needed to train on one and validate on another.")
    groups = _groups(splits["train"], task)
    train, validation = hold_out(splits["train"], groups)
    if not validation.num_rows:
        raise DataError(
            f"{source} has no validation split and no class has 2 rows, so that none can be held out. "
            "Add rows, or a file of validation rows in a folder."
        )
    notes.append(held_out_note(validation, groups is not None))
    rest = {split: rows for split, rows in splits.items() if split != "train"}
    return {"train": train, "validation": validation, **rest}


def _groups(train: pa.Table, task: Task) -> np.ndarray[tuple[int], np.dtype[np.int64]] | None:
    """What each row counts as where the same share of each group is held out: its class, or its rarest label.

    Labels that are the rarest of a single row are one group.
    """
    if task.kind == "class":
        return np.asarray(train[task.label].to_numpy())
    if task.kind != "labels":
        return None
    rows = train[task.label].to_pylist()
    counts = Counter(index for row in rows for index in row)
    rarest = [min(row, key=lambda index: (counts[index], index), default=-1) for row in rows]
    sizes = Counter(rarest)
    return np.array([index if sizes[index] > 1 else len(task.labels) for index in rarest], np.int64)
