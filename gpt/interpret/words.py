"""Tokens as vectors: neighbours, analogies and a plane, in the embedding and the output matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.looks import Neighbour, Neighbours, Place, Plane, Token
from gpt.interpret.matrix import output_matrix, row_blocks, rows_of
from gpt.progress import NOBODY, Watcher

Matrix = Literal["embedding", "output"]
MATRICES: tuple[Matrix, ...] = ("embedding", "output")
_MOST = 1000
"""Most tokens on a plane, and in an analogy."""
_TINY = 1e-12


@torch.inference_mode()
def neighbours(
    context: Context,
    plus: Sequence[int],
    minus: Sequence[int] = (),
    *,
    matrix: Matrix = "embedding",
    top: int = 10,
    watcher: Watcher = NOBODY,
) -> Neighbours:
    """The tokens whose rows (E) of a matrix are nearest to a sum of rows, by cosine and by dot.

    One token in `plus`: its neighbours. More: an analogy, such as king − man + woman (Mikolov et
    al. 2013, NAACL), where each row has its own length. The tokens of the sum are left out. In a
    model with a tied output matrix both matrices are the same.

    Args:
        matrix: "embedding", the vectors that the network reads, or "output", those with which the
            hidden state is multiplied for the logits.
        top: number of neighbours by each measure.
    """
    _check(context, [*plus, *minus])
    if not plus:
        raise UserError("neighbours need at least one token")
    module = _module(context, matrix)
    vector = rows_of(module, plus).sum(0)  # (E)
    if minus:
        vector = vector - rows_of(module, minus).sum(0)
    dots, cosines = _compare(module, vector, watcher)
    bytes_of = context.tokenizer.token_bytes
    by_cosine, by_dot = (
        tuple(
            Neighbour(Token(i, bytes_of(i)), float(cosines[i]), float(dots[i]))
            for i in _best(measure, {*plus, *minus}, top)
        )
        for measure in (cosines, dots)
    )
    return Neighbours(matrix, by_cosine, by_dot)


@torch.inference_mode()
def position_neighbours(context: Context, position: int, *, top: int = 10) -> Neighbours:
    """The learned positions whose vectors (C) are nearest to that of one, by cosine and by dot."""
    table = getattr(context.model, "wpe", None)
    if not isinstance(table, nn.Embedding):
        raise UserError("this model has no learned positions; it turns queries and keys instead")
    if not 0 <= position < len(table.weight):
        raise UserError(
            f"there is no position {position}; this model has 0 to {len(table.weight) - 1}"
        )
    dots, cosines = _compare(table, rows_of(table, [position])[0], NOBODY)
    by_cosine, by_dot = (
        tuple(
            Neighbour(Token(i, b""), float(cosines[i]), float(dots[i]))
            for i in _best(measure, {position}, top)
        )
        for measure in (cosines, dots)
    )
    return Neighbours("positions", by_cosine, by_dot)


@torch.inference_mode()
def plane(context: Context, ids: Sequence[int], *, matrix: Matrix = "embedding") -> Plane:
    """Tokens on the plane of the first two principal components of their rows (n, E), centred.

    The components are the right singular vectors of the centred rows (Pearson 1901). Of the two
    possible signs of each, the one in which the token that is farthest from the centre has a
    positive coordinate is chosen, so that a picture repeats.
    """
    wanted = list(dict.fromkeys(ids))
    _check(context, wanted)
    if len(wanted) < 2:
        raise UserError("a plane needs at least two different tokens")
    rows = rows_of(_module(context, matrix), wanted).double().cpu()  # (n, E)
    centred = rows - rows.mean(0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    places = torch.zeros(len(wanted), 2, dtype=torch.double)
    n = min(2, len(sizes))
    places[:, :n] = left[:, :n] * sizes[:n]
    farthest = places.abs().argmax(0)  # (2)
    places = places * torch.where(places[farthest, torch.arange(2)] < 0, -1.0, 1.0)
    shares = torch.zeros(2, dtype=torch.double)
    shares[:n] = (sizes.square() / sizes.square().sum().clamp_min(_TINY))[:n]
    bytes_of = context.tokenizer.token_bytes
    return Plane(
        matrix,
        tuple(
            Place(Token(i, bytes_of(i)), x, y)
            for i, (x, y) in zip(wanted, places.tolist(), strict=True)
        ),
        tuple(shares.tolist()),
    )


def _check(context: Context, ids: Sequence[int]) -> None:
    context.check_ids(ids)
    if len(ids) > _MOST:
        raise UserError(f"there are {len(ids)} tokens; at most {_MOST} are possible")


def matrix_named(name: str) -> Matrix:
    """One of MATRICES. Raises UserError for another name."""
    for matrix in MATRICES:
        if name == matrix:
            return matrix
    raise UserError(f"there is no matrix {name[:50]!r}; use {' or '.join(MATRICES)}")


def _module(context: Context, matrix: Matrix) -> nn.Module:
    return context.model.wte if matrix == "embedding" else output_matrix(context.model)


def _compare(module: nn.Module, vector: Tensor, watcher: Watcher) -> tuple[Tensor, Tensor]:
    """Dot products and cosines (n) of all rows of a matrix with a vector."""
    scale = getattr(module, "scale", None)
    n_rows = len(module.weight if scale is None else scale)  # type: ignore[arg-type]
    dots, norms, done = list[Tensor](), list[Tensor](), 0
    for rows in row_blocks(module):
        watcher.tell(f"token {done:,} of {n_rows:,}")
        if watcher.cancelled():
            break
        dots.append(rows @ vector)
        norms.append(rows.norm(dim=-1))
        done += len(rows)
    if not dots:
        return torch.zeros(0), torch.zeros(0)
    all_dots = torch.cat(dots)
    lengths = torch.cat(norms) * vector.norm()
    return all_dots, all_dots / lengths.clamp_min(_TINY)


def _best(measure: Tensor, left_out: set[int], top: int) -> list[int]:
    """Indices of the highest values, best first, without some."""
    found = measure.topk(min(top + len(left_out), len(measure))).indices.tolist()
    return [i for i in found if i not in left_out][:top]
