"""Models worth trying: what each is good for, how large it is, and its licence.

Sizes are about: those of the files that a conversion downloads.
"""

from __future__ import annotations

from typing import NamedTuple

_OPT = "OPT licence: research only"
_LLAMA = "Llama 3.2 licence; gated: accept it on the hub's page, then `hf auth login`"


class KnownModel(NamedTuple):
    """A model on the hub that can be converted."""

    hub_id: str
    n_params: float
    n_bytes: float
    """Bytes of the download."""
    licence: str
    good_for: str

    @property
    def name(self) -> str:
        """Its name once it is converted."""
        return self.hub_id.rpartition("/")[2]

    @property
    def command(self) -> str:
        """What downloads, converts and opens it."""
        return f"gpt-tui {self.hub_id}"


KNOWN = (
    KnownModel("distilgpt2", 82e6, 353e6, "Apache 2.0", "GPT-2 with half the layers, fast"),
    KnownModel("gpt2", 124e6, 548e6, "MIT", "the network of the lectures and of most papers"),
    KnownModel("gpt2-medium", 355e6, 1520e6, "MIT", "GPT-2 with 24 layers: better texts"),
    KnownModel("facebook/opt-125m", 125e6, 251e6, _OPT, "as GPT-2, trained on other texts"),
    KnownModel("facebook/opt-350m", 331e6, 663e6, _OPT, "norms after the sub-layers"),
    KnownModel(
        "EleutherAI/pythia-160m",
        162e6,
        375e6,
        "Apache 2.0",
        "rotary positions, parallel blocks; its training steps are published",
    ),
    KnownModel(
        "HuggingFaceTB/SmolLM2-135M",
        135e6,
        269e6,
        "Apache 2.0",
        "a small Llama with grouped heads: the best text for its size",
    ),
    KnownModel(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        135e6,
        269e6,
        "Apache 2.0",
        "a chat that runs on any laptop",
    ),
    KnownModel(
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        362e6,
        724e6,
        "Apache 2.0",
        "a better chat, still fast",
    ),
    KnownModel("Qwen/Qwen2.5-0.5B", 494e6, 988e6, "Apache 2.0", "many languages and code"),
    KnownModel(
        "Qwen/Qwen2.5-0.5B-Instruct", 494e6, 988e6, "Apache 2.0", "a chat in many languages"
    ),
    KnownModel(
        "Qwen/Qwen3-0.6B", 596e6, 1503e6, "Apache 2.0", "a chat that thinks before it answers"
    ),
    KnownModel(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        1100e6,
        2200e6,
        "Apache 2.0",
        "a chat with Llama 2's network and SentencePiece",
    ),
    KnownModel(
        "meta-llama/Llama-3.2-1B-Instruct",
        1236e6,
        2472e6,
        _LLAMA,
        "a chat with Llama 3's scaled positions",
    ),
)
"""From small to large, by family."""


def table() -> str:
    """The models as lines for a terminal."""
    rows = [("MODEL", "SIZE", "PARAMETERS", "LICENCE", "GOOD FOR")]
    rows += [
        (
            model.hub_id,
            f"{size(model.n_bytes)}",
            size(model.n_params, ""),
            model.licence.partition(";")[0].partition(":")[0],
            model.good_for + " (gated)" * ("gated" in model.licence),
        )
        for model in KNOWN
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def size(n: float, unit: str = "B") -> str:
    """A number of bytes, or of anything else, with three digits: 548 MB, 1.52 GB."""
    if n >= 1e9:
        return f"{n / 1e9:.3g} {'G' if unit else 'B'}{unit}"
    return f"{n / 1e6:.0f} M{unit}"
