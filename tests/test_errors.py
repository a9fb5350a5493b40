"""The tree of exceptions is the one drawn, and survives a process pool."""

from __future__ import annotations

import builtins
import pickle
import re

import pytest

from assay import errors

DRAWN = dict(re.findall(r"^\s+[├└]── (\w+) \((\w+)\)", errors.__doc__ or "", flags=re.MULTILINE))
DEFINED = {
    name: thing
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, errors.AssayError) and thing is not errors.AssayError
}


def test_the_tree_that_is_drawn_is_the_one_defined():
    assert set(DRAWN) == set(DEFINED)


@pytest.mark.parametrize("name", DEFINED)
def test_each_is_also_the_builtin_error_in_brackets(name: str):
    assert issubclass(DEFINED[name], getattr(builtins, DRAWN[name]))


@pytest.mark.parametrize("name", DEFINED)
def test_prints_its_message_and_survives_pickling(name: str):
    error = pickle.loads(pickle.dumps(DEFINED[name]("column 'a', row 3: found NaN")))
    assert type(error) is DEFINED[name]
    assert str(error) == "column 'a', row 3: found NaN"


def test_a_singular_curvature_keeps_its_numbers_through_pickling():
    error = errors.SingularCurvatureError("rank 2 of 3", rank=2, size=3, columns=("a", "b"))
    again = pickle.loads(pickle.dumps(error))
    assert (again.rank, again.size, again.columns) == (2, 3, ("a", "b"))


def test_the_warning_is_a_user_warning():
    assert issubclass(errors.AssayWarning, UserWarning)
