"""Systems to evaluate, by name: programs of this project, registered systems, stored outputs."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from lifemask.evaluation.config import EvaluationError
from lifemask.evaluation.systems.protocol import StoredOutputs, System, is_folder

_FIT = "_fit"
"""Suffix of a system's name for the fit that starts from its predictions."""


def _landmarks(development: Path) -> System:
    from lifemask.evaluation.systems.landmarks import LandmarkSystem

    return LandmarkSystem.from_pretrained()


def _mean_face(development: Path) -> System:
    from lifemask.evaluation.systems.mean_face import MeanFaceSystem

    return MeanFaceSystem.from_pretrained()


def _fit(development: Path) -> System:
    from lifemask.evaluation.systems.fit import FitSystem
    from lifemask.systems.registry import DEFAULT_SYSTEM

    return FitSystem.load(DEFAULT_SYSTEM)


def _plain_fit(development: Path) -> System:
    from lifemask.evaluation.systems.fit import FitSystem

    return FitSystem.load()


def _skin(development: Path) -> System:
    from lifemask.evaluation.systems.skin import SkinSystem

    return SkinSystem.from_pretrained()


def _three_ddfa(development: Path) -> StoredOutputs:
    from lifemask.evaluation.systems.stored import StoredThreeDDFA

    return StoredThreeDDFA(development)


_BUILDERS: dict[str, Callable[[Path], System | StoredOutputs]] = {
    "fit": _fit,
    "plain_fit": _plain_fit,
    "landmarks": _landmarks,
    "mean_face": _mean_face,
    "3ddfa_v2": _three_ddfa,
}

# Systems that the evaluation itself uses; they are not evaluated.
_HELPERS: dict[str, Callable[[Path], System | StoredOutputs]] = {"skin": _skin}


def system_names() -> list[str]:
    """Return the names that `load_system` accepts."""
    from lifemask.systems.registry import first_stages

    return sorted([*_BUILDERS, *(name + end for name in first_stages() for end in ("", _FIT))])


@lru_cache(maxsize=8)
def load_system(name: str, development: Path) -> System | StoredOutputs:
    """Return a system by name, or the stored outputs in a folder; each is built once per process.

    Args:
        name: one of `system_names()`; a registered system with a file of weights, such as
            "direct_regression=weights.safetensors" or "direct_regression_fit=weights.safetensors";
            or a folder of predictions.
        development: the folder `dev` of the data, with stored outputs of other programs.

    Raises:
        EvaluationError: the name is unknown, the weights do not fit, or the folder has no
            predictions.
    """
    builder = (_BUILDERS | _HELPERS).get(name)
    if builder is not None:
        return builder(development)
    system, equals, weights = name.partition("=")
    if system in system_names():
        return _registered(system, Path(weights) if equals else None)
    if not equals and is_folder(name):
        from lifemask.evaluation.systems.stored import PredictionFolder

        return PredictionFolder(Path(name))
    raise EvaluationError(
        f"Unknown system {name!r}. Known: {', '.join(system_names())}, a registered system with its "
        "weights (NAME=weights.safetensors), or a folder of predictions (KEY.npz or "
        "BENCHMARK/KEY.npz)."
    )


def _registered(name: str, weights: Path | None) -> System:
    from lifemask.evaluation.systems.fit import FitSystem
    from lifemask.evaluation.systems.registered import RegisteredSystem
    from lifemask.systems.registry import first_stages

    if name in first_stages():
        return RegisteredSystem.load(name, weights)
    return FitSystem.load(name.removesuffix(_FIT), weights)
