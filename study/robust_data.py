"""Leads the scripts of this folder to the package beside it, where they are started by their paths."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
del sys.modules["robust_data"]
importlib.import_module("robust_data")
del sys.path[0]
