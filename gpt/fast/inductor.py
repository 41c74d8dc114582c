"""What PyTorch's compiler for CPUs is taught: products of bytes, and prefetching.

Inductor generates neither. Both are taught by replacing methods of its code generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

from gpt.weights import words

_PREFETCH_BYTES = 2048
"""How far ahead of its loads a loop over a matrix prefetches."""
_VECTOR = "at::vec::Vectorized<int32_t>(_mm512_dpbusd_epi32({}, {}, {}))"
_SCALAR = (
    "([](int32_t total, uint32_t a, uint32_t b) {{ for (int i = 0; i < 32; i += 8) "
    "total += int32_t(a >> i & 255) * int32_t(int8_t(b >> i & 255)); return total; }})({}, {}, {})"
)
"""C++ for words.dot4, of vectors with an instruction of AVX-512 VNNI, and of single words."""


def teach_dot4() -> None:
    """Let Inductor generate words.dot4.

    It has an operator for a line of code in the language of the target, which only GPUs use. Raises
    ImportError or AttributeError if this version is different.
    """
    from torch._inductor.codegen.cpp import CppOverrides, CppVecOverrides
    from torch._inductor.lowering import make_pointwise, register_lowering
    from torch._inductor.virtualized import ops

    def dot4(total: Any, unsigned: Any, signed: Any) -> Any:
        return ops.inline_asm_elementwise(
            total, unsigned, signed, asm="dot4", constraints=None, dtype=torch.int32
        )

    register_lowering(words.dot4.default, type_promotion_kind=None, broadcast=True)(
        make_pointwise(dot4)
    )
    for kind, code in ((CppOverrides, _SCALAR), (CppVecOverrides, _VECTOR)):

        def inline_asm_elementwise(a: str, b: str, c: str, code: str = code, **_: Any) -> str:
            return code.format(a, b, c)

        kind.inline_asm_elementwise = staticmethod(inline_asm_elementwise)  # type: ignore


@contextmanager
def prefetching(wanted: bool) -> Iterator[None]:
    """Let Inductor add a prefetch to each vector load in a loop over a matrix, if that is wanted.

    Inductor cannot generate prefetches, so its method for loads is replaced. If another version of
    it has different internals, loops stay as they are.
    """
    if not wanted:
        yield
        return
    try:
        from torch._inductor.codegen.cpp import CppVecKernel
        from torch._inductor.codegen.cpp_utils import cexpr_index
        from torch._inductor.virtualized import V

        load = CppVecKernel.load
    except (ImportError, AttributeError):
        yield
        return

    def load_and_prefetch(self: CppVecKernel, name: str, index: Any) -> Any:
        value = load(self, name, index)
        with suppress(AttributeError):
            tensor = V.graph.graph_inputs.get(name)
            is_vector = self.itervars[self.tiling_idx] in index.free_symbols
            if tensor is not None and len(tensor.get_size()) > 1 and is_vector:
                distance = _PREFETCH_BYTES // tensor.get_dtype().itemsize
                ahead = self.rename_indexing(index) + distance
                address = f"{self.args.input(name)} + {cexpr_index(ahead)}"  # type: ignore[no-untyped-call]
                line = f"__builtin_prefetch({address});"
                if line not in self.loads._lines:  # a value may be loaded several times
                    self.loads.writeline(line)
        return value

    CppVecKernel.load = load_and_prefetch  # type: ignore[method-assign]
    try:
        yield
    finally:
        CppVecKernel.load = load  # type: ignore[method-assign]
