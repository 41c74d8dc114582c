"""What the sampling settings are called, on the screen and in pipes."""

from __future__ import annotations

_NAMES = {
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
    "repetition_penalty": "repetition",
    "presence_penalty": "presence",
    "frequency_penalty": "frequency",
    "penalty_window": "window",
    "dry_multiplier": "DRY",
    "dry_base": "DRY base",
    "dry_allowed_length": "DRY length",
    "dry_window": "DRY window",
    "dynatemp_range": "dynamic ±",
    "dynatemp_exponent": "exponent",
    "top_n_sigma": "n-sigma",
    "typical_p": "typical-p",
    "xtc_probability": "XTC",
    "xtc_threshold": "XTC from",
    "mirostat_tau": "mirostat",
    "mirostat_eta": "mirostat η",
}
"""Name of a setting in code → what a person calls it, if that is another name."""


def setting_name(name: str) -> str:
    """What a person calls a setting."""
    return _NAMES.get(name, name.replace("_", " "))
