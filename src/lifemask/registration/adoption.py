"""Completes imported models, so that the code of the default head can fit them to photos.

A file contains a mean and modes; a fit also needs dense landmarks, regions and the 52 ARKit
expressions. The landmarks are found on pictures of the model's mean; then the default head is
registered to that mean, and the missing parts are copied from it.
"""

import numpy as np
import torch
from jaxtyping import Float

from lifemask.geometry.meshes import vertex_normals
from lifemask.morphable import (
    ARKIT_EXPRESSIONS,
    FaceLandmarks,
    LandmarkEmbedding,
    MorphableModel,
)
from lifemask.morphable.importers import ImportedModel
from lifemask.perception import FacePerception
from lifemask.registration.closest_points import TriangleSurface, vertex_areas
from lifemask.registration.gauss_newton import (
    LandmarkPairs,
    LinearShape,
    Registration,
    RegistrationConfig,
    register,
)
from lifemask.registration.surface_landmarks import (
    DENSE_POINTS,
    Appearance,
    SurfaceLandmarks,
    ViewConfig,
    complete_landmarks,
    find_surface_landmarks,
)

Array = np.ndarray

_REACH_METRES = 0.012
"""Nothing is copied to vertices that are farther from the registered head."""
_INSIDE = ("mouth_bag", "teeth", "gums_and_tongue", "tongue", "eye_socket_left", "eye_socket_right")
_BALLS = ("eyeball_left", "eyeball_right")
_COLOURS = {"skin": (0.55, 0.36, 0.28), "iris": (0.12, 0.07, 0.04), "sclera": (0.85, 0.85, 0.85)}


def adopt(
    imported: ImportedModel,
    head: MorphableModel,
    perception: FacePerception,
    *,
    identity_modes: int = 100,
) -> MorphableModel:
    """Return the imported model with all that a fit needs.

    The model has the 52 ARKit expressions: its own if the names match (`browDown_L` is
    `browDownLeft`), else those of the default head. It has no albedo; therefore it is fitted with
    quality "fast". Its eyeballs do not rotate.

    Args:
        imported: the result of an importer; measured landmarks replace its own, except the 68 if
            it has them.
        head: the default head, source of regions and expressions.
        perception: the networks that find landmarks on pictures of the mean.
        identity_modes: number of imported modes to keep.

    Raises:
        ValueError: too few landmarks are found on pictures of the mean: it is not a face, or its
            axes differ from head space.
    """
    found, outer = _find_landmarks(imported, perception)
    own = np.flatnonzero(found.spread[:468] < 0.0035)
    if len(own) < 100:
        raise ValueError(
            f"Only {len(own)} of 468 landmarks were found on pictures of {imported.name}. Check "
            "that its mean is a face with +Y up and +Z out of it, in metres."
        )
    dense, weight = complete_landmarks(found)
    registered = _register_head(head, imported, found)
    regions, carried = _transfer(head, registered, imported)
    expressions = np.stack([_expression(name, imported, carried) for name in ARKIT_EXPRESSIONS])
    for name, mask in imported.regions.items():
        regions[name] = mask
    skin_surface = TriangleSurface(imported.triangles[outer], len(imported.mean), neighbours=8)
    on_skin = skin_surface.closest(imported.mean, dense)
    weight[468:] = 0.0
    embedding = LandmarkEmbedding(
        torch.from_numpy(outer[on_skin.triangle_index]),
        torch.from_numpy(on_skin.barycentric).float(),
        torch.from_numpy(weight).float(),
    )
    ibug = None
    if imported.landmarks68 is not None:
        ibug = LandmarkEmbedding(
            torch.from_numpy(imported.landmarks68.triangle_index),
            torch.from_numpy(imported.landmarks68.barycentric).float(),
            torch.ones(68),
        )
    tensor = torch.from_numpy
    return MorphableModel(
        mean=tensor(imported.mean).float(),
        identity_basis=tensor(
            np.ascontiguousarray(imported.identity_basis[:identity_modes])
        ).float(),
        expression_basis=tensor(expressions).float(),
        expression_names=ARKIT_EXPRESSIONS,
        triangles=tensor(imported.triangles),
        uv=tensor(imported.uv).float(),
        uv_triangles=tensor(imported.uv_triangles),
        mirror=None if imported.mirror is None else tensor(imported.mirror),
        regions={name: tensor(np.asarray(mask)).float() for name, mask in regions.items()},
        landmarks=FaceLandmarks(landmarks68=ibug, landmarks68_outline=ibug, dense478=embedding),
    )


