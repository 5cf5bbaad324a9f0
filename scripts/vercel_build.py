"""Builds the functions with Vercel's own CLI, offline and in a copy of the tree, then checks and calls the result.

Ends with 0 when all is well, with 1 when the build or what it made is not, with 2 when a tool is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import av  # noqa: E402 - after the path
import httpx  # noqa: E402

from tests.database import copied, served  # noqa: E402
from tests.fakes.elevenlabs import FakeElevenLabs  # noqa: E402
from tests.fakes.fal import FakeFal  # noqa: E402
from tests.fakes.loop import LoopThread  # noqa: E402
from tests.fakes.vendor import Gate, Vendor, words  # noqa: E402
from tests.local.supabase.conftest import PUBLISHABLE, SECRET, Clock  # noqa: E402
from tests.local.supabase.conftest import served as project_over  # noqa: E402
from tests.runtime import Runtime, RuntimeFailed, RuntimeMissing, find_python  # noqa: E402

BUILD = ROOT / "build"
TOOLS, CLI, TREE, BUNDLE = (BUILD / name for name in ("vercel-tools", "vercel-cli", "vercel", "vercel-bundle"))
OUTPUT = TREE / ".vercel" / "output"
CLI_PACKAGE = {
    "private": True,
    "dependencies": {"vercel": "64.0.2"},
    # The version that the CLI asks for is not in the registry.
    "overrides": {"sandbox": "4.5.0"},
}
PROJECT: dict[str, Any] = {"projectId": "prj_stub", "orgId": "team_stub", "settings": {}}
"""What a login would have written."""
PYTHON_VERSION = (3, 12)
KEPT = {"api", "lib", "_vendor", "vc__handler__python.py"}
"""What may be at the root of a bundle."""
CARRIERS = {"/api/vsl"}
"""The functions that carry ffmpeg, as vendor/ffmpeg; it would cost every other one 76 MiB at each cold start."""
RUNTIME = re.compile(r"_vendor/vercel_runtime-(.+)\.dist-info/METADATA")
MAX_MIB = 225
"""Above, Vercel takes packages out of the bundle and installs them at every cold start."""
MIB = 2**20
CALLED, FILMS = "/api/generate", "/api/vsl"
FILM_S = 120.0
FRAMES = [
    {"narration": "Dark nights.", "image_prompt": "a dark lake"},
    {"narration": "Lumen shines.", "image_prompt": "a"},
]
KEY = "build-check-0123456789"


class ToolMissing(Exception):
    """Something that the build needs is not on this machine."""


class BuildFailed(Exception):
    """A tool complained, and has said why."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A built function: its path, its settings, and its files by where they will lie."""

    path: str
    settings: dict[str, Any]
    files: dict[str, Path]

    def size(self, *, bytecode: bool) -> float:
        """MiB of bytecode, or of everything else."""
        files = (file for name, file in self.files.items() if name.endswith(".pyc") == bytecode)
        return sum(file.stat().st_size for file in files) / MIB


def main() -> int:
    """Build, check, call, report."""
    try:
        python = prepare_tools()
        sources = copy_sources()
        build()
    except (ToolMissing, RuntimeMissing) as error:
        print(error)
        return 2
    except BuildFailed as error:
        print(error)
        return 1
    bundles = sorted(map(read_bundle, OUTPUT.glob("functions/**/*.func")), key=lambda bundle: bundle.path)
    faults = list(site_faults(sources, bundles))
    for bundle in bundles:
        faults += bundle_faults(sources, bundle)
        if bundle.path == CALLED:
            faults += call_faults(bundle, python)
        if bundle.path == FILMS:
            faults += film_faults(bundle, python)
    report(bundles, faults)
    return 1 if faults else 0


def prepare_tools() -> Path:
    """Install the CLI, and put Python 3.12 and uv where it looks for them. Returns the former; raises ToolMissing."""
    if missing := [name for name in ("node", "npm", "git") if shutil.which(name) is None]:
        raise ToolMissing(f"Not on PATH, but needed to run Vercel's CLI here: {', '.join(missing)}.")
    python, version = find_python()
    if version != PYTHON_VERSION:
        raise ToolMissing("The build needs Python 3.12, which Vercel runs: on PATH or under pyenv.")
    uv = ROOT / ".venv" / "bin" / "uv"
    if not uv.exists():
        raise ToolMissing(f"{uv} is missing: run make install-dev.")
    shutil.rmtree(TOOLS, ignore_errors=True)
    TOOLS.mkdir(parents=True)
    (TOOLS / "python3.12").symlink_to(python)
    (TOOLS / "uv").symlink_to(uv)
    install_cli()
    return python


def install_cli() -> None:
    """Install the CLI unless this very one is there."""
    package, wanted = CLI / "package.json", json.dumps(CLI_PACKAGE)
    complete = CLI / "node_modules" / ".package-lock.json"
    if complete.exists() and package.read_text() == wanted:
        return
    print("Installing Vercel's CLI (360 MB, once)", flush=True)
    shutil.rmtree(CLI, ignore_errors=True)
    CLI.mkdir()
    package.write_text(wanted)
    run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error"], CLI)


