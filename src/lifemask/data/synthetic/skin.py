"""Paints skin in texture space: tones, make-up, hairs and spots over the head's albedo."""

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifemask.data.synthetic.people import NOISES, Person
from lifemask.data.synthetic.wrinkle_drawing import texture_points
from lifemask.data.synthetic.wrinkles import WrinkleDrawings
from lifemask.morphable.albedo import AlbedoModel
from lifemask.morphable.model import MorphableModel
from lifemask.rendering.interpolation import interpolate
from lifemask.rendering.uv import rasterize_uv

_LIPS_OUTLINE = (
    61,
    185,
    40,
    39,
    37,
    0,
    267,
    269,
    270,
    409,
    291,
    375,
    321,
    405,
    314,
    17,
    84,
    181,
    91,
    146,
)
# Dense points of the subject's left eye, from the inner to the outer corner.
_UPPER_LID = (362, 398, 384, 385, 386, 387, 388, 466, 263)
_LOWER_LID = (362, 382, 381, 380, 374, 373, 390, 249, 263)
_LID_FOLD = (413, 414, 286, 258, 257, 259, 260, 467, 359)
_BROW_LOWER = (285, 295, 282, 283, 276)


class SkinPainter:
    """Composes skins from layers and noise, with `resolution` texels along each side."""

    def __init__(self, model: MorphableModel, resolution: int, device: torch.device | str) -> None:
        albedo = model.albedo
        if albedo is None:
            raise ValueError("This model has no albedo. Use the default head.")
        self.resolution = resolution
        self._device = torch.device(device)
        self._mean_log, self._basis_log = _fine_albedo(albedo, resolution)
        fragments = rasterize_uv(model.uv, model.uv_triangles, resolution)
        region_names = ("skin", "face", "lips", "brows", "eyes", "scalp", "neck", "mouth_bag")
        eyeballs = torch.zeros_like(model.regions["skin"])
        for side in ("left", "right"):
            eyeballs[slice(*model.vertex_parts[f"eyeball_{side}"])] = 1
        stacked = torch.stack([*(model.regions[name] for name in region_names), eyeballs], -1)
        painted = interpolate(stacked, model.triangles, fragments)
        names = (*region_names, "eyeballs")
        regions: dict[str, np.ndarray] = dict(zip(names, painted.cpu().numpy(), strict=True))
        self.layers = {
            name: torch.from_numpy(np.ascontiguousarray(layer, dtype=np.float32)).to(device)
            for name, layer in _draw_layers(model, regions, resolution).items()
        }
        self._mean_log = self._lids_lightened()
        inner = regions["skin"] * (1 - regions["mouth_bag"])
        self.skin = torch.from_numpy(
            (inner * (1 - regions["scalp"]) * (1 - regions["neck"])).astype(np.float32)
        ).to(device)
        """1 where the surface is skin of the face, else 0."""
        self.coverage = fragments.mask.to(device, torch.float32)
        """1 where the texture has surface, else 0."""
        self.rough = torch.from_numpy(
            (
                inner
                * (1 - regions["eyes"])
                * (1 - 0.7 * regions["lips"])
                # On the neck the texture is stretched; fine detail would become long streaks.
                * (1 - regions["neck"])
            ).astype(np.float32)
        ).to(device)
        """How far skin has pores and wrinkles, 0 to 1."""
        self.wrinkles = WrinkleDrawings(model, resolution)
        rng = np.random.default_rng(11)
        # Wavelengths in texture widths; the face's part is about 0.27 m wide.
        self._pores = _noise(rng, resolution, 1 / 150, 1 / 60).to(device)
        self._lumps = _noise(rng, resolution, 1 / 60, 1 / 14).to(device)
        self._blotches = _noise(rng, resolution, 1 / 24, 1 / 5).to(device)
        self._mottle = _noise(rng, resolution, 1 / 128, 1 / 20).to(device)
        speckles = _noise(rng, resolution, 1 / 110, 1 / 45).to(device)
        self._freckles = ((speckles - 1.0) * 1.5).clamp(0, 1)
        strands = _noise(rng, resolution, 1 / 250, 1 / 90).clamp(-1, 1)
        patches = _noise(rng, resolution, 1 / 40, 1 / 10).clamp(-1, 1)
        self._stubble = (0.75 + 0.13 * strands + 0.12 * patches).to(device)

    def _lids_lightened(self) -> Float[Tensor, "1 P"]:
        """Return the mean albedo without the dark shade in the folds of the head's lids.

        On closed lids the fold is open, and the shade would appear as a dark spot.
        """
        mean = self._mean_log.view(3, self.resolution, self.resolution)
        weight = (2 * self.layers["socket"]).clamp(0, 1)
        cheek = self.layers["flush"]
        sigma = self.resolution / 100
        lightened = mean.clone()
        for channel, log in enumerate(mean):
            level = (log * cheek).sum() / cheek.sum()
            shade = level - torch.from_numpy(_blurred(log.cpu().numpy(), sigma)).to(log)
            lightened[channel] += 0.8 * weight * shade.clamp(min=0)
        return lightened.reshape(1, -1)

    def albedo(self, people: list[Person]) -> Float[Tensor, "N 3 D D"]:
        """Return the painted albedo of some people."""
        coefficients = torch.from_numpy(np.stack([p.albedo for p in people])).to(self._device)
        log = torch.addmm(self._mean_log, coefficients, self._basis_log)
        log = log.view(-1, 3, self.resolution, self.resolution)
        for image, person in zip(log, people, strict=True):
            for name, colour in person.paint.items():
                layer = self._layer(name, person)
                for channel in range(3):
                    image[channel].add_(layer, alpha=float(colour[channel]))
            for spot in person.spots:
                self._add_spot(image, spot[:3], torch.from_numpy(spot[3:6]).to(image))
        return log.clamp_(max=-0.03).exp_()

    def rest_displacement(
        self, person: Person, rest_weights: Float[np.ndarray, "F 2"]
    ) -> Float[Tensor, "D D"]:
        """Return a person's displacement at rest, metres."""
        pores, lumps = (float(a) for a in person.displacement_amplitudes)
        displacement = self._pores[person.displacement_noise[0]] * pores
        displacement.add_(self._lumps[person.displacement_noise[1]], alpha=lumps)
        self.wrinkles.add_to(displacement, rest_weights, person.wrinkle_variants)
        for spot in person.spots:
            if spot[6] > 0:
                self._add_spot(
                    displacement[None], spot[:3], displacement.new_tensor([float(spot[6])])
                )
        return displacement.mul_(self.rough)

    def folded_displacement(
        self, rest: Float[Tensor, "D D"], person: Person, weights: Float[np.ndarray, "F 2"]
    ) -> Float[Tensor, "D D"]:
        """Return the displacement with an expression's wrinkles added, metres."""
        folded = torch.zeros_like(rest)
        self.wrinkles.add_to(folded, weights, person.wrinkle_variants)
        return (rest + folded * self.rough).clamp_(-0.002, 0.002)

    def _layer(self, name: str, person: Person) -> Tensor:
        if name == "freckles":
            return self.layers["freckled"] * self._freckles[person.noise[0]]
        if name in ("stubble", "beard", "moustache"):
            layer = self.layers["moustache" if name == "moustache" else "beard"]
            return layer * self._stubble[person.noise[1]]
        if name == "blotches":
            return self.layers["face"] * self._blotches[person.noise[2]]
        if name == "patches":
            return self.layers["face"] * self._blotches[(person.noise[2] + 1) % NOISES]
        if name == "mottle":
            return self.layers["face"] * self._mottle[person.noise[2]]
        return self.layers[name]

    def _add_spot(self, image: Tensor, place: np.ndarray, colour: Tensor) -> None:
        """Add a round spot with a soft border to an image (C,D,D) in place."""
        u, v, radius = (float(x) * self.resolution for x in place)
        reach = math.ceil(2.5 * radius) + 1
        top, left = max(int(v) - reach, 0), max(int(u) - reach, 0)
        part = image[:, top : int(v) + reach + 1, left : int(u) + reach + 1]
        rows = torch.arange(part.shape[1], device=image.device) + (top + 0.5 - v)
        columns = torch.arange(part.shape[2], device=image.device) + (left + 0.5 - u)
        squared = rows[:, None] ** 2 + columns**2
        part += torch.exp(-((squared / radius**2) ** 1.5) * 0.7) * colour[:, None, None]


