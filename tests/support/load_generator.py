"""The benchmark's load generator, which is no part of a package."""

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parents[2] / "benchmarks" / "load.py"
_spec = importlib.util.spec_from_file_location("newsdesk_load", _PATH)
assert _spec
assert _spec.loader
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module
_spec.loader.exec_module(_module)

Result, make_request, run = _module.Result, _module.make_request, _module.run
