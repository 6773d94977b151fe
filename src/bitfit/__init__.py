"""The public names of bitfit, each loaded on first use.

Importing the package loads no torch, configures no logging, sets no seed and reads no file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitfit import errors as errors
    from bitfit.backbone.anatomy import Term as Term
    from bitfit.backbone.anatomy import terms as terms
    from bitfit.backbone.heads import Head as Head
    from bitfit.backbone.load import Backbone as Backbone
    from bitfit.backbone.load import load as load
    from bitfit.backbone.memory import keep_freed_memory as keep_freed_memory
    from bitfit.data.encode.spans import Span as Span
    from bitfit.data.examples import Examples as Examples
    from bitfit.data.examples import TaskData as TaskData
    from bitfit.data.options import DataOptions as DataOptions
    from bitfit.data.table import TaskTable as TaskTable
    from bitfit.data.task import Task as Task
    from bitfit.delta.delta import Delta as Delta
    from bitfit.delta.delta import Reverter as Reverter
    from bitfit.inference.bootstrap import Interval as Interval
    from bitfit.inference.calibration import Bin as Bin
    from bitfit.inference.calibration import Calibration as Calibration
    from bitfit.inference.calibration import Threshold as Threshold
    from bitfit.inference.compare import PairedComparison as PairedComparison
    from bitfit.inference.compare import compare as compare
    from bitfit.inference.evaluate import evaluate as evaluate
    from bitfit.inference.evaluate import evaluation as evaluation
    from bitfit.inference.evaluation import Evaluation as Evaluation
    from bitfit.inference.figures import draw_evaluation as draw_evaluation
    from bitfit.inference.predict_file import InputFile as InputFile
    from bitfit.inference.predict_file import Written as Written
    from bitfit.inference.predict_file import predict_file as predict_file
    from bitfit.inference.predictor import Answer as Answer
    from bitfit.inference.predictor import Predictor as Predictor
    from bitfit.inference.predictor import predict as predict
    from bitfit.inference.report import ClassReport as ClassReport
    from bitfit.inference.report import ClassScores as ClassScores
    from bitfit.inference.report import Confusion as Confusion
    from bitfit.inference.report import LabelReport as LabelReport
    from bitfit.inference.report import LabelScores as LabelScores
    from bitfit.inference.report import NumberReport as NumberReport
    from bitfit.methods.budget import Scored as Scored
    from bitfit.methods.family import Family as Family
    from bitfit.methods.family import InsertingFamily as InsertingFamily
    from bitfit.methods.insertion import Insertion as Insertion
    from bitfit.methods.method import Method as Method
    from bitfit.methods.method import select as select
    from bitfit.methods.name import MethodName as MethodName
    from bitfit.methods.registry import register as register
    from bitfit.methods.selection import Selection as Selection
    from bitfit.methods.selection import Slot as Slot
    from bitfit.page.report import Report as Report
    from bitfit.page.report import report as report
    from bitfit.training.checkpoint import Checkpoints as Checkpoints
    from bitfit.training.config import TrainConfig as TrainConfig
    from bitfit.training.config import TrainSettings as TrainSettings
    from bitfit.training.findings import Finding as Finding
    from bitfit.training.rank import Ranking as Ranking
    from bitfit.training.rank import rank as rank
    from bitfit.training.run import Run as Run
    from bitfit.training.run import best_run as best_run
    from bitfit.training.train import train as train
    from bitfit.training.train import train_rows as train_rows
    from bitfit.training.tune import tune as tune
    from bitfit.watcher import Watcher as Watcher

__version__ = "0.1.0"

# Name -> the module that defines it.
_HOMES = {
    "Answer": "bitfit.inference.predictor",
    "Backbone": "bitfit.backbone.load",
    "Bin": "bitfit.inference.calibration",
    "Calibration": "bitfit.inference.calibration",
    "Checkpoints": "bitfit.training.checkpoint",
    "ClassReport": "bitfit.inference.report",
    "ClassScores": "bitfit.inference.report",
    "Confusion": "bitfit.inference.report",
    "DataOptions": "bitfit.data.options",
    "Delta": "bitfit.delta.delta",
    "Evaluation": "bitfit.inference.evaluation",
    "Examples": "bitfit.data.examples",
    "Family": "bitfit.methods.family",
    "Finding": "bitfit.training.findings",
    "Head": "bitfit.backbone.heads",
    "InputFile": "bitfit.inference.predict_file",
    "InsertingFamily": "bitfit.methods.family",
    "Insertion": "bitfit.methods.insertion",
    "Interval": "bitfit.inference.bootstrap",
    "LabelReport": "bitfit.inference.report",
    "LabelScores": "bitfit.inference.report",
    "Method": "bitfit.methods.method",
    "MethodName": "bitfit.methods.name",
    "NumberReport": "bitfit.inference.report",
    "PairedComparison": "bitfit.inference.compare",
    "Predictor": "bitfit.inference.predictor",
    "Ranking": "bitfit.training.rank",
    "Report": "bitfit.page.report",
    "Reverter": "bitfit.delta.delta",
    "Run": "bitfit.training.run",
    "Scored": "bitfit.methods.budget",
    "Selection": "bitfit.methods.selection",
    "Slot": "bitfit.methods.selection",
    "Span": "bitfit.data.encode.spans",
    "Task": "bitfit.data.task",
    "TaskData": "bitfit.data.examples",
    "TaskTable": "bitfit.data.table",
    "Term": "bitfit.backbone.anatomy",
    "Threshold": "bitfit.inference.calibration",
    "TrainConfig": "bitfit.training.config",
    "TrainSettings": "bitfit.training.config",
    "Watcher": "bitfit.watcher",
    "Written": "bitfit.inference.predict_file",
    "best_run": "bitfit.training.run",
    "compare": "bitfit.inference.compare",
    "draw_evaluation": "bitfit.inference.figures",
    "evaluate": "bitfit.inference.evaluate",
    "evaluation": "bitfit.inference.evaluate",
    "keep_freed_memory": "bitfit.backbone.memory",
    "load": "bitfit.backbone.load",
    "predict": "bitfit.inference.predictor",
    "predict_file": "bitfit.inference.predict_file",
    "rank": "bitfit.training.rank",
    "register": "bitfit.methods.registry",
    "report": "bitfit.page.report",
    "select": "bitfit.methods.method",
    "terms": "bitfit.backbone.anatomy",
    "train": "bitfit.training.train",
    "train_rows": "bitfit.training.train",
    "tune": "bitfit.training.tune",
}

__all__ = [
    "Answer",
    "Backbone",
    "Bin",
    "Calibration",
    "Checkpoints",
    "ClassReport",
    "ClassScores",
    "Confusion",
    "DataOptions",
    "Delta",
    "Evaluation",
    "Examples",
    "Family",
    "Finding",
    "Head",
    "InputFile",
    "InsertingFamily",
    "Insertion",
    "Interval",
    "LabelReport",
    "LabelScores",
    "Method",
    "MethodName",
    "NumberReport",
    "PairedComparison",
    "Predictor",
    "Ranking",
    "Report",
    "Reverter",
    "Run",
    "Scored",
    "Selection",
    "Slot",
    "Span",
    "Task",
    "TaskData",
    "TaskTable",
    "Term",
    "Threshold",
    "TrainConfig",
    "TrainSettings",
    "Watcher",
    "Written",
    "best_run",
    "compare",
    "draw_evaluation",
    "errors",
    "evaluate",
    "evaluation",
    "keep_freed_memory",
    "load",
    "predict",
    "predict_file",
    "rank",
    "register",
    "report",
    "select",
    "terms",
    "train",
    "train_rows",
    "tune",
]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("bitfit.errors")
    if name not in _HOMES:
        raise AttributeError(f"module 'bitfit' has no attribute {name!r}. It has: {', '.join(__all__)}.")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
