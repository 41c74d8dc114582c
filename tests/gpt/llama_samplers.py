"""llama.cpp's own samplers, called through the library in the package xllamacpp."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor


class _Data(ctypes.Structure):
    """llama_token_data."""

    _fields_ = (("id", c_int32), ("logit", c_float), ("p", c_float))


class _Array(ctypes.Structure):
    """llama_token_data_array."""

    _fields_ = (
        ("data", POINTER(_Data)),
        ("size", c_size_t),
        ("selected", c_int64),
        ("sorted", c_bool),
    )


_INITS: dict[str, tuple[Any, ...]] = {
    "llama_sampler_init_penalties": (c_int32, c_int32, c_float, c_float, c_float),
    "llama_sampler_init_temp": (c_float,),
    "llama_sampler_init_temp_ext": (c_float, c_float, c_float),
    "llama_sampler_init_top_k": (c_int32,),
    "llama_sampler_init_top_p": (c_float, c_size_t),
    "llama_sampler_init_min_p": (c_float, c_size_t),
    "llama_sampler_init_typical": (c_float, c_size_t),
    "llama_sampler_init_top_n_sigma": (c_float,),
    "llama_sampler_init_xtc": (c_float, c_float, c_size_t, c_uint32),
    "llama_sampler_init_mirostat_v2": (c_uint32, c_float, c_float),
}
"""Function of llama.h → types of its arguments."""
_DRY = "_Z30llama_sampler_init_dry_testingffiiRKSt6vectorIS_IiSaIiEESaIS1_EE"
"""The function for llama.cpp's own tests: breakers are ids, and no vocabulary is needed."""


@cache
def library() -> ctypes.CDLL | None:
    """The library; None if it is not installed or does not show these functions."""
    try:
        import xllamacpp.xllamacpp as module

        found = ctypes.CDLL(module.__file__)
        for name, arguments in _INITS.items():
            getattr(found, name).argtypes = arguments
            getattr(found, name).restype = c_void_p
        getattr(found, _DRY).argtypes = (c_float, c_float, c_int32, c_int32, c_void_p)
        getattr(found, _DRY).restype = c_void_p
        found.llama_sampler_accept.argtypes = (c_void_p, c_int32)
        found.llama_sampler_apply.argtypes = (c_void_p, POINTER(_Array))
        found.llama_sampler_free.argtypes = (c_void_p,)
    except (ImportError, OSError, AttributeError):
        return None
    return found


class Sampler:
    """One sampler of llama.cpp, with the ids that it was told of."""

    def __init__(self, name: str, *arguments: float, path: Sequence[int] = ()) -> None:
        """name: as in llama.h, without its beginning."""
        self._library = library()
        assert self._library
        self._sampler = getattr(self._library, f"llama_sampler_init_{name}")(*arguments)
        self._tell(path)

    @classmethod
    def dry(
        cls, numbers: tuple[float, float, int, int], breakers: Sequence[int], path: Sequence[int]
    ) -> Sampler:
        """numbers: multiplier, base, allowed length and window (-1: all)."""
        made = cls.__new__(cls)
        made._library = library()
        assert made._library
        # A std::vector is three pointers: its begin, its end, and the end of its memory.
        inner = [(c_int32 * 1)(i) for i in breakers]
        rows = (c_void_p * (3 * len(inner)))()
        for n, each in enumerate(inner):
            start = ctypes.addressof(each)
            rows[3 * n : 3 * n + 3] = [start, start + 4, start + 4]
        first = ctypes.addressof(rows)
        outer = (c_void_p * 3)(first, first + ctypes.sizeof(rows), first + ctypes.sizeof(rows))
        made._sampler = getattr(made._library, _DRY)(*numbers, ctypes.addressof(outer))
        made._tell(path)
        return made

    def _tell(self, path: Sequence[int]) -> None:
        assert self._library
        for token_id in path:
            self._library.llama_sampler_accept(self._sampler, token_id)

    def apply(self, logits: Tensor) -> tuple[Tensor, int]:
        """Logits (V) → new ones (V), -inf for removed tokens, and the id that it chose or -1."""
        assert self._library
        n = len(logits)
        data = (_Data * n)(*(_Data(i, x, 0.0) for i, x in enumerate(logits.tolist())))
        array = _Array(data, n, -1, False)
        self._library.llama_sampler_apply(self._sampler, ctypes.byref(array))
        found = torch.full((n,), float("-inf"))
        for i in range(array.size):
            found[array.data[i].id] = array.data[i].logit
        return found, array.data[array.selected].id if array.selected >= 0 else -1

    def close(self) -> None:
        """Free it."""
        assert self._library
        self._library.llama_sampler_free(self._sampler)