def copy_sources() -> set[str]:
    """Copy what a deployment would upload into a tree of its own: the build writes into it. Returns the names."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(listing, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if listed.returncode:
        raise BuildFailed(f"git does not know the files of {ROOT}.")
    names = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    shutil.rmtree(TREE, ignore_errors=True)
    for name in names:
        (TREE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, TREE / name)
    (TREE / ".vercel").mkdir()
    (TREE / ".vercel" / "project.json").write_text(json.dumps(PROJECT))
    return names


def build() -> None:
    """`vercel build`, without a login."""
    command = [CLI / "node_modules" / ".bin" / "vercel", "build", "--yes", "--global-config", BUILD / "vercel-home"]
    run(command, TREE)


def run(command: Sequence[str | Path], folder: Path) -> None:
    """Run a tool with our tools before the machine's. Raises BuildFailed."""
    ours = ("VERCEL", "NOW_", "VIRTUAL_ENV", "PYTHON")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}  # noqa: TID251
    environ["PATH"] = f"{TOOLS}{os.pathsep}{environ['PATH']}"
    environ |= {"VERCEL_PYTHON_COMPILEALL": "1", "VERCEL_TELEMETRY_DISABLED": "1"}
    if subprocess.run(command, cwd=folder, env=environ, check=False).returncode:
        raise BuildFailed(f"{Path(command[0]).name} failed in {folder}.")


def read_bundle(folder: Path) -> Bundle:
    """A `.func` folder: files of its own, and a map of those that it takes from the tree."""
    settings = json.loads((folder / ".vc-config.json").read_text())
    files = {name: TREE / source for name, source in settings.get("filePathMap", {}).items()}
    own = (file for file in folder.rglob("*") if file.is_file() and file.name != ".vc-config.json")
    files |= {str(file.relative_to(folder)): file for file in own}
    path = folder.relative_to(OUTPUT / "functions").with_suffix("")
    return Bundle(f"/{path}", settings, files)


def site_faults(sources: set[str], bundles: Sequence[Bundle]) -> Iterator[str]:
    """What is wrong with the deployment as a whole."""
    wanted = {f"/{name[:-3]}" for name in sources if re.fullmatch(r"api(/[^_./][^/]*)+\.py", name)}
    built = {bundle.path for bundle in bundles}
    if built != wanted:
        yield f"functions built: {', '.join(sorted(built))}; expected: {', '.join(sorted(wanted))}"
    public = {name.removeprefix("public/") for name in sources if name.startswith("public/")}
    static = OUTPUT / "static"
    served = {str(file.relative_to(static)) for file in static.rglob("*") if file.is_file()}
    if served != public:
        yield f"static files that are not those of public/: {', '.join(sorted(served ^ public))}"


def bundle_faults(sources: set[str], bundle: Bundle) -> Iterator[str]:
    """What is wrong with one function."""
    missing = {name for name in sources if name.startswith(("api/", "lib/"))} - bundle.files.keys()
    if missing:
        yield f"{bundle.path} lacks {', '.join(sorted(missing))}"
    carries = bundle.path in CARRIERS
    strangers = {name.partition("/")[0] for name in bundle.files} - KEPT - ({"vendor"} if carries else set[str]())
    if strangers:
        yield f"{bundle.path} carries {', '.join(sorted(strangers))}"
    if carries and not os.access(bundle.files.get("vendor/ffmpeg", OUTPUT / "none"), os.X_OK):
        yield f"{bundle.path} carries no ffmpeg that can be executed"
    for folder in ("api", "lib", "_vendor"):
        if not any(name.startswith(f"{folder}/") and name.endswith(".pyc") for name in bundle.files):
            yield f"{bundle.path} has no bytecode in {folder}"
    size = bundle.size(bytecode=False) + bundle.size(bytecode=True)
    if size > MAX_MIB:
        yield f"{bundle.path} has {size:.1f} MiB, above {MAX_MIB}"
    expected = {"runtime": "python3.12", "supportsCancellation": True, "supportsResponseStreaming": True}
    for name, value in expected.items():
        if bundle.settings.get(name) != value:
            yield f"{bundle.path} has {name} {bundle.settings.get(name)!r} instead of {value!r}"


def call_faults(bundle: Bundle, python: Path) -> Iterator[str]:
    """What is wrong with a function's answer, started from its bundle alone and over a fake vendor."""
    lay_out(bundle)
    with closing(LoopThread()) as loop, closing(Vendor(loop)) as vendor:
        access = {"API_KEYS": f"build:user:{KEY}", "LOCAL_TEXT_BASE_URL": f"{vendor.url}/v1"}
        try:
            with Runtime.of_bundle(BUNDLE, {**bundle.settings["environment"], **access}, python) as runtime:
                started = next(message for message in runtime.messages if message.type == "server-started")
                texts = streamed(runtime, vendor)
        except (RuntimeFailed, httpx.HTTPError) as error:
            yield f"{bundle.path} does not run from its bundle: {type(error).__name__} {error}"
            return
    if texts != ["first", "second"]:
        yield f"{bundle.path} answered {texts}"
    print(f"\n{bundle.path} from its bundle: started within {started.payload['initDuration']} ms, streamed {texts}")


