"""Ray executor by the command: images and models that are broken, tokens, machines of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.image_folders import tree
from helpers.interrupted_runs import answers
from helpers.ray_processes import node_cluster

import diffcls
from diffcls.models.loading import WEIGHTS
from diffcls.support.workers.cluster import connected

pytest.importorskip("ray", reason="Ray is not installed: pip install diffcls[ray]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ON_RAY = ("--executor", "ray", "--workers", "2")
FEW = ("--threads", "1", "--draws", "4", "--no-check-model")
MARKER = "MarkerOfATestToken0123456789"

KILLS_ON_READING = """
import os, signal
from PIL import Image
opened = Image.open
def reading(file, *rest, **more):
    if "poison" in str(file) and "ray::" in open("/proc/self/cmdline").read():
        os.kill(os.getpid(), signal.SIGKILL)
    return opened(file, *rest, **more)
Image.open = reading
"""
"""What every Python of a test does as it starts: a worker dies of an image."""


def command(
    *arguments: str, prefix: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """The evaluate command, in a process of its own."""
    paths = [*filter(None, [environment.pop("first_on_path", "")]), *sys.path]
    return subprocess.run(
        [*prefix, sys.executable, "-P", "-m", "diffcls.evaluate", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_an_image_that_kills_every_worker_is_recorded_and_the_others_are_scored(
    tmp_path: Path,
) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("a worker is recognised by the /proc of Linux")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(KILLS_ON_READING)
    names = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)]
    data = tree(tmp_path / "data", [*names, "dog/poison.png"])
    flags = ("--dataset", data, *FEW, "--model", "digits", "--template", "{}")
    alone = tree(tmp_path / "alone", names)
    out, sound = tmp_path / "out", tmp_path / "sound"
    site = {"first_on_path": str(tmp_path / "site")}
    done = command(*flags, *ON_RAY, "--json", "--output-dir", str(out), **site)
    assert "Traceback" not in done.stderr
    (row,) = json.loads(done.stdout)
    assert (row["n_asked"], row["n_scored"]) == (9, 8), done.stderr
    records = answers(out)
    failed = records.pop("dog/poison.png")
    assert failed.error == "3 workers died while they scored this image"
    rest = ("--dataset", alone, *flags[2:], "--output-dir", str(sound))
    assert command(*rest).returncode == 0
    scored = {key: (one.ranking, one.scores) for key, one in records.items()}
    assert scored == {key: (one.ranking, one.scores) for key, one in answers(sound).items()}


def test_a_broken_model_is_the_error_of_a_serial_run(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(WEIGHTS / "digits", folder)
    for weights in folder.rglob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    flags = ("--model", str(folder), "--limit", "2", *FEW)
    serial = command(*flags, "--output-dir", str(tmp_path / "serial"))
    on_ray = command(*flags, *ON_RAY, "--output-dir", str(tmp_path / "ray"))
    assert serial.returncode == 2
    assert (on_ray.returncode, on_ray.stdout) == (2, "")
    assert on_ray.stderr.splitlines()[-1] == serial.stderr.splitlines()[-1]
    assert "Traceback" not in on_ray.stderr
    assert not list((tmp_path / "ray").glob("runs/*/records-*"))


# ---- a shared cluster --------------------------------------------------------------------------


def test_a_local_cluster_has_no_dashboard_and_refuses_who_has_no_token() -> None:
    import ray

    with connected(None):
        context = ray.get_runtime_context()
        from ray._private import worker

        node = worker._global_node
        assert node is not None and not node.webui_url
        (token,) = Path(node.get_session_dir_path()).parent.glob("token")
        assert token.stat().st_mode & 0o777 == 0o600
        secret = token.read_text(encoding="utf-8")
        join = f"import ray; ray.init(address={context.gcs_address!r}); print(ray.nodes())"
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
        stranger = subprocess.run(
            [sys.executable, "-c", join],
            env={**kept, "RAY_gcs_rpc_server_connect_timeout_s": "5"},
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert stranger.returncode != 0 and not stranger.stdout
        assert secret not in stranger.stderr
    assert not token.exists()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_no_token_is_in_the_files_of_ray_or_in_its_runtime_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import worker

    for name in ("HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, MARKER)
    out = tmp_path / "out"
    with connected(None):
        node = worker._global_node
        assert node is not None
        session = Path(node.get_session_dir_path())
        (row,) = diffcls.run_evaluation(
            dataset="digits",
            limit=4,
            draws=4,
            threads=1,
            quiet=True,
            executor="ray",
            workers=1,
            output_dir=str(out),
        )
        written = [path for path in (*session.rglob("*"), *out.rglob("*")) if path.is_file()]
        assert any(path.suffix == ".log" for path in written)
        assert not [path for path in written if MARKER.encode() in path.read_bytes()]
    assert row["n_scored"] == 4


# ---- machines without a common disk ------------------------------------------------------------


FITTED = {
    "sd-features": ("--method", "sd-features", "--limit", "20", "--threads", "1"),
    "learned": (
        *("--dataset", "scenes:12", "--search", "learned", "--candidates", "4"),
        *("--fit-images", "60", "--fit-classes", "12", "--limit", "8", *FEW),
    ),
}


@pytest.fixture
def address() -> Iterator[str]:
    """A cluster whose processes were started before a test changes its own file systems."""
    with node_cluster(cpus=2) as cluster:
        yield cluster.address


@pytest.mark.parametrize("method", FITTED)
def test_a_fit_reaches_workers_that_have_another_disk(
    method: str, address: str, tmp_path: Path
) -> None:
    """The driver has a file system in memory that no worker sees, and its output lies there."""
    own, script = tmp_path / "own", tmp_path / "driver.sh"
    own.mkdir()
    script.write_text('mount -t tmpfs none "$1" || exit 77; shift\n"$@"; s=$?\n')
    script.write_text(script.read_text() + f'cp -r "{own}/out" "{tmp_path}/copy"; exit $s\n')
    wanted = (*FITTED[method], "--quiet", "--output-dir")
    if shutil.which("unshare") is None:
        pytest.skip("unshare, which gives a process a file system of its own, is not installed")
    prefix = ("unshare", "--mount", "sh", str(script), str(own))
    done = command(*wanted, str(own / "out"), *ON_RAY, "--address", address, prefix=prefix)
    if done.returncode in (1, 77) and "permitted" in done.stderr + done.stdout:
        pytest.skip(f"only root may mount a file system: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    serial = command(*wanted, str(tmp_path / "serial"))
    assert serial.returncode == 0, serial.stderr
    fits = {path.name for path in (tmp_path / "copy" / "fits").iterdir()}
    assert fits == {path.name for path in (tmp_path / "serial" / "fits").iterdir()}
    assert answers(tmp_path / "copy") == answers(tmp_path / "serial")
