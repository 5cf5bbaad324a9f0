"""The peers: installed into .venv-bench, which nothing else uses; LiteLLM's proxy as a server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.client import KEY, Target
from benchmarks.servers import Server, chat
from benchmarks.tools import ROOT, on_one_core

FOLDER = ROOT / ".venv-bench"
PINS = Path(__file__).with_name("peers.txt")
START_S = 180.0
MODELS = ("burst-20", "burst-2000", "paced-200", "slow-100", "error-500", "error-429", "hang-8", "cut-10")


def install() -> Path:
    """The peers' Python, with what peers.txt pins; made anew when that has changed."""
    python, stamp = FOLDER / "bin" / "python", FOLDER / ".stamp"
    wanted = f"{sys.version_info[:2]}\n{PINS.read_text()}"
    if not (stamp.exists() and stamp.read_text() == wanted):
        print("Installing the peers into .venv-bench (600 MB) …", file=sys.stderr, flush=True)
        uv = ROOT / ".venv" / "bin" / "uv"
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, FOLDER], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--python", python, "-r", PINS], check=True)
        stamp.write_text(wanted)
    return python


@contextmanager
def litellm(upstream: str, model: str = "burst-20") -> Generator[Server]:
    """LiteLLM's proxy with one worker: two retries, then a healthy fallback, as its documentation shows it."""
    python = install()
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        listener.close()
        file = Path(folder, "config.yaml")
        file.write_text(json.dumps(_configuration(upstream)))  # JSON is YAML
        command = [python.with_name("litellm"), "--config", file, "--host", "127.0.0.1", "--port", str(port)]
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # noqa: TID251
        environ = {**kept, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
        with on_one_core():
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(f"{url}/health/liveliness", process)
            yield Server(Target("LiteLLM proxy", url, "/v1/chat/completions", chat(model)), process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def versions() -> Mapping[str, str]:
    """What of the peers is installed."""
    code = "from importlib.metadata import version as v; print(v('litellm'), v('any-llm-sdk'))"
    told = subprocess.run([install(), "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(("LiteLLM", "any-llm"), told, strict=True))


def _configuration(upstream: str) -> dict[str, object]:
    def deployment(model: str) -> dict[str, object]:
        given = {"model": f"openai/{model}", "api_base": f"{upstream}/v1", "api_key": "none"}
        return {"model_name": model, "litellm_params": given}

    return {
        "model_list": [deployment(model) for model in (*MODELS, "backup")],
        "router_settings": {"num_retries": 2, "fallbacks": [{model: ["backup"]} for model in MODELS]},
        "general_settings": {"master_key": KEY},
    }


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + START_S
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("LiteLLM's proxy did not start.")
