"""Photos of test people whose skin has relief, or only colours that look like it, with the truth."""

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_erosion

from lifemask.evaluation.ict_faces.bumps import Relief, bumped_normals, low_passed
from lifemask.evaluation.ict_faces.chart import chart_places, sample_chart
from lifemask.evaluation.ict_faces.head import IctHead
from lifemask.evaluation.ict_faces.photo import SUPERSAMPLING, Scene, halved
from lifemask.evaluation.ict_faces.relief import unmeasured
from lifemask.evaluation.ict_faces.shots import Person, Shot

Array = np.ndarray

SHORTEST_PIXELS = 4.0
"""Shortest wavelength of the relief, in pixels of the photo."""

_STEEPEST = 0.3
"""Least cosine between line of sight and smooth normal where relief is compared."""

_EDGE_PIXELS = 3
"""Width of the border of the skin in which relief is not compared."""


@dataclass(frozen=True)
class DetailTruth:
    """The truth of one photo. Maps are in its pixels, zero outside the face's visible skin."""

    skin: Bool[Array, "H W"]
    """True on visible skin of the face, without ears and neck; not on hair."""
    measured: Bool[Array, "H W"]
    """The part of it without brows, lids and lips, and without steep or outermost pixels."""
    normals: Float[Array, "H W 3"]
    """Unit normals with relief (+x image right, +y up, +z to the viewer)."""
    normals_coarse: Float[Array, "H W 3"]
    """Unit normals of the mesh alone; the same as `normals` on a head without relief."""
    heights: Float[Array, "H W"]
    """Relief along the smooth normals, metres; 0 on a head without."""
    albedo: Float[Array, "H W 3"]
    """Linear RGB reflectance."""
    depth: Float[Array, "H W"]
    """Distance along the optical axis, metres."""
    focal_pixels: Float[Array, ""]
    """The focal length."""

    @property
    def has_relief(self) -> bool:
        """Whether the head has any relief."""
        return bool((self.heights != 0).any())

    @property
    def millimetres_per_pixel(self) -> Float[Array, "H W"]:
        """Width of a pixel at the surface, across the line of sight."""
        return 1000 * self.depth / float(self.focal_pixels)

    def cropped(self, rows: slice, columns: slice) -> "DetailTruth":
        """Return the truth of a part of the photo."""
        maps = {
            f.name: getattr(self, f.name)[rows, columns]
            for f in fields(self)
            if f.name != "focal_pixels"
        }
        return replace(self, **maps)


def photograph_detail(
    head: IctHead,
    person: Person,
    shot: Shot,
    *,
    heights: Float[Array, "R C"] | None,
    marks: Float[Array, "3 R C"],
) -> tuple[UInt8[Array, "H W 3"], DetailTruth]:
    """Return the photo, sRGB, and its truth.

    Args:
        head: the head that all people share.
        person: the person.
        shot: the conditions.
        heights: relief in the face's chart, metres; None: smooth skin.
        marks: decrease of the log reflectance (R, G, B) in the face's chart.
    """
    smooth = Scene.build(head, person, shot)
    # The chart is made for the mean head, so each pixel is asked for its place there.
    places = chart_places(smooth.image(head.model.mean))
    on_skin = smooth.skin
    scene = replace(smooth, albedo=_marked(smooth, marks, places))
    if heights is not None:
        scene = _bumped(scene, np.where(on_skin, sample_chart(heights, places), 0.0))
    soft = halved((sample_chart(unmeasured(head).astype(np.float64), places))[..., None])[..., 0]
    skin, coarse = scene.skin_of_photo(), scene.of_photo(smooth.normals)
    facing = coarse[..., 2] > _STEEPEST
    inner = np.asarray(binary_erosion(skin & facing, iterations=_EDGE_PIXELS), bool)
    high = np.zeros(on_skin.shape) if scene.relief is None else scene.relief.heights
    depth = halved(scene.fragments.depth.numpy()[..., None])[..., 0]
    truth = DetailTruth(
        skin=skin,
        measured=inner & (soft < 0.01),
        normals=scene.of_photo(scene.normals),
        normals_coarse=coarse,
        heights=(halved(high[..., None])[..., 0] * skin).astype(np.float32),
        albedo=(halved(scene.albedo) * skin[..., None]).astype(np.float32),
        depth=(depth * skin).astype(np.float32),
        focal_pixels=np.array(scene.focal_pixels / SUPERSAMPLING),
    )
    return scene.photo(shot), truth


def _marked(
    scene: Scene, marks: Float[Array, "3 R C"], places: Float[Array, "h w 2"]
) -> Float[Array, "h w 3"]:
    darker = np.stack([sample_chart(channel, places) for channel in marks], axis=-1)
    return np.where(scene.skin[..., None], scene.albedo * np.exp(-darker), scene.albedo)


def _bumped(scene: Scene, heights: Float[Array, "h w"]) -> Scene:
    shortest = SHORTEST_PIXELS * SUPERSAMPLING
    x, y = (SUPERSAMPLING * float(v) for v in scene.camera.principal_point)
    normals = bumped_normals(
        Relief(heights, scene.normals),
        scene.fragments.depth.numpy().astype(np.float64),
        scene.skin,
        focal_pixels=scene.focal_pixels,
        principal_point=(x, y),
        shortest_pixels=shortest,
    )
    seen = low_passed(heights[..., None], shortest)[..., 0] * scene.skin
    return replace(scene, normals=normals, relief=Relief(seen, scene.normals))
