"""The tree of errors is as it is drawn, and every error can be told."""

from __future__ import annotations

import inspect
import re
from http import HTTPStatus

import pytest

from lib import errors
from lib.errors import AppError, DataFailed, FieldError, ProviderError, RenderFailed, ServiceFailed, UserRemoved
from lib.http.problem import problem

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]
APP_ERRORS = [kind for kind in ERRORS if issubclass(kind, AppError)]
PROVIDER_ERRORS = [kind for kind in ERRORS if issubclass(kind, ProviderError)]


def drawn() -> dict[str, tuple[str, str]]:
    """Each class in the module's drawing, with its parent and what is said of it."""
    tree: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"([│├└─ ]*)([A-Z]\w+)(?: {2,}| +(?=\d))?(.*)", line)
        if match is None or (not match[1] and "  " not in line):
            continue
        depth = len(match[1]) // 4
        tree[match[2]] = (above[depth - 1] if depth else "Exception", match[3])
        above[depth:] = [match[2]]
    return tree


def test_drawing_is_the_tree() -> None:
    """What is drawn at the top of the module is every class below it, each under its parent."""
    parents = {name: parent for name, (parent, _) in drawn().items()}
    assert parents == {kind.__name__: (kind.__base__ or Exception).__name__ for kind in ERRORS}


@pytest.mark.parametrize("kind", [kind for kind in APP_ERRORS if kind is not AppError])
def test_drawn_statuses(kind: type[AppError]) -> None:
    """The status that is drawn is the one that is sent."""
    _, said = drawn()[kind.__name__]
    assert re.match(rf"{kind.status}\b", said)
    assert 400 <= HTTPStatus(kind.status) < 600


@pytest.mark.parametrize("kinds", [APP_ERRORS, PROVIDER_ERRORS])
def test_codes(kinds: list[type[AppError | ProviderError]]) -> None:
    """Every error has a code of its own, as codes are written."""
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


@pytest.mark.parametrize("kind", PROVIDER_ERRORS)
def test_text_of_a_provider_error(kind: type[ProviderError]) -> None:
    """All that a ProviderError says is its code: there is no place for a vendor's words."""
    error = kind(status=500, retry_after_s=7.0)
    assert (str(error), error.args, error.status, error.retry_after_s) == (kind.code, (kind.code,), 500, 7.0)
    with pytest.raises(TypeError):
        kind("what the vendor wrote")  # pyright: ignore[reportCallIssue]


def test_data_failed() -> None:
    """All that callers are told of a DataFailed is ours: its reason stays inside."""
    error = DataFailed("23505")
    told = problem(error, "id")
    assert (told.status_code, error.reason, b"23505" in bytes(told.body)) == (503, "23505", False)


def test_render_failed() -> None:
    """A RenderFailed names stage and frame; what ffmpeg wrote stays inside."""
    error = RenderFailed("The narration is empty", stage="narration", frame=3, reason="empty", log="/home/a.wav")
    told = problem(error, "id")
    assert (told.status_code, str(error)) == (500, "The narration is empty (narration, frame 3)")
    assert b"/home" not in bytes(told.body)


@pytest.mark.parametrize("kind", [kind for kind in APP_ERRORS if kind not in {DataFailed, RenderFailed, UserRemoved}])
def test_app_errors_can_be_told(kind: type[AppError]) -> None:
    """Every error becomes a problem with its status and code, unless it was given another code."""
    assert problem(kind("No."), "id").status_code == kind.status
    error = kind("No.", code="own", errors=(FieldError("a", "b"),), retry_after_s=1, headers={"x-own": "1"})
    assert (error.code, kind.code != "own", str(error)) == ("own", True, "No.")
    assert problem(error, "id").headers["x-own"] == "1"


def test_the_trees_are_apart() -> None:
    """What an adapter or a service behind us said is never told to a caller as it is."""
    assert not set(APP_ERRORS) & set(PROVIDER_ERRORS)
    assert {*APP_ERRORS, *PROVIDER_ERRORS, ServiceFailed} == set(ERRORS)
