from __future__ import annotations

import subprocess
import sys


def test_the_interface_loads_none_of_the_heavy_parts() -> None:
    code = """if True:
        import sys, tui.app, tui.__main__, tui.local_backend
        heavy = {"torch", "numpy", "safetensors", "transformers", "huggingface_hub", "tiktoken"}
        print(*sorted(heavy & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"\n"


def test_the_engine_starts_before_textual_is_imported() -> None:
    code = "import sys, tui.__main__, tui.local_backend; print('textual' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False\n"


def test_libraries_that_few_commands_need_are_loaded_by_those() -> None:
    code = """if True:
        import sys, convert.verify, convert.write, gpt.engine, gpt.loaded, gpt.training.command
        print(*sorted({"matplotlib", "plotext", "transformers"} & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"\n"
