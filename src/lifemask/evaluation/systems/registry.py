"""Systems by name."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from lifemask.evaluation.config import EvaluationError
from lifemask.evaluation.systems.protocol import StoredOutputs, System, is_folder


def _fit(development: Path) -> System:
    from lifemask.evaluation.systems.fit import FitSystem

    return FitSystem.from_pretrained()


def _direct_regression(development: Path) -> System:
    from lifemask.evaluation.systems.direct_regression import DirectRegressionSystem

    return DirectRegressionSystem.from_pretrained()


def _direct_regression_fit(development: Path) -> System:
    from lifemask.evaluation.systems.direct_regression import DirectRegressionFitSystem

    return DirectRegressionFitSystem.from_pretrained()


def _landmarks(development: Path) -> System:
    from lifemask.evaluation.systems.landmarks import LandmarkSystem

    return LandmarkSystem.from_pretrained()


def _mean_face(development: Path) -> System:
    from lifemask.evaluation.systems.mean_face import MeanFaceSystem

    return MeanFaceSystem.from_pretrained()


def _skin(development: Path) -> System:
    from lifemask.evaluation.systems.skin import SkinSystem

    return SkinSystem.from_pretrained()


def _three_ddfa(development: Path) -> StoredOutputs:
    from lifemask.evaluation.systems.stored import StoredThreeDDFA

    return StoredThreeDDFA(development)


_BUILDERS: dict[str, Callable[[Path], System | StoredOutputs]] = {
    "direct_regression": _direct_regression,
    "direct_regression_fit": _direct_regression_fit,
    "fit": _fit,
    "landmarks": _landmarks,
    "mean_face": _mean_face,
    "3ddfa_v2": _three_ddfa,
}

# What the judge itself needs to know about a photo; not a system to be judged.
_HELPERS: dict[str, Callable[[Path], System | StoredOutputs]] = {"skin": _skin}


def system_names() -> list[str]:
    """Return the names that `load_system` knows."""
    return sorted(_BUILDERS)


@lru_cache(maxsize=8)
def load_system(name: str, development: Path) -> System | StoredOutputs:
    """Return a system by name, or the stored outputs in a folder; built once per process.

    Args:
        name: one of `system_names()`, or a folder of predictions.
        development: the folder `dev` of the data, where peers' outputs are stored.

    Raises:
        EvaluationError: unknown name, or a folder without predictions.
    """
    builder = (_BUILDERS | _HELPERS).get(name)
    if builder is not None:
        return builder(development)
    if is_folder(name):
        from lifemask.evaluation.systems.stored import PredictionFolder

        return PredictionFolder(Path(name))
    raise EvaluationError(
        f"Unknown system {name!r}. Known: {', '.join(system_names())}, or a folder of "
        "predictions (KEY.npz or BENCHMARK/KEY.npz)."
    )
