"""A Supabase of the test's own, and instances of the product over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from lib.providers import fal as fal_module
from lib.router import completion
from tests.api.studio import Studio
from tests.conftest import Serve, hosted_over
from tests.database import Database
from tests.fakes.elevenlabs import FakeElevenLabs
from tests.fakes.fal import FakeFal
from tests.fakes.loop import LoopThread
from tests.fakes.vendor import Vendor
from tests.instances import Instance, instance
from tests.local.supabase.conftest import PUBLISHABLE, SECRET, Clock, Project, served

StartInstance = Callable[[dict[str, str]], Instance]


@pytest.fixture
def supabase(database: Database, loop: LoopThread, tmp_path: Path) -> Iterator[Project]:
    """The real gateway over a fresh database with the product's migrations."""
    with served(database, tmp_path, loop, Clock()) as project:
        yield project


def over(project: Project) -> dict[str, str]:
    """The environment that names this project."""
    return {
        "SUPABASE_URL": project.url,
        "SUPABASE_SECRET_KEY": SECRET,
        "SUPABASE_PUBLISHABLE_KEY": PUBLISHABLE,
        "CRON_SECRET": "cron-secret-0123456789",
    }


@pytest.fixture
def start_instance(tmp_path: Path) -> Iterator[StartInstance]:
    """Starts instances; all are killed afterwards."""
    with ExitStack() as running:
        number = iter(range(10_000))
        yield lambda environ: running.enter_context(instance(environ, tmp_path / f"instance-{next(number)}.log"))


@pytest.fixture
def studio(
    serve: Serve, supabase: Project, vendor: Vendor, loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Studio]:
    """See Studio; afterwards every request to a vendor must have fitted its description.

    Whoever asks a vendor again does so after a moment, not after half a second.
    """
    monkeypatch.setattr(fal_module, "Deadlines", partial(fal_module.Deadlines, interval_s=0.01))
    monkeypatch.setattr(completion, "RETRY_S", 0.02)
    fal, voice = FakeFal(loop), FakeElevenLabs(loop)
    environ = {
        **hosted_over(groq=vendor),
        **over(supabase),
        "FAL_KEY": "key-of-fal-0123456789",
        "FAL_BASE_URL": fal.url,
        "ELEVENLABS_API_KEY": "key-of-elevenlabs-0123456789",
        "ELEVENLABS_BASE_URL": voice.url,
    }
    with ExitStack() as running:
        running.callback(fal.close)
        running.callback(voice.close)
        yield Studio(serve(environ), supabase, vendor, fal, voice)
    assert (fal.violations, voice.violations) == ([], [])