def _fine_albedo(
    albedo: AlbedoModel, resolution: int
) -> tuple[Float[Tensor, "1 P"], Float[Tensor, "A P"]]:
    """Return the albedo model with its fine parts at another resolution; P = 3 D D."""
    step = 0.1
    count = len(albedo.basis_log)
    steps = step * torch.eye(count, device=albedo.mean_log.device)
    mean = albedo.fine_texture(torch.zeros_like(steps[0]), resolution).log()
    basis = [(albedo.fine_texture(row, resolution).log() - mean) / step for row in steps]
    return mean.reshape(1, -1), torch.stack(basis).reshape(count, -1)


def _draw_layers(
    model: MorphableModel, regions: dict[str, np.ndarray], resolution: int
) -> dict[str, np.ndarray]:
    """Return the named layers (D,D) in [0, 1]."""
    uv = texture_points(model) * resolution
    mirrored = uv.copy()
    mirrored[:, 0] = resolution - mirrored[:, 0]
    rows, columns = np.mgrid[0:resolution, 0:resolution].astype(np.float32) + 0.5
    unit = resolution / 512
    skin = regions["skin"] * (1 - regions["mouth_bag"])

    def both(layer: np.ndarray) -> np.ndarray:
        return np.maximum(layer, layer[:, ::-1])

    def blob(indices: tuple[int, ...], size: tuple[float, float], angle: float = 0.0) -> np.ndarray:
        x, y = uv[list(indices)].mean(0)
        dx, dy = columns - x, rows - y
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = -dx * np.sin(angle) + dy * np.cos(angle)
        return np.exp(-0.5 * ((along / (size[0] * unit)) ** 2 + (across / (size[1] * unit)) ** 2))

    def between(upper: np.ndarray, lower: np.ndarray, soft: float) -> np.ndarray:
        """Return 1 between two curves of points sorted by x, falling to 0 over `soft` texels."""
        x = columns[0]
        low_x, high_x = (
            max(upper[:, 0].min(), lower[:, 0].min()),
            min(upper[:, 0].max(), lower[:, 0].max()),
        )
        top = np.interp(x, *upper[np.argsort(upper[:, 0])].T)
        foot = np.interp(x, *lower[np.argsort(lower[:, 0])].T)
        inside = np.minimum(rows - top, foot - rows) / (soft * unit) + 0.5
        ends = np.minimum(x - low_x, high_x - x) / (2 * soft * unit) + 0.5
        return np.clip(np.minimum(inside, ends[None]), 0, 1)

    upper, lower = uv[list(_UPPER_LID)], uv[list(_LOWER_LID)]
    brow = uv[list(_BROW_LOWER)]
    fold = upper.copy()
    fold[:, 1] = 0.45 * upper[:, 1] + 0.55 * np.interp(upper[:, 0], *brow[np.argsort(brow[:, 0])].T)
    line = np.full_like(rows, np.inf)
    for a, b in pairwise(upper[1:]):
        t = np.clip(((columns - a[0]) * (b - a)[0] + (rows - a[1]) * (b - a)[1])
                    / max(((b - a) ** 2).sum(), 1e-6), 0, 1)  # fmt: skip
        line = np.minimum(
            line, np.hypot(columns - a[0] - t * (b - a)[0], rows - a[1] - t * (b - a)[1])
        )
    beard_mode = None
    albedo = model.albedo
    if albedo is not None and "beard_shadow" in albedo.mode_names:
        mode = albedo.basis_log[albedo.mode_names.index("beard_shadow")].mean(0)
        mode = F.interpolate(mode[None, None], (resolution, resolution), mode="bilinear")[0, 0]
        beard_mode = np.clip((-mode / (-mode).max()).cpu().numpy(), 0, 1)
    beard = blob((152,), (80, 50))
    if beard_mode is not None:
        # The mode has hard edges; here hair thins out towards the cheeks and the neck.
        soft = np.clip((_blurred(beard_mode, 22 * unit) - 0.25) / 0.7, 0, 1)
        beard = soft * np.sqrt(beard_mode)
    moustache = _moustache(uv, rows, columns, unit)
    under = lower.copy()
    under[:, 1] += 22 * unit
    layers = {
        "neck": regions["neck"],
        "face": 1 - regions["neck"],
        "lips": regions["lips"],
        "lids": both(between(fold, upper, 8)),
        "liner": both(np.exp(-0.5 * (line / (1.6 * unit)) ** 2)),
        "blush": both(blob((280, 330), (34, 22), -0.5)),
        "under eye": both(between(lower, under, 10)),
        "socket": both(blob((386, 374), (42, 26))),
        "flush": both(blob((280, 425), (42, 42))),
        "nose": blob((4, 5), (22, 24)),
        "freckled": np.clip(
            both(blob((280,), (60, 40))) + blob((5,), (40, 40)) + 0.25 * blob((9,), (90, 60)), 0, 1
        ),
        "beard": beard,
        "moustache": moustache,
    }
    on_skin = {name: layer * skin for name, layer in layers.items()}
    return on_skin | {"eyeballs": regions["eyeballs"]}


