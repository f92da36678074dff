"""The errors of one test face: points, surface, normals, depth, albedo and light."""

import numpy as np
import torch
from jaxtyping import Float, Int

from lifemask.evaluation.correspondence import HeadToIct
from lifemask.evaluation.ict_faces.light import sphere_normals
from lifemask.evaluation.ict_faces.photo import FaceTruth
from lifemask.evaluation.metrics.appearance_error import (
    best_scale,
    chroma_angle,
    nearest_filled,
    relative_rms,
    shading_energy,
)
from lifemask.evaluation.metrics.box_error import INNER, box_error
from lifemask.evaluation.metrics.depth_error import depth_error
from lifemask.evaluation.metrics.normal_error import angle_degrees, unit
from lifemask.evaluation.metrics.shape_error import corresponding_error, similarity, surface_error
from lifemask.evaluation.predictions import Prediction
from lifemask.evaluation.surface_maps import camera_of_prediction
from lifemask.geometry.lighting import spherical_harmonics
from lifemask.registration import TriangleSurface

FEWEST_HIDDEN = 30
"""With fewer hidden points, the albedo of hidden points is not measured."""

FEWEST_DEPTHS = 100
"""With fewer common pixels, depth is not measured."""

_NOSE_TIP, _REACH_METRES, _EVERY = 30, 0.095, 3


class StillEvaluator:
    """Compares predictions with the truth; keeps data that depend only on a mesh's topology."""

    def __init__(self, partners: HeadToIct) -> None:
        self.partners = partners
        self._surface: tuple[bytes, TriangleSurface] | None = None

    def __call__(self, prediction: Prediction, truth: FaceTruth) -> dict[str, float]:
        """Return all figures for which the prediction has arrays."""
        result: dict[str, float] = {}
        ibug = prediction.ibug_points()
        if ibug is not None:
            true = truth.landmarks68
            result["sparse %"] = box_error(ibug, true, true)
            result["inner %"] = box_error(ibug[INNER], true[INNER], true)
        return (
            result
            | self._geometry(prediction, truth)
            | appearance(prediction, truth, self.partners)
        )

    def _geometry(self, prediction: Prediction, truth: FaceTruth) -> dict[str, float]:
        result: dict[str, float] = {}
        vertices, partners = prediction.vertices_camera, self.partners
        ibug = prediction.ibug_points_camera()
        if vertices is not None and ibug is not None:
            surface = self._surface_of(prediction)
            start = similarity(ibug[INNER], truth.landmarks68_camera[INNER])
            wanted = _near_nose(truth, partners.vertices)
            if surface is not None:
                result["surface mm"] = 1000 * surface_error(vertices, surface, wanted, start=start)
        chosen = partners.vertices
        if vertices is not None and len(vertices) == partners.vertex_count:
            points = partners.partners(vertices)
            wanted = truth.vertices_camera[chosen]
            result["points mm"] = 1000 * corresponding_error(points, wanted)
            size = truth.skin.shape
            camera = camera_of_prediction(prediction, (size[0], size[1]))
            if camera is not None:
                focal = float(camera.focal_pixels)
                middle = camera.principal_point.numpy()
                seen = focal * points[:, :2] / points[:, 2:] + middle
                result["dense %"] = box_error(seen, truth.points[chosen], truth.landmarks68)
        neutral = prediction.vertices_neutral
        if neutral is not None and len(neutral) == partners.vertex_count:
            wanted = truth.vertices_neutral[chosen]
            result["neutral mm"] = 1000 * corresponding_error(partners.partners(neutral), wanted)
        return result

    def _surface_of(self, prediction: Prediction) -> TriangleSurface | None:
        if prediction.triangles is None or prediction.vertices_camera is None:
            return None
        triangles = prediction.triangles.astype(np.int64)
        if prediction.face_vertices is not None:
            triangles = triangles[prediction.face_vertices[triangles].all(1)]
        if not len(triangles):
            return None
        key = triangles.tobytes()
        if self._surface is None or self._surface[0] != key:
            self._surface = key, TriangleSurface(triangles, len(prediction.vertices_camera))
        return self._surface[1]


def appearance(
    prediction: Prediction, truth: FaceTruth, partners: HeadToIct | None = None
) -> dict[str, float]:
    """Return the errors of normals, depth, albedo and light."""
    result: dict[str, float] = {}
    size = (truth.skin.shape[0], truth.skin.shape[1])
    skin = truth.skin
    if not skin.any():
        return result
    depth = prediction.map("depth", size)
    if depth is not None and (depth[skin] > 0).sum() >= FEWEST_DEPTHS:
        result["depth %"] = depth_error(depth, truth.depth).mean
    normals = prediction.map("normals", size)
    if normals is not None:
        given = normals[skin].astype(np.float64)
        answered = np.linalg.norm(given, axis=-1) > 0.5
        angles = np.where(answered, angle_degrees(unit(given), unit(truth.normals[skin])), 90.0)
        result["normals °"] = float(angles.mean())
    albedo = prediction.map("albedo", size)
    if albedo is None:
        return result
    answered = albedo.max(-1) > 0
    result["empty %"] = 100 * float((~answered)[skin].mean())
    given, wanted = nearest_filled(albedo, answered)[skin], truth.albedo[skin]
    scale = best_scale(given, wanted)
    result["albedo seen %"] = relative_rms(scale * given, wanted)
    result["chroma °"] = chroma_angle(given, wanted)
    if prediction.light_sh is not None and scale > 0:
        on_sphere = light_on_sphere(prediction.light_sh) / scale
        result["light %"] = relative_rms(on_sphere, truth.light_on_sphere)
    shading = prediction.map("shading", size)
    if shading is not None and scale > 0:
        result["shading energy"] = shading_energy(shading / scale, truth.shading, skin)
    colours = prediction.vertices_albedo
    if partners is not None and colours is not None and len(colours) == partners.vertex_count:
        hidden = ~truth.visible[partners.vertices]
        if hidden.sum() >= FEWEST_HIDDEN:
            at_points = scale * partners.partners(colours)[hidden]
            true_colours = truth.albedo_points[partners.vertices][hidden]
            result["albedo hidden %"] = relative_rms(at_points, true_colours)
    return result


def light_on_sphere(light_sh: Float[np.ndarray, "9 3"]) -> Float[np.ndarray, "N 3"]:
    """Return the shading of the visible half of a white sphere."""
    smooth = spherical_harmonics(torch.from_numpy(sphere_normals())).numpy()
    return np.maximum(smooth @ light_sh.astype(np.float64), 0)


def _near_nose(truth: FaceTruth, chosen: Int[np.ndarray, "N"]) -> Float[np.ndarray, "M 3"]:
    points = truth.vertices_camera[chosen[::_EVERY]]
    distance = np.linalg.norm(points - truth.landmarks68_camera[_NOSE_TIP], axis=1)
    return points[distance < _REACH_METRES].astype(np.float64)
