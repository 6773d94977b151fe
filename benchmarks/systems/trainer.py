"""The Hugging Face Trainer: everything, biases and head, or PEFT's LoRA; on the very same task model and examples."""

import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import transformers
from peft import LoraConfig, TaskType, get_peft_model
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from benchmarks.meter import Meter
from benchmarks.plan import Request
from benchmarks.systems.engine import configs
from bitfit.backbone.heads import head_names
from bitfit.backbone.load import Backbone
from bitfit.data.examples import Examples, TaskData
from bitfit.inference.metrics import score
from bitfit.training.config import TrainConfig

LORA_RANK = 8


class Items(Dataset[dict[str, Any]]):
    """Examples in the form that the Trainer's collator takes."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        place = slice(self.examples.offsets[index], self.examples.offsets[index + 1])
        ids = self.examples.ids[place].tolist()
        return {
            "input_ids": ids,
            "token_type_ids": self.examples.types[place].tolist(),
            "attention_mask": [1] * len(ids),
            "labels": int(self.examples.labels[index]),
        }


class Timed(TrainerCallback):
    """Counts the real tokens that the model is given in training, and passes each step's end on to a meter."""

    def __init__(self, meter: Meter, model: nn.Module) -> None:
        self.meter, self.tokens = meter, 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: nn.Module, arguments: Any, inputs: dict[str, Any]) -> None:
        if module.training:
            self.tokens += int(inputs["attention_mask"].sum())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A step has ended."""
        self.meter.step(state.global_step, self.tokens)


def measure(request: Request, backbone: Backbone, data: TaskData, meter: Meter) -> Mapping[str, object]:
    """Train; gives validation accuracy after the last step, and what else is worth keeping."""
    transformers.utils.logging.set_verbosity_error()
    train, validation = Items(data.splits["train"]), Items(data.splits["validation"])
    start = {name: value.clone() for name, value in backbone.model.state_dict().items()} if _many(request) else {}
    accuracies = []
    attention = ""
    for config in configs(request):
        if start:
            backbone.model.load_state_dict(start)
        model = _model(request.system.method, backbone, data, config.seed)
        attention = model.config._attn_implementation
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                model=model,
                args=_arguments(folder, request, config),
                train_dataset=train,
                data_collator=DataCollatorWithPadding(backbone.tokenizer),
                callbacks=[Timed(meter, model)],
            )
            trainer.train()
            meter.end_run()
            answers = np.asarray(trainer.predict(validation).predictions, np.float32)
        accuracies.append(score(data.task, data.splits["validation"], answers)["accuracy"])
    return {"accuracies": accuracies, "format": _format(request), "attention": attention}


def _many(request: Request) -> bool:
    """Runs one after another each start from the pretrained weights."""
    return len(configs(request)) > 1


def _format(request: Request) -> str:
    return "bfloat16 (autocast)" if request.system.precision == "bf16" else "float32"


def _model(method: str, backbone: Backbone, data: TaskData, seed: int) -> Any:
    """The architecture's own task model, with what trains set the way its users set it."""
    set_seed(seed)
    model: PreTrainedModel = backbone.task_model(data.task.head, seed)
    if method == "lora":
        model.requires_grad_(True)
        return get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, r=LORA_RANK))
    head = head_names(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(method == "full" or name.endswith(".bias") or name in head)
    return model


def _arguments(folder: str, request: Request, config: TrainConfig) -> TrainingArguments:
    """The engine's settings in the Trainer's words; all else is its default."""
    return TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=32,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate or 0.0,
        warmup_steps=config.warmup,  # below 1: a share of all steps
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        lr_scheduler_type="linear",
        seed=config.seed,
        bf16=request.system.precision == "bf16",
        use_cpu=True,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
    )
