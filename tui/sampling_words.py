"""How it is said what a server makes of sampling settings; no widgets."""

from __future__ import annotations

from gpt.capabilities import Capabilities
from gpt.setting_names import setting_name

_SEEDS = {
    "strict": "Same random seed, started again here",
    "best effort": "Same random seed, which this server may not repeat exactly",
    "none": "This server takes no random seed",
}
"""What a comparison of two runs at a server says about their noise, which is the server's own."""


def said_seed(capabilities: Capabilities) -> str:
    """What a comparison of two runs says about their noise: ours depends on the position alone."""
    return _SEEDS[capabilities.seed] if capabilities.server else "Same random seed"


def said_ignored(names: tuple[str, ...]) -> str:
    """A sentence about settings that the server ignores."""
    return f"The server ignores: {', '.join(map(setting_name, names))}."
