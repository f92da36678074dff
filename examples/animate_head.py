"""Write an animation in which a saved head changes from one expression to another.

lifemask reconstruct photo.jpg --output heads
python examples/animate_head.py heads/photo.glb smile.gif --to mouthSmileLeft mouthSmileRight
"""

import argparse
from dataclasses import replace

import numpy as np
from PIL import Image

from lifemask import SphericalHarmonicsLight
from lifemask.pipeline.saved import read_head

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("head", help="a GLB file that lifemask wrote")
parser.add_argument("output", help="a GIF file")
parser.add_argument("--to", nargs="+", default=["jawOpen"], help="ARKit names")
parser.add_argument("--frames", type=int, default=12)
parser.add_argument("--size", type=int, default=384)
options = parser.parse_args()

head = read_head(options.head)
node = head.scene.nodes[0]
start = np.array(node.morph_weights)
end = np.array([float(name in options.to) for name in node.morph_names])
light = SphericalHarmonicsLight.from_direction(0.5, 0.4, strength=0.8, ambient=0.3)

frames: list[Image.Image] = []
for share in np.linspace(0, 1, options.frames):
    weights = tuple(float(w) for w in (1 - share) * start + share * end)
    posed = replace(head, scene=replace(head.scene, nodes=(replace(node, morph_weights=weights),)))
    frames.append(Image.fromarray(posed.draw(light, size=options.size, opaque=True)))
there_and_back = [*frames, *frames[-2:0:-1]]
there_and_back[0].save(
    options.output, save_all=True, append_images=there_and_back[1:], duration=60, loop=0
)
print(f"{options.output}: {len(there_and_back)} frames")
