"""The public names of bitfit, each loaded on first use; knows nothing itself.

Importing the package loads no torch, configures no logging, sets no seed and reads no file.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitfit import errors as errors
    from bitfit.backbone.anatomy import Term as Term
    from bitfit.backbone.anatomy import terms as terms
    from bitfit.backbone.load import Backbone as Backbone
    from bitfit.backbone.load import load as load
    from bitfit.data.task import Task as Task
    from bitfit.delta.delta import Delta as Delta
    from bitfit.inference.evaluate import evaluate as evaluate
    from bitfit.inference.predict_file import predict_file as predict_file
    from bitfit.inference.predictor import predict as predict
    from bitfit.methods.method import Method as Method
    from bitfit.methods.method import select as select
    from bitfit.methods.selection import Selection as Selection
    from bitfit.training.config import TrainConfig as TrainConfig
    from bitfit.training.rank import rank as rank
    from bitfit.training.run import Run as Run
    from bitfit.training.train import train as train
    from bitfit.training.train import train_rows as train_rows

__version__ = "0.1.0"

# Name -> the module that defines it.
_HOMES = {
    "Backbone": "bitfit.backbone.load",
    "Delta": "bitfit.inference.predictor",  # which says how a delta answers
    "Method": "bitfit.methods.method",
    "Run": "bitfit.training.run",
    "Selection": "bitfit.methods.selection",
    "Task": "bitfit.data.task",
    "Term": "bitfit.backbone.anatomy",
    "TrainConfig": "bitfit.training.config",
    "evaluate": "bitfit.inference.evaluate",
    "load": "bitfit.backbone.load",
    "predict": "bitfit.inference.predictor",
    "predict_file": "bitfit.inference.predict_file",
    "rank": "bitfit.training.rank",
    "select": "bitfit.methods.method",
    "terms": "bitfit.backbone.anatomy",
    "train": "bitfit.training.train",
    "train_rows": "bitfit.training.train",
}

__all__ = [
    "Backbone",
    "Delta",
    "Method",
    "Run",
    "Selection",
    "Task",
    "Term",
    "TrainConfig",
    "errors",
    "evaluate",
    "load",
    "predict",
    "predict_file",
    "rank",
    "select",
    "terms",
    "train",
    "train_rows",
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
