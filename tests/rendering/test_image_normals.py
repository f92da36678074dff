"""Refined normals lie at the right pixels of the image, whatever part of it is asked for."""

import torch

from lifemask.morphable.explained_face import ImageNormals
from lifemask.rendering.image_normals import normals_at_pixels


def test_a_square_of_normals_lies_where_it_belongs() -> None:
    values = torch.zeros(3, 4, 4)
    values[2] = 1
    values[:, :2] = torch.tensor([0.6, 0.0, 0.8])[:, None, None]
    normals = ImageNormals(values, torch.tensor([10.0, 6.0]), torch.tensor(8.0))
    image = normals_at_pixels(normals, (20, 30))
    known = (image != 0).any(0)
    rows, columns = torch.nonzero(known).T
    assert (int(rows.min()), int(rows.max())) == (6, 13)
    assert (int(columns.min()), int(columns.max())) == (10, 17)
    torch.testing.assert_close(image[:, 7, 12], torch.tensor([0.6, 0.0, 0.8]))
    torch.testing.assert_close(image[:, 12, 12], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(image.norm(dim=0)[known], torch.ones(int(known.sum())))
    part = normals_at_pixels(normals, (9, 11), left=8, top=5)
    torch.testing.assert_close(part, image[:, 5:14, 8:19])


def test_unknown_normals_stay_zero() -> None:
    normals = ImageNormals(torch.zeros(2, 3, 4, 4), torch.zeros(2, 2), torch.full((2,), 4.0))
    assert normals_at_pixels(normals, (4, 4)).abs().max() == 0