def _moustache(uv: np.ndarray, rows: np.ndarray, columns: np.ndarray, unit: float) -> np.ndarray:
    """Return a band above the upper lip, thinner under the nose, that ends below its corners."""
    lip = uv[list(_LIPS_OUTLINE[:11])]
    lip = lip[np.argsort(lip[:, 0])]
    x = columns[0]
    past = np.maximum(np.maximum(lip[0, 0] - x, x - lip[-1, 0]), 0)
    top = np.interp(x, *lip.T) + 1.1 * past
    middle = lip[:, 0].mean()
    height = (top.min() - uv[2, 1]) * 0.9 + 4 * unit
    ends = np.clip((lip[-1, 0] - middle + 16 * unit - np.abs(x - middle)) / (16 * unit), 0, 1)
    parting = 1 - 0.4 * np.exp(-(((x - middle) / (5 * unit)) ** 2))
    upper = np.clip((rows - top + height) / (0.6 * height), 0, 1)
    lower = np.clip((top + 2 * unit - rows) / (4 * unit), 0, 1)
    return upper * lower * ends * parting


def _blurred(layer: np.ndarray, sigma: float) -> np.ndarray:
    """Return a layer blurred by a Gaussian of `sigma` texels; borders repeat."""
    reach = math.ceil(2.5 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if k == axis else (0, 0) for k in range(2)]
        padded = np.pad(layer, padding, "edge")
        layer = np.apply_along_axis(np.convolve, axis, padded, kernel, "valid")
    return layer


def _noise(
    rng: np.random.Generator, resolution: int, shortest: float, longest: float
) -> Float[Tensor, "K D D"]:
    """Return fields of variance one with wavelengths in a range, in texture widths."""
    frequency = np.hypot(np.fft.fftfreq(resolution)[:, None], np.fft.rfftfreq(resolution)[None])
    frequency = frequency * resolution
    low, high = 1 / longest, 1 / shortest
    band = np.exp(-((frequency / high) ** 4)) * (1 - np.exp(-((frequency / low) ** 4)))
    band = band / np.maximum(frequency, 1) ** 0.5
    fields = []
    for _ in range(NOISES):
        spectrum = np.fft.rfft2(rng.standard_normal((resolution, resolution))) * band
        field = np.fft.irfft2(spectrum, (resolution, resolution))
        fields.append((field / field.std()).astype(np.float32))
    return torch.from_numpy(np.stack(fields))