def arkit_name(name: str) -> str:
    """Return ARKit's spelling of an expression's name: `browDown_L` is `browDownLeft`."""
    for short, long in (("_L", "Left"), ("_R", "Right")):
        if name.endswith(short):
            return name.removesuffix(short) + long
    return name


def _find_landmarks(
    imported: ImportedModel, perception: FacePerception
) -> tuple[SurfaceLandmarks, Array]:
    """Return the dense points on the mean and the triangles of the skin."""
    inner = np.zeros(len(imported.mean), bool)
    for name in (*_INSIDE, *_BALLS):
        if name in imported.regions:
            inner |= imported.regions[name] > 0.5
    outer = np.flatnonzero(~inner[imported.triangles].any(1))
    mean = torch.from_numpy(imported.mean).float()
    colours = torch.tensor(_COLOURS["skin"]).repeat(len(mean), 1)
    for name in _BALLS:
        if name not in imported.regions:
            continue
        ball = torch.from_numpy(imported.regions[name] > 0.5)
        forward = torch.nn.functional.normalize(mean[ball] - mean[ball].mean(0), dim=-1)[:, 2]
        shades = torch.tensor(_COLOURS["iris"]), torch.tensor(_COLOURS["sclera"])
        colours[ball] = torch.where((forward > 0.86)[:, None], *shades)
    found = find_surface_landmarks(
        perception,
        [mean],
        [Appearance(vertex_colours=colours)],
        torch.from_numpy(imported.triangles),
        reference=mean,
        centre=torch.tensor([0.0, -0.03, 0.0]),
        landing=torch.from_numpy(outer),
        views=ViewConfig(yaws_degrees=(-30, 0, 30), pitches_degrees=(-5, 12)),
    )
    return found, outer


def _register_head(
    head: MorphableModel, imported: ImportedModel, found: SurfaceLandmarks
) -> Registration:
    """Return the default head on the imported mean."""
    dense = head.dense478
    if dense is None:
        raise ValueError("The given head has no dense landmarks; use the default head.")
    skin = head.regions["skin"].numpy() > 0.5
    triangles = head.triangles.numpy()
    shape = LinearShape(
        head.mean.double().numpy(),
        head.identity_basis.double().numpy(),
        triangles[skin[triangles].all(1)],
    )
    good = (found.spread < 0.0035) & (dense.weight.numpy() > 0.3) & (np.arange(DENSE_POINTS) < 468)
    pairs = LandmarkPairs(
        dense.triangle_index.numpy()[good],
        dense.barycentric.double().numpy()[good],
        found.position[good],
        dense.weight.double().numpy()[good],
        triangles,
    )
    normals = vertex_normals(
        torch.from_numpy(imported.mean), torch.from_numpy(imported.triangles)
    ).numpy()
    # Only some points of the face: hair, ears and neck differ too much between models.
    low, high = np.nanmin(found.position[good], 0) - 0.01, np.nanmax(found.position[good], 0) + 0.01
    face = np.flatnonzero(((imported.mean > low) & (imported.mean < high)).all(1))
    face = face[:: max(1, len(face) // 4000)]
    return register(
        shape,
        imported.mean[face],
        vertex_areas(imported.mean, imported.triangles)[face] + 1e-9,
        landmarks=pairs,
        normals=normals[face],
        config=RegistrationConfig(iterations=12),
    )


def _transfer(
    head: MorphableModel, registered: Registration, imported: ImportedModel
) -> tuple[dict[str, Array], Float[Array, "52 V 3"]]:
    """Return the head's regions and expressions at the imported vertices."""
    triangles = head.triangles.numpy()
    on_head = TriangleSurface(triangles, len(head.mean)).closest(registered.vertices, imported.mean)
    corners = triangles[on_head.triangle_index]
    near = (on_head.distance < _REACH_METRES).astype(np.float64)
    regions = {
        name: (mask.double().numpy()[corners] * on_head.barycentric).sum(1) * near
        for name, mask in head.regions.items()
    }
    moved = head.expression_basis.double().numpy()[:, corners]
    carried = np.einsum("nc,kncd->knd", on_head.barycentric, moved) * near[:, None]
    return regions, registered.scale * carried @ registered.rotation.T


def _expression(name: str, imported: ImportedModel, carried: Array) -> Float[Array, "V 3"]:
    """Return one ARKit shape: the model's own, the sum of its two sides, or the head's."""
    names = [arkit_name(own) for own in imported.expression_names]
    halves = [own for own in (name, name + "Left", name + "Right") if own in names]
    if halves:
        return np.sum([imported.expression_basis[names.index(own)] for own in halves], axis=0)
    return carried[ARKIT_EXPRESSIONS.index(name)]
