"""The faces of the wings: what their `__init__` names is there, and costs nothing until it is used."""

import importlib
import subprocess
import sys

import pytest

WINGS = ["economics", "money", "trust"]
HEAVY = ["coincurve", "matplotlib", "numpy", "polars", "pydantic", "scipy", "sqlalchemy", "web3"]


@pytest.mark.parametrize("wing", WINGS)
def test_everything_that_a_face_names_is_there(wing: str) -> None:
    face = importlib.import_module(f"hypercluster.market.{wing}")
    assert face.__doc__
    assert face.__all__
    for name in face.__all__:
        thing = getattr(face, name)
        # Constants know no module; classes and functions come from a module of this wing.
        assert getattr(thing, "__module__", face.__name__).startswith(face.__name__), name


def test_importing_a_face_loads_nothing_heavy() -> None:
    wings = ", ".join(f"hypercluster.market.{wing}" for wing in WINGS)
    code = f"import sys, {wings}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
