from __future__ import annotations

import subprocess
import sys

import pytest

from gpt.interpret.architecture import Architecture, architecture
from gpt.models import parameters
from tests.conftest import random_model
from tests.gpt.inside import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_is_there_with_its_shape(family: str) -> None:
    model = random_model(**FAMILIES[family])
    found = architecture(model.config)
    real = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {weight.name: weight.shape for weight in found.weights} == real
    assert len(found.weights) == len(real)
    assert found.n_params == sum(tensor.numel() for tensor in model.parameters())
    assert found.n_params == sum(parameters(model.config).values())
    assert Architecture.from_dict(found.to_dict()) == found
    assert all(note.endswith(".") for note in found.notes)
    for weight in found.weights:
        assert weight.layer == (int(weight.name.split(".")[1]) + 1 if "h." in weight.name else 0)


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; from gpt.interpret import architecture, looks, effects; "
        "from gpt import interventions; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
