"""A text as ids, in a training and a validation part, and batches of it."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gpt import text_file
from gpt.errors import UserError
from gpt.tokenizer import Tokenizer

CORPUS_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
CORPUS_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
VALIDATION_SHARE = 0.1
"""Share of a text, at its end, that is kept for validation."""


@dataclass(frozen=True)
class Corpus:
    """Ids of a text: its first part to train on, the rest to measure the loss on."""

    train: Tensor
    """(N) int64 ids of the training part."""
    validation: Tensor
    """(M) int64 ids of the validation part."""
    validation_text: str
    """The validation part as text."""

    @classmethod
    def from_text(
        cls, text: str, tokenizer: Tokenizer, *, validation: float = VALIDATION_SHARE
    ) -> Corpus:
        """Split a text into its parts. validation: share of the characters in the last one."""
        cut = _validation_start(text, validation)
        train, held_out = (torch.tensor(tokenizer.encode(t)) for t in (text[:cut], text[cut:]))
        return cls(train, held_out, text[cut:])

    def check_length(self, block_size: int) -> None:
        """Raise UserError if a part is too short for one window and its next token."""
        for name, part in (("training", self.train), ("validation", self.validation)):
            if len(part) <= block_size:
                raise UserError(
                    f"the {name} part of the text has {len(part)} tokens, which is too short "
                    f"for blocks of {block_size}; use a longer text or a smaller --block-size"
                )


def unseen_characters(text: str) -> list[str]:
    """Characters that occur only in the validation part, so that training cannot teach them."""
    cut = _validation_start(text, VALIDATION_SHARE)
    return sorted(set(text[cut:]) - set(text[:cut]))


def _validation_start(text: str, validation: float) -> int:
    return int(len(text) * (1 - validation))


def read_text(path: Path) -> str:
    """Read a text file, or all *.txt files under a directory, sorted by path and joined."""
    if not path.is_dir():
        return _read_file(path)
    files = sorted(file for file in path.rglob("*.txt") if file.is_file())
    if not files:
        raise UserError(f"{path} has no *.txt files")
    return "\n".join(map(_read_file, files))


def _read_file(path: Path) -> str:
    text = text_file.read(path)
    if not text:
        raise UserError(f"{path} is empty")
    return text


def download_corpus(cache: Path, say: Callable[[str], object]) -> Path:
    """The path of tiny Shakespeare in a cache directory; downloads it once, checks its sha256.

    say: is called with a sentence for the user before a download. The UserError for a failed
    download says how to go on without a network.
    """
    path = cache / "tinyshakespeare.txt"
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == CORPUS_SHA256:
        return path
    advice = "pass another text with --data FILE"
    say(f"downloading {CORPUS_URL}")
    try:
        with urllib.request.urlopen(CORPUS_URL, timeout=30) as response:
            data = response.read()
    except (OSError, urllib.error.URLError) as error:
        raise UserError(f"cannot download {CORPUS_URL} ({error}); {advice}") from error
    if (sha256 := hashlib.sha256(data).hexdigest()) != CORPUS_SHA256:
        raise UserError(f"{CORPUS_URL} has sha256 {sha256}, not {CORPUS_SHA256}; {advice}")
    cache.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def batch(ids: Tensor, step: int, *, batch_size: int, block_size: int, seed: int) -> Tensor:
    """The windows of one training step, (B, T + 1) int64: T inputs and, shifted by one, targets.

    Each epoch cuts the text at a new random offset into windows that do not overlap, and shuffles
    them. The result depends only on the arguments, so a run can continue from any step.
    """
    # One block less than fits, so that every offset leaves the same number of windows.
    per_epoch = max(1, (len(ids) - 1) // block_size - 1)
    windows = []
    for index in range(step * batch_size, (step + 1) * batch_size):
        epoch, index_in_epoch = divmod(index, per_epoch)
        starts = _window_starts(len(ids), epoch, block_size, per_epoch, seed)
        start = int(starts[index_in_epoch])
        windows.append(ids[start : start + block_size + 1])
    return torch.stack(windows)


def _window_starts(length: int, epoch: int, block_size: int, per_epoch: int, seed: int) -> Tensor:
    """Where the windows of an epoch start, in the order of the epoch, (per_epoch)."""
    key = (length, epoch, block_size, per_epoch, seed)
    if key not in _EPOCHS:
        random = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        largest = length - 1 - per_epoch * block_size
        offset = torch.randint(0, largest + 1, (), generator=random)
        if len(_EPOCHS) > 1:  # a batch spans at most two epochs
            _EPOCHS.clear()
        _EPOCHS[key] = offset + block_size * torch.randperm(per_epoch, generator=random)
    return _EPOCHS[key]


_EPOCHS: dict[tuple[int, ...], Tensor] = {}
