"""The light that another photo shows on its largest face."""

from lifemask.geometry.lighting import SphericalHarmonicsLight
from lifemask.io.images import as_photo
from lifemask.pipeline.reconstructor import FaceReconstructor, PhotoSource


def light_of_photo(
    reconstructor: FaceReconstructor, photo: PhotoSource
) -> SphericalHarmonicsLight | None:
    """Return the light of a photo in the axes of its camera; None if no face convinces.

    Raises:
        PhotoError: the photo cannot be read.
    """
    read = as_photo(photo)
    found = reconstructor.observe(read, "largest", crop=False)
    if not found:
        return None
    fit = reconstructor.explain(read.pixels, found[0], focal_pixels=read.focal_pixels)
    return fit.face.light