def film_faults(bundle: Bundle, python: Path) -> Iterator[str]:
    """What is wrong with the film that the function makes from its bundle alone, over fake vendors."""
    lay_out(bundle)
    with ExitStack() as running:
        loop = running.enter_context(closing(LoopThread()))
        painter, voice = (running.enter_context(closing(fake(loop))) for fake in (FakeFal, FakeElevenLabs))
        database = running.enter_context(copied(running.enter_context(served()), "film"))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        project = running.enter_context(project_over(database, folder, loop, Clock()))
        access = {
            "API_KEYS": f"build:user:{KEY}",
            "SESSION_SECRET": KEY,
            "SUPABASE_URL": project.url,
            "SUPABASE_SECRET_KEY": SECRET,
            "SUPABASE_PUBLISHABLE_KEY": PUBLISHABLE,
            "FAL_KEY": KEY,
            "FAL_BASE_URL": painter.url,
            "ELEVENLABS_API_KEY": KEY,
            "ELEVENLABS_BASE_URL": voice.url,
        }
        try:
            with Runtime.of_bundle(BUNDLE, {**bundle.settings["environment"], **access}, python) as runtime:
                began = time.monotonic()
                film = made(runtime, folder / "film.mp4")
        except (RuntimeFailed, httpx.HTTPError, TimeoutError) as error:
            yield f"{bundle.path} makes no film from its bundle: {type(error).__name__} {error}"
            return
    if film != ["h264", "aac"]:
        yield f"{bundle.path} made a film of {film}"
    print(f"\n{bundle.path} from its bundle: a film of {film} after {time.monotonic() - began:.1f} s")


def made(runtime: Runtime, file: Path) -> list[str]:
    """The codecs of a short film that the function was asked for."""
    headers = {"authorization": f"Bearer {KEY}", "accept": "application/json"}
    brief = {"script": {"title": "Lumen", "frames": FRAMES}, "aspect": "1:1"}
    with httpx.Client(base_url=runtime.url, headers=headers, timeout=60) as client:
        job = client.post(FILMS, json=brief).raise_for_status().json()
        ends_at = time.monotonic() + FILM_S
        # By the paths that vercel.json rewrites to.
        while job["status"] not in {"succeeded", "failed", "canceled"}:
            if time.monotonic() > ends_at:
                raise TimeoutError(f"still {job['status']}")
            time.sleep(0.5)
            job = client.get(f"{FILMS}/{job['id']}?of=job").raise_for_status().json()
        if job["status"] != "succeeded":
            return [job["status"], json.dumps(job.get("error"))]
        link = client.get(f"{FILMS}/{job['id']}/video?of=video")
        file.write_bytes(httpx.get(link.headers["location"], timeout=60).raise_for_status().content)
    with av.open(str(file)) as film:
        return [stream.codec_context.name for stream in (*film.streams.video, *film.streams.audio)]


def lay_out(bundle: Bundle) -> None:
    """A bundle's files where they will lie, executable where they are."""
    shutil.rmtree(BUNDLE, ignore_errors=True)
    for name, source in bundle.files.items():
        (BUNDLE / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, BUNDLE / name)


def streamed(runtime: Runtime, vendor: Vendor) -> list[str]:
    """The texts of an answer whose second one the vendor holds back until the first is here."""
    gate, texts = Gate(), list[str]()
    vendor.script(words("first", gate, "second"))
    with ask(runtime) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if '"text-delta"' in line:
                texts.append(json.loads(line.removeprefix("data: "))["delta"])
                gate.open()
    return texts


def ask(runtime: Runtime) -> AbstractContextManager[httpx.Response]:
    """A prompt on its way, patient for less time than the gate holds the vendor back."""
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx.stream("POST", f"{runtime.url}{CALLED}", json={"prompt": "Hi"}, headers=headers, timeout=20)


def report(bundles: Sequence[Bundle], faults: Sequence[str]) -> None:
    """What was built, and what is wrong with it."""
    print(f"\n{'function':<20} {'files':>6} {'sources':>9} {'bytecode':>9} {'together':>9}  MiB, at most {MAX_MIB}")
    for bundle in bundles:
        sources, bytecode = bundle.size(bytecode=False), bundle.size(bytecode=True)
        print(f"{bundle.path:<20} {len(bundle.files):>6} {sources:>9.1f} {bytecode:>9.1f} {sources + bytecode:>9.1f}")
    runtimes = {match[1] for bundle in bundles for name in bundle.files if (match := RUNTIME.match(name))}
    print(f"\nVercel puts vercel-runtime {', '.join(sorted(runtimes))} into them.")
    print(*(f"WRONG: {fault}" for fault in faults), sep="\n", end="\n" if faults else "")
    print("The build is not as it should be." if faults else "The build is as it should be.")


if __name__ == "__main__":
    sys.exit(main())
