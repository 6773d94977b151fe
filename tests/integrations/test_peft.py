"""LoRA deltas and PEFT's own folders hold the same thing."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from bitfit.errors import DeltaError
from bitfit.integrations.peft import read_adapter, write_adapter
from tests.methods.test_insertion import TASK, make_delta
from tests.models import inputs, tiny_backbone


def logits(model: torch.nn.Module, model_type: str) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**inputs(model_type)).logits
    return found


@pytest.mark.parametrize("method", ["lora", "lora[r=2,alpha=3,output,query]@1"])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2", "llama"])
def test_peft_reads_what_is_written_and_it_reads_back_the_same(model_type: str, method: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(model_type)
    delta = make_delta(backbone, method)
    folder = write_adapter(delta, backbone, tmp_path / "adapter")
    model = PeftModel.from_pretrained(backbone.task_model(TASK.head, seed=9), str(folder))
    with delta.applied(backbone) as trained:
        torch.testing.assert_close(logits(model, model_type), logits(trained, model_type), rtol=0, atol=1e-6)
        again = read_adapter(folder, backbone, TASK)
        with again.applied(backbone) as second:
            assert torch.equal(logits(second, model_type), logits(trained, model_type))


def test_an_adapter_that_peft_wrote_is_read(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    model = backbone.task_model(TASK.head)
    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=6, target_modules=["query", "key"])
    theirs = get_peft_model(model, config)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    theirs.save_pretrained(str(tmp_path))
    delta = read_adapter(tmp_path, backbone, TASK)
    assert delta.method == "lora[alpha=6,key,query,r=4]"
    expected = logits(theirs, "bert")
    with delta.applied(backbone) as ours:
        torch.testing.assert_close(logits(ours, "bert"), expected, rtol=0, atol=1e-6)


def test_what_is_no_such_adapter_is_refused(tmp_path: Path) -> None:
    backbone = tiny_backbone("bert")
    with pytest.raises(DeltaError, match=r"adapter_config\.json"):
        read_adapter(tmp_path, backbone, TASK)
    with pytest.raises(DeltaError, match="this delta's method is 'bitfit'"):
        write_adapter(make_delta(backbone, "bitfit"), backbone, tmp_path / "adapter")
    folder = write_adapter(make_delta(backbone, "lora"), backbone, tmp_path / "adapter")
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"use_dora": false', '"use_dora": true'))
    with pytest.raises(DeltaError, match="uses use_dora"):
        read_adapter(folder, backbone, TASK)


def test_new_layers_are_neither_averaged_nor_added() -> None:
    from bitfit.delta.combine import add, average

    backbone = tiny_backbone("llama")
    with pytest.raises(DeltaError, match="axes of their own"):
        average([make_delta(backbone, "lora", seed) for seed in (0, 1)])
    assert add([make_delta(backbone, "added-bias", seed) for seed in (0, 1)], backbone).method == "added-bias"


def test_changes_of_added_vectors_are_named_by_term() -> None:
    from bitfit.delta.changes import changes

    backbone = tiny_backbone("llama")
    found = changes(make_delta(backbone, "added-bias[b_q,b_v]"), backbone)
    assert {change.symbol for change in found} == {"b_q", "b_v"}
