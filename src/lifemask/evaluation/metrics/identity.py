"""Whether neutral shapes distinguish people: distances after rigid alignment, and their AUC."""

import numpy as np
from jaxtyping import Float, Int


def shape_distances(shapes: Float[np.ndarray, "N V 3"]) -> Float[np.ndarray, "N N"]:
    """Return for each pair the RMS distance of corresponding vertices after the best rigid motion.

    The unit is that of the shapes. Kabsch, "A solution for the best rotation to relate two sets of
    vectors", 1976; the residual follows from the singular values alone.
    """
    centred = shapes.astype(np.float64) - shapes.mean(1, keepdims=True, dtype=np.float64)
    energy = (centred**2).sum((1, 2))
    count, vertices = shapes.shape[:2]
    distances = np.zeros((count, count))
    for i in range(count):
        products = np.einsum("va,nvb->nab", centred[i], centred[: i + 1])
        singular = np.linalg.svd(products, compute_uv=False)
        singular[:, 2] *= np.sign(np.linalg.det(products))
        squared = energy[i] + energy[: i + 1] - 2 * singular.sum(1)
        distances[i, : i + 1] = np.sqrt(np.maximum(squared, 0) / vertices)
    np.fill_diagonal(distances, 0)
    return distances + distances.T


def same_person_auc(
    distances: Float[np.ndarray, "N N"],
    people: Int[np.ndarray, "N"],
    photos: Int[np.ndarray, "N"] | None = None,
) -> float:
    """Return the probability that two photos of one person are nearer than two of different people.

    Ties count one half. The result is NaN without both kinds of pairs.

    Args:
        distances: distances between photos.
        people: the person on each photo.
        photos: the photo of each row, if a bootstrap repeats rows; a photo is never paired with
            itself. None: all rows are different photos.
    """
    photos = np.arange(len(people)) if photos is None else photos
    first, second = np.tril_indices(len(people), -1)
    different_photos = photos[first] != photos[second]
    same = people[first] == people[second]
    near = np.sort(distances[first, second][same & different_photos])
    far = distances[first, second][~same]
    if not len(near) or not len(far):
        return float("nan")
    below = np.searchsorted(near, far, side="left")
    up_to = np.searchsorted(near, far, side="right")
    return float((below + up_to).mean() / 2 / len(near))
