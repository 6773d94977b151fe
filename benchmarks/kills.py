"""Kills one real run at many random moments, also while it writes a checkpoint, and counts who comes to the same bits.

    python benchmarks/kills.py [--kills 50] [--seed 0] [--json FILE]

The run is `bitfit train` on film reviews with a tiny random model. A process that has imported everything forks one
child for each life of a run, so that a life costs no start-up. Needs fork, so no Windows.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

# pyarrow's usual allocator has a thread of its own, and a process with threads must not fork.
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
OPTIONS = [
    "--epochs",
    "2",
    "--batch-size",
    "8",
    "--train-size",
    "320",
    "--max-length",
    "32",
    "--checkpoint-every",
    "0.02",
    "--no-baselines",
]


SOME = 12  # kills, of which one at least must meet a checkpoint being written


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = Kills(Path(folder), random.Random(given.seed)).run(given.kills)
    same = sum(found["identical"])
    print(f"{same} of {len(found['identical'])} bit-identical; {found['while_writing']} killed while writing")
    print(f"an undisturbed run takes {found['seconds']:.1f} s; {found['resumed']} were gone on with from a checkpoint")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")
    # Every third kill waits for a half-written checkpoint; a single one may come just too late.
    met = found["while_writing"] > 0 or given.kills < SOME
    sys.exit(0 if same == len(found["identical"]) and met else 1)


class Kills:
    """The same run again and again, each killed once and gone on with."""

    def __init__(self, folder: Path, draw: random.Random) -> None:
        self.folder, self.draw = folder, draw
        self.model = folder / "model"

    def run(self, kills: int) -> dict[str, object]:
        """Kill so many runs; what came of them."""
        if _ended(self._fork(self._make_model)) != 0:
            raise SystemExit("the tiny model could not be made")
        whole = self.folder / "whole.safetensors"
        began = time.monotonic()
        if _ended(self._train(whole)) != 0:
            raise SystemExit("the undisturbed run failed")
        seconds = time.monotonic() - began
        identical, writing, resumed = [], 0, 0
        for number in range(kills):
            out = self.folder / f"killed-{number}.safetensors"
            checkpoints = out.with_name(out.name + ".checkpoint")
            child = self._train(out)
            writing += self._kill(child, checkpoints, seconds, wait_for_writing=number % 3 == 0)
            resumed += any(checkpoints.glob("step-*"))
            code = _ended(self._train(out))
            wrong = _wrong(code, checkpoints, out, whole)
            identical.append(not wrong)
            if wrong:
                lines = (self.folder / "log").read_text().splitlines()
                print(f"kill {number}: {wrong}. The last lines of its log:", *lines[-12:], sep="\n    ")
            out.unlink(missing_ok=True)
        return {"identical": identical, "while_writing": writing, "resumed": resumed, "seconds": seconds}

    def _kill(self, child: int, checkpoints: Path, seconds: float, wait_for_writing: bool) -> bool:
        """SIGKILL at a random moment; or at the first half-written checkpoint after it. Was one being written?"""
        moment = time.monotonic() + self.draw.uniform(0, seconds * (0.8 if wait_for_writing else 1))
        while time.monotonic() < moment:
            time.sleep(0.001)
        while wait_for_writing and not any(checkpoints.glob(".*.part")):
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                return False  # it was over before
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return any(checkpoints.glob(".*.part"))

    def _train(self, out: Path) -> int:
        """Start a life of the run."""
        command = ["train", "rotten-tomatoes", "--model", str(self.model), *OPTIONS, "--out", str(out), "--json"]

        def act() -> int:
            from bitfit.cli.main import run
            from bitfit.training import checkpoint

            checkpoint.MOST_SHARE = 0.5  # far more of them than usual, so that kills meet them
            return run(command)

        return self._fork(act)

    def _make_model(self) -> int:
        from transformers import BertConfig, BertModel

        import bitfit

        tokenizer = bitfit.load().tokenizer
        assert tokenizer is not None
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
        BertModel(config).save_pretrained(self.model)
        tokenizer.save_pretrained(self.model)
        return 0

    def _fork(self, action) -> int:  # type: ignore[no-untyped-def]
        """A child that does it, in silence."""
        # Imported here and never run: a process that has computed with several threads must not fork.
        import bitfit.cli.progress
        import bitfit.training.train  # noqa: F401

        child = os.fork()
        if child:
            return child
        code = 1
        try:
            log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = action()
        finally:
            sys.stdout.flush()
            os._exit(code)


def _wrong(code: int, checkpoints: Path, out: Path, whole: Path) -> str:
    """What is wrong with a run that went on; empty for nothing."""
    if code:
        return f"it ended with code {code}"
    if checkpoints.exists():
        return "its checkpoints are still there"
    return "" if out.read_bytes() == whole.read_bytes() else "other bytes than those of the undisturbed run"


def _ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    main()
