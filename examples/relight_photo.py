"""Write a strip of the same photo under a lamp that moves around the face.

python examples/relight_photo.py photo.jpg strip.png
"""

import argparse
import math

import numpy as np
from PIL import Image

import lifemask

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo")
parser.add_argument("output")
parser.add_argument("--steps", type=int, default=5, help="pictures in the strip")
parser.add_argument("--quality", choices=["fast", "full"], default="fast")
options = parser.parse_args()

reconstructor = lifemask.FaceReconstructor.from_pretrained(quality=options.quality)
faces = reconstructor(options.photo, faces="largest")
if not faces:
    raise SystemExit("No face found.")

pictures = [np.asarray(faces[0].relight(faces[0].light))]
for azimuth in np.linspace(-70, 70, options.steps):
    lamp = lifemask.SphericalHarmonicsLight.from_direction(
        math.radians(azimuth), math.radians(20), strength=0.9, ambient=0.15
    )
    pictures.append(np.asarray(faces[0].relight(lamp)))
Image.fromarray(np.concatenate(pictures, axis=1)).save(options.output)
print(f"{options.output}: the photo, then lamps from the left to the right.")
