"""What pyproject.toml has no words for: the scripts of the repository's root, as modules of the package."""

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT_SCRIPTS = ("data_statistics", "evaluate_robustness", "finetune_with_select_data")


class BuildPy(build_py):
    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        if package == "robust_data":
            return [*found, *((package, name, f"{name}.py") for name in ROOT_SCRIPTS)]
        # An installed script needs nothing that leads it to the package.
        return [module for module in found if module[1] != "robust_data"]


setup(cmdclass={"build_py": BuildPy})
