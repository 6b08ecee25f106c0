"""Tells setuptools what pyproject.toml cannot: the folder assets/ is shipped inside the package.

In a checkout it lies beside headviz/, where people add concepts and models; installed it is
headviz/assets (headviz/base/assets.py finds either).
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["headviz", "headviz.*"]), "headviz.assets"],
    package_dir={"headviz.assets": "assets"},
    package_data={
        "headviz.assets": ["**/*"],
        "headviz.editing": ["*.json"],
        "headviz.page": ["*.css", "*.js"],
    },
)
