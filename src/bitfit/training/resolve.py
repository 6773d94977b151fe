"""What a method trains first, on the model alone or with a look at the task's data."""

from transformers import PreTrainedModel

from bitfit.backbone.task_model import head_start
from bitfit.data.examples import TaskData
from bitfit.methods.method import Method, Phase, select
from bitfit.methods.theta import ThetaMap, with_whole_head
from bitfit.runtime.row_model import RowModel
from bitfit.training.config import TrainConfig
from bitfit.training.term_scores import Sample, term_scores


def first_phase(method: Method, plain: PreTrainedModel, model: RowModel, data: TaskData, config: TrainConfig) -> Phase:
    """What trains in the first phase, and how its values are laid out; both models carry the new parameters."""
    scores = term_scores(sample_of(plain, model, data, config), plain, short_run=False) if method.reads_data else ()
    assert config.learning_rate is not None
    return method.first_phase(plain, model, config.seed, config.learning_rate, scores)


def sample_of(plain: PreTrainedModel, model: RowModel, data: TaskData, config: TrainConfig) -> Sample:
    """All biases of a model, ready to be tried on a task's data."""
    every = select(plain, "bitfit")
    rows = ThetaMap(with_whole_head(every, plain), plain, device=model.device)
    return Sample(model, rows, data, rows.starting_row(head_start(plain, config.seed)), config)
