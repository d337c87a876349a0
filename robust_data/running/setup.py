"""For branches that still look here for what has moved; goes when they have landed."""

import importlib


def __getattr__(name: str):
    if name == "warn":
        return importlib.import_module("registry").warn_once
    modules = ("running.versions", "running.launch", "command_line.building", "measuring.epoch_log")
    for module in modules:
        found = importlib.import_module(f"robust_data.{module}")
        if hasattr(found, name):
            return getattr(found, name)
    raise AttributeError(name)
