"""A reconstructed head drawn from the camera of its photo, with all that is known at its pixels."""

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.pipeline.reconstructed_head import ReconstructedHead
from lifemask.rendering import Rendering
from lifemask.rendering.heads import render_head
from lifemask.rendering.image_normals import normals_at_pixels


def draw_in_photo(
    head: ReconstructedHead, light: SphericalHarmonicsLight | None = None
) -> Rendering:
    """Return the images of a head at the pixels of its photo.

    Args:
        head: whose refined depth and normals belong to its photo.
        light: the photo's own by default. Its light map does not hold for another one.
    """
    surface = head.surface if light is None else head.surface.without_light_map()
    refined = head.face.normals
    normals = None if refined is None else normals_at_pixels(refined, head.camera.image_size)
    drawn = render_head(
        surface, head.camera, light or head.light, depth=head.face.depth, normals=normals
    )
    return drawn.fine
