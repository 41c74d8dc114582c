"""A text file as training and validation ids, and batches of it; it knows no network."""

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
VALIDATION = 0.1
"""Share of a text, at its end, that is not learned from."""


@dataclass(frozen=True)
class Corpus:
    """Ids of a text, the first part to learn from and the rest to judge by."""

    train: Tensor
    """(N) int64."""
    validation: Tensor
    """(M) int64."""
    validation_text: str
    """The same as text."""

    @classmethod
    def from_text(
        cls, text: str, tokenizer: Tokenizer, *, validation: float = VALIDATION
    ) -> Corpus:
        """Cut a text at the character where its last part, validation, begins."""
        cut = _cut(text, validation)
        train, held_out = (torch.tensor(tokenizer.encode(t)) for t in (text[:cut], text[cut:]))
        return cls(train, held_out, text[cut:])

    def require(self, block_size: int) -> None:
        """Raise UserError where a part has no window of block_size tokens and the next one."""
        for name, part in (("training", self.train), ("validation", self.validation)):
            if len(part) <= block_size:
                raise UserError(
                    f"the {name} part of the text has {len(part)} tokens, which is too short "
                    f"for blocks of {block_size}; use a longer text or a smaller --block-size"
                )


def unseen_characters(text: str) -> list[str]:
    """Characters that only the validation part has, so that no training can teach them."""
    cut = _cut(text, VALIDATION)
    return sorted(set(text[cut:]) - set(text[:cut]))


def _cut(text: str, validation: float) -> int:
    return int(len(text) * (1 - validation))


def read_text(path: Path) -> str:
    """A text file, or all *.txt of a directory and below in the order of their names.

    Raises UserError where there is no text.
    """
    if not path.is_dir():
        return _read_file(path)
    files = sorted(file for file in path.rglob("*.txt") if file.is_file())
    if not files:
        raise UserError(f"{path} holds no *.txt file")
    return "\n".join(map(_read_file, files))


def _read_file(path: Path) -> str:
    text = text_file.read(path)
    if not text:
        raise UserError(f"{path} is empty")
    return text


def download_corpus(cache: Path, say: Callable[[str], object]) -> Path:
    """Tiny Shakespeare in a cache directory, fetched once and checked by its sha256.

    say gets a sentence for the person before anything is fetched. Raises UserError where it
    cannot be had, saying how to go on without a network.
    """
    path = cache / "tinyshakespeare.txt"
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == CORPUS_SHA256:
        return path
    advice = "get a text file by other means and name it with --data FILE"
    say(f"downloading {CORPUS_URL}")
    try:
        with urllib.request.urlopen(CORPUS_URL, timeout=30) as response:
            data = response.read()
    except (OSError, urllib.error.URLError) as error:
        raise UserError(f"cannot download {CORPUS_URL} ({error}); {advice}") from error
    if (found := hashlib.sha256(data).hexdigest()) != CORPUS_SHA256:
        raise UserError(f"{CORPUS_URL} has sha256 {found}, not {CORPUS_SHA256}; {advice}")
    cache.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def batch(ids: Tensor, step: int, *, batch_size: int, block_size: int, seed: int) -> Tensor:
    """The windows of one training step, (B, T + 1) int64: inputs and, one later, targets.

    Every epoch cuts the text at another offset into windows that do not overlap and shuffles
    them. It depends on its arguments alone, so a run can go on from any step.
    """
    # One block is given up to the offset, so that every epoch has as many windows.
    per_epoch = max(1, (len(ids) - 1) // block_size - 1)
    windows = []
    for index in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(index, per_epoch)
        starts = _epoch(len(ids), epoch, block_size, per_epoch, seed)
        start = int(starts[place])
        windows.append(ids[start : start + block_size + 1])
    return torch.stack(windows)


def _epoch(length: int, epoch: int, block_size: int, per_epoch: int, seed: int) -> Tensor:
    key = (length, epoch, block_size, per_epoch, seed)
    if key not in _EPOCHS:
        random = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        most = length - 1 - per_epoch * block_size
        offset = torch.randint(0, most + 1, (), generator=random)
        if len(_EPOCHS) > 1:  # a batch touches two epochs at most
            _EPOCHS.clear()
        _EPOCHS[key] = offset + block_size * torch.randperm(per_epoch, generator=random)
    return _EPOCHS[key]


_EPOCHS: dict[tuple[int, ...], Tensor] = {}
