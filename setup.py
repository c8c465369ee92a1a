"""Maps the folders of the repository into one import package: `node` is installed as `hypercluster.node`.

Everything else about the distribution stands in pyproject.toml. To set a checkout up, run `make setup`.
"""

from setuptools import find_packages, setup

FOLDERS = ("contracts", "market", "migrations", "node")

setup(
    packages=[
        f"hypercluster.{name}"
        for folder in FOLDERS
        for name in find_packages(include=[folder, f"{folder}.*"])
    ],
    package_dir={f"hypercluster.{folder}": folder for folder in FOLDERS},
)
