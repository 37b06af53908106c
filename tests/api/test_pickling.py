"""Pickles of fitted classifiers: all protocols, joblib, other processes and threads."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from diffcls import DiffusionClassifier, ModelError, ZeroShotImageClassifier
from diffcls.api.remote_images import WebAccess
from diffcls.data.load import load_dataset
from diffcls.diffusion.parameterization import PARAMETERIZATIONS

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
LABELS = ["one", "seven"]
CODE = """
import json, pickle, sys
import numpy as np
with open(sys.argv[1], "rb") as file:
    fitted, images = pickle.load(file)
print(json.dumps(fitted.predict_proba(images).tolist()))
"""


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    items = [item for item in load_dataset("digits", "train").items if item.label in (1, 7)][:6]
    return np.stack([np.asarray(i.open()) for i in items]), np.array([i.label for i in items])


@pytest.fixture(scope="module")
def model(tiny_pipeline: Callable[[str], Path]) -> str:
    return str(tiny_pipeline("v_prediction"))


@pytest.fixture(scope="module")
def fitted(model: str, data: tuple[np.ndarray, np.ndarray]) -> DiffusionClassifier:
    estimator = DiffusionClassifier(
        model=model, class_names=LABELS, search="exhaustive", draws=2, calibration_images=6
    )
    return estimator.fit(*data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_fitted_estimator_predicts_the_same_after_pickling(
    fitted: DiffusionClassifier, data: tuple[np.ndarray, np.ndarray], protocol: int
) -> None:
    content = pickle.dumps(fitted, protocol)
    assert len(content) < 10_000  # the model is loaded again
    again = pickle.loads(content)
    assert again.temperature_ == fitted.temperature_ and again.get_params() == fitted.get_params()
    assert (again.predict_proba(data[0]) == fitted.predict_proba(data[0])).all()


def test_an_estimator_that_is_not_fitted_pickles_and_clones(fitted: DiffusionClassifier) -> None:
    again = pickle.loads(pickle.dumps(clone(fitted)))
    assert again.get_params() == fitted.get_params() and not hasattr(again, "classes_")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_classifier_scores_the_same_after_pickling(
    model: str, data: tuple[np.ndarray, np.ndarray], protocol: int
) -> None:
    loaded = ZeroShotImageClassifier.from_pretrained(model, search="exhaustive", draws=2, seed=5)
    in_memory = ZeroShotImageClassifier(
        loaded.denoiser, search="exhaustive", search_options={"draws": 2}, seed=5
    )
    wanted = loaded(data[0][0], LABELS)
    for classifier in (loaded, in_memory):
        again = pickle.loads(pickle.dumps(classifier, protocol))
        assert again(data[0][0], LABELS) == wanted


def test_attributes_that_were_set_since_loading_are_pickled(model: str) -> None:
    loaded = ZeroShotImageClassifier.from_pretrained(model, search="exhaustive", draws=2)
    loaded.hypothesis_template, loaded.web_access = "the digit {}", WebAccess(3.0, True)
    loaded.seed, loaded.batch_size = 5, 8
    again = pickle.loads(pickle.dumps(loaded))
    for name in ("web_access", "seed", "batch_size"):
        assert getattr(again, name) == getattr(loaded, name)
    image = np.zeros((8, 8))
    assert again(image, LABELS) == loaded(image, LABELS)
    assert again(image, LABELS) != loaded(image, LABELS, "a photo of a {}.")


def test_joblib_and_scikit_learns_pipeline(
    fitted: DiffusionClassifier, data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    joblib.dump(fitted, tmp_path / "fitted.joblib")
    again = joblib.load(tmp_path / "fitted.joblib")
    assert (again.predict_proba(data[0]) == fitted.predict_proba(data[0])).all()
    pipeline = make_pipeline(FunctionTransformer(np.asarray), clone(fitted)).fit(*data)
    file = io.BytesIO()
    joblib.dump(pipeline, file)
    file.seek(0)
    assert (joblib.load(file).predict(data[0]) == pipeline.predict(data[0])).all()


@pytest.mark.slow
def test_another_process_in_another_folder_predicts_the_same(
    model: str, data: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(model).parent)  # a relative path is stored as a whole one
    options: dict[str, Any] = {"class_names": LABELS, "search": "exhaustive", "draws": 2}
    relative = DiffusionClassifier(model=Path(model).name, **options).fit(*data)
    (tmp_path / "fitted.pkl").write_bytes(pickle.dumps((relative, data[0])))
    done = subprocess.run(
        [sys.executable, "-c", CODE, "fitted.pkl"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    there = np.array(json.loads(done.stdout))
    np.testing.assert_allclose(there, relative.predict_proba(data[0]), atol=1e-6)


def test_a_model_that_changed_since_is_refused(model: str, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(model, own)
    content = pickle.dumps(ZeroShotImageClassifier.from_pretrained(str(own)))
    (own / "diffcls.json").write_text('{"name": "own", "temperature": 0.5}')
    with pytest.raises(ModelError, match="has changed"):
        pickle.loads(content)


def test_every_parameterization_pickles() -> None:
    for row in PARAMETERIZATIONS.values():
        again = pickle.loads(pickle.dumps(row))
        assert again == row and again.det(0.8, 0.6) == row.det(0.8, 0.6)


# ---- threads -----------------------------------------------------------------------------------


def test_threads_share_a_classifier(model: str, data: tuple[np.ndarray, np.ndarray]) -> None:
    classifier = ZeroShotImageClassifier.from_pretrained(model, search="exhaustive", draws=2)
    tasks = [
        (image, labels) for image in data[0][:4] for labels in (LABELS, ["two", "four", "six"])
    ]
    wanted = [classifier(*task) for task in tasks]
    found: list[Any] = [None] * len(tasks)

    def work(i: int) -> None:
        found[i] = classifier(*tasks[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


def test_folds_in_threads_score_as_folds_in_turn(
    model: str, data: tuple[np.ndarray, np.ndarray]
) -> None:
    estimator = DiffusionClassifier(model=model, class_names=LABELS, search="exhaustive", draws=2)
    in_turn = cross_val_score(estimator, *data, cv=2, error_score="raise")
    with joblib.parallel_backend("threading", n_jobs=2):
        in_threads = cross_val_score(estimator, *data, cv=2, error_score="raise")
    assert (in_turn == in_threads).all()
