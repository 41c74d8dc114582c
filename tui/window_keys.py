"""The keys of windows and panels; their classes declare them, not the table in tui/keys.py."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from textual.binding import Binding
from textual.dom import DOMNode

from tui.keys import KEYS, PROGRAM, key_problems, unknown


def problems(chosen: Mapping[str, str]) -> list[str]:
    """Problems with the keys that a person chose, one sentence each. chosen: id → keys."""
    of_windows = window_keys() if unknown(chosen) else []  # most people change keys of the table
    return key_problems(chosen, [str(binding.id) for binding in of_windows])


def window_keys() -> list[Binding]:
    """Every key of a window or panel whose id the preferences accept. Imports all of them."""
    ids = {key.id for key in (*KEYS, *PROGRAM)}
    found: dict[str, Binding] = {}
    for name in ("tui.screens", "tui.inside", "tui.widgets"):
        package = importlib.import_module(name)
        for module in pkgutil.iter_modules(package.__path__, f"{name}."):
            for each in vars(importlib.import_module(module.name)).values():
                if isinstance(each, type) and issubclass(each, DOMNode):
                    own = (binding for binding in each.BINDINGS if isinstance(binding, Binding))
                    found |= {b.id: b for b in own if b.id and b.id not in ids}
    return sorted(found.values(), key=lambda binding: binding.id or "")
