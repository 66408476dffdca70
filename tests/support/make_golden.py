"""Writes ``tests/trainers/bert/golden.json``: what the reference implementation of BERT answers.

Run once, in an environment of its own, since PyTorch is no dependency of this project:

    uv run --no-project --with torch --with transformers --with safetensors --with numpy \
        tests/support/make_golden.py [--encoder DIR]

The checkpoint of ``tiny_bert.py`` is written to a temporary directory and loaded with ``transformers.BertModel``,
which must find every tensor of its own in it. It runs in float32, with eager attention and without dropout, over one
row of seven tokens and one of four that is padded to seven, both with type ids that are not all zero. Every state is
written, those of padding too, once per activation function.

With ``--encoder``, the directory of the encoder named ``minilm-l6``, its checkpoint answers ``SENTENCES`` the same
way: split by its own tokeniser, padded to the longest, all type ids zero. Of each sentence, the ids are written and
the first eight numbers of ``pooled_output`` and of the mean of the last layer over its real tokens. Without it, those
of an earlier run are kept.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import tiny_bert
import torch
import transformers

TARGET = Path(__file__).parents[1] / "trainers" / "bert" / "golden.json"
ACTIVATIONS = ("gelu", "gelu_new", "relu")
INPUTS = {
    "ids": [[2, 11, 8, 12, 25, 10, 3], [2, 18, 19, 3, 0, 0, 0]],
    "mask": [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]],
    "types": [[0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 0, 0]],
}
SENTENCES = (
    "The ferry to Kirkwall was cancelled at dawn.",
    "Copper futures rose 3.5% after smelters cut output",
    "Who scored twice in the rain-soaked semi-final?",
    "A café's Wi-Fi router outlived two laptops, its owner says",
)
DIGITS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, metavar="DIR", help="directory of minilm-l6")
    directory = parser.parse_args().encoder
    earlier = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.is_file() else {}
    golden = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "inputs": INPUTS,
        "tiny": {activation: answer_tiny(activation) for activation in ACTIVATIONS},
        "minilm-l6": answer_sentences(directory) if directory else earlier.get("minilm-l6"),
    }
    TARGET.write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")


def load(directory: Path) -> transformers.BertModel:
    """Loads a whole checkpoint, ready to answer."""
    model, report = transformers.BertModel.from_pretrained(
        directory, attn_implementation="eager", dtype=torch.float32, output_loading_info=True
    )
    if report["missing_keys"] or report["mismatched_keys"]:
        raise SystemExit(f"{directory} is not whole: {report}")
    return model.eval()


@torch.no_grad()
def answer_tiny(activation: str) -> dict[str, Any]:
    """Returns every output of the tiny checkpoint with one activation function."""
    with tempfile.TemporaryDirectory() as temporary:
        model = load(tiny_bert.write_checkpoint(Path(temporary), hidden_act=activation))
    inputs = {name: torch.tensor(value) for name, value in INPUTS.items()}
    outputs = model(
        input_ids=inputs["ids"],
        attention_mask=inputs["mask"],
        token_type_ids=inputs["types"],
        output_hidden_states=True,
    )
    return {
        "pooled_output": plain(outputs.pooler_output),
        "sequence_output": plain(outputs.last_hidden_state),
        # The first of the reference's states are those of the embeddings.
        "encoder_outputs": [plain(states) for states in outputs.hidden_states[1:]],
    }


@torch.no_grad()
def answer_sentences(directory: Path) -> list[dict[str, Any]]:
    """Returns the first numbers of what a real encoder answers to each sentence."""
    batch = transformers.AutoTokenizer.from_pretrained(directory)(list(SENTENCES), padding=True, return_tensors="pt")
    outputs = load(directory)(**batch)
    answers = []
    for number, sentence in enumerate(SENTENCES):
        real = batch["attention_mask"][number].bool()
        mean = outputs.last_hidden_state[number][real].mean(dim=0)
        answers.append(
            {
                "text": sentence,
                "ids": batch["input_ids"][number][real].tolist(),
                "pooled_output": plain(outputs.pooler_output[number, :8]),
                "mean": plain(mean[:8]),
            }
        )
    return answers


def plain(tensor: torch.Tensor) -> Any:
    """Returns nested lists of as many digits as float32 has."""

    def shorten(value: Any) -> Any:
        return [shorten(item) for item in value] if isinstance(value, list) else float(f"{value:.{DIGITS}g}")

    return shorten(tensor.tolist())


if __name__ == "__main__":
    main()
