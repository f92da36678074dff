"""Dense points that correspond to the points of other landmark schemes."""

AFLW21_FROM_DENSE478 = (
    *(70, 52, 107, 336, 282, 300),
    *(33, 468, 173, 398, 473, 263),
    *(132, 64, 1, 294, 361, 62, 13, 292, 175),
)
"""For each of AFLW's 21 points the dense point with the smallest median distance to it on 1,401
crops of the research training set with absolute yaw up to 45 degrees, made symmetric."""

IBUG68_FROM_DENSE478 = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 4, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
"""Dense points nearest to the 68 iBUG points; their errors are largest on brows and jaw."""
