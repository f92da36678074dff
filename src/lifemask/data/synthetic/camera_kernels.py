"""Camera degradations of a picture as numba kernels for the CPU.

Each kernel gives the same numbers as its plain PyTorch version up to rounding.
"""

# Numba infers the types of kernels from the arrays that they get.
# pyright: reportMissingParameterType=false, reportUnknownParameterType=false

import numpy as np

from lifemask.rendering.jit import kernel

TONES = 4096
"""Rows of the tone curve, minus one; they are evenly spaced in the square root of light."""
BRIGHTEST = 4.0
"""Linear light of the tone curve's last row."""


@kernel()
def blur(image, weights, result):
    """Write an image (C,H,W) blurred by weights, given from the middle outwards; borders repeat."""
    reach = len(weights) - 1
    height, width = image.shape[1:]
    rows = np.empty((height + 2 * reach, width), np.float32)
    line = np.empty(width + 2 * reach, np.float32)
    for channel in range(len(image)):
        for row in range(height):
            line[:reach] = image[channel, row, 0]
            line[reach : reach + width] = image[channel, row]
            line[reach + width :] = image[channel, row, width - 1]
            _weighted(line, weights, rows[row + reach])
        for row in range(reach):
            rows[row] = rows[reach]
            rows[height + reach + row] = rows[height + reach - 1]
        for row in range(height):
            out = result[channel, row]
            for column in range(width):
                out[column] = weights[0] * rows[row + reach, column]
            for k in range(1, reach + 1):
                above, below, weight = rows[row + reach - k], rows[row + reach + k], weights[k]
                for column in range(width):
                    out[column] += weight * (above[column] + below[column])


@kernel()
def _weighted(line, weights, result):
    """Write the weighted sums of a padded line."""
    reach = len(weights) - 1
    for column in range(len(result)):
        result[column] = weights[0] * line[reach + column]
    for k in range(1, reach + 1):
        before, after, weight = line[reach - k :], line[reach + k :], weights[k]
        for column in range(len(result)):
            result[column] += weight * (before[column] + after[column])


@kernel()
def sense(image, vignette, black, read_noise, shot_noise, grain, saturation, result):
    """Write the sensor's image: with dark corners, scattered light, noise and weak colours."""
    height, width = image.shape[1:]
    row_step, column_step = 2 / max(height - 1, 1), 2 / max(width - 1, 1)
    dark = read_noise * read_noise
    noisy = np.float32(1.0 if read_noise > 0 else 0.0)
    for row in range(height):
        down = (row_step * row - 1) ** 2
        red, green, blue = image[0, row], image[1, row], image[2, row]
        grain_r, grain_g, grain_b = grain[0, row], grain[1, row], grain[2, row]
        out_r, out_g, out_b = result[0, row], result[1, row], result[2, row]
        for column in range(width):
            across = column_step * column - 1
            left = 1 - vignette * (down + across * across) / 2
            r, g, b = (
                red[column] * left + black,
                green[column] * left + black,
                blue[column] * left + black,
            )
            r += noisy * np.sqrt(max(r, 0.0) * shot_noise + dark) * grain_r[column]
            g += noisy * np.sqrt(max(g, 0.0) * shot_noise + dark) * grain_g[column]
            b += noisy * np.sqrt(max(b, 0.0) * shot_noise + dark) * grain_b[column]
            grey = 0.2126 * r + 0.7152 * g + 0.0722 * b
            out_r[column] = grey + (r - grey) * saturation
            out_g[column] = grey + (g - grey) * saturation
            out_b[column] = grey + (b - grey) * saturation


@kernel()
def store(image, contrast, quality, half_colour, tones, tables, waves, linear, result):
    """Write the linear light of an image after it was stored as 8-bit values.

    Args:
        image: (3,H,W) linear light.
        contrast: exponent around middle grey.
        quality: of JPEG; above 99 there is no compression.
        half_colour: store colour at half resolution.
        tones: (TONES + 1,) sRGB of light from 0 to `BRIGHTEST`, even in the square root of light.
        tables: (2,8,8) divisors of JPEG at quality 50, for brightness and for colour.
        waves: (8,8) cosine transform, one wave in each row.
        linear: (256,) linear light of each value.
        result: (3,H,W) linear light.
    """
    height, width = image.shape[1:]
    # Colours need whole blocks; the border repeats.
    tall, wide = (height + 15) // 16 * 16, (width + 15) // 16 * 16
    encoded = np.empty((3, tall, wide), np.float32)
    for channel in range(3):
        for row in range(tall):
            line, out = image[channel, min(row, height - 1)], encoded[channel, row]
            for column in range(width):
                light = min(max(line[column], 0.0), BRIGHTEST)
                place = np.sqrt(light / BRIGHTEST) * TONES
                first = min(np.int64(place), TONES - 1)
                share = place - first
                tone = tones[first] * (1 - share) + tones[first + 1] * share
                out[column] = 255 * min(max(0.45 + (tone - 0.45) * contrast, 0.0), 1.0)
            out[width:] = out[width - 1]
    if quality <= 99:
        scale = 50 / quality if quality < 50 else 2 - quality / 50
        _compress(encoded, scale, half_colour, tables, waves)
    for channel in range(3):
        for row in range(height):
            line, out = encoded[channel, row], result[channel, row]
            for column in range(width):
                out[column] = linear[np.int64(np.rint(min(max(line[column], 0.0), 255.0)))]


@kernel()
def _compress(image, scale, half_colour, tables, waves):
    """Replace an image (3,H,W) of values up to 255 by its JPEG-compressed form."""
    height, width = image.shape[1:]
    step = 2 if half_colour else 1
    chroma = np.zeros((2, height // step, width // step), np.float32)
    share = np.float32(1 / (step * step))
    for row in range(height):
        red, green, blue = image[0, row], image[1, row], image[2, row]
        blue_less, red_less = chroma[0, row // step], chroma[1, row // step]
        for column in range(width):
            bright = 0.299 * red[column] + 0.587 * green[column] + 0.114 * blue[column]
            blue_less[column // step] += share * (blue[column] - bright) / 1.772
            red_less[column // step] += share * (red[column] - bright) / 1.402
            green[column] = bright - 128
    divisors = np.maximum(np.rint(tables * scale), 1).astype(np.float32)
    _round_waves(image[1], divisors[0], waves)
    for k in range(2):
        _round_waves(chroma[k], divisors[1], waves)
    lines = np.empty((2, width), np.float32)
    for row in range(height):
        for k in range(2):
            if half_colour:
                _enlarge_row(chroma[k], row, lines[k])
            else:
                lines[k] = chroma[k, row]
        red, green, blue = image[0, row], image[1, row], image[2, row]
        for column in range(width):
            bright = green[column] + 128
            red[column] = bright + 1.402 * lines[1, column]
            blue[column] = bright + 1.772 * lines[0, column]
            green[column] = (bright - 0.299 * red[column] - 0.114 * blue[column]) / 0.587


@kernel()
def _round_waves(plane, divisors, waves):
    """Round the cosine waves of each block of 8 x 8 to multiples of the divisors."""
    across = np.ascontiguousarray(waves.T)
    block, half = np.empty((8, 8), np.float32), np.empty((8, 8), np.float32)
    spectrum = np.empty((8, 8), np.float32)
    for top in range(0, plane.shape[0], 8):
        for left in range(0, plane.shape[1], 8):
            for row in range(8):
                for column in range(8):
                    block[row, column] = plane[top + row, left + column]
            _multiply(waves, block, half)
            _multiply(half, across, spectrum)
            for row in range(8):
                for column in range(8):
                    divisor = divisors[row, column]
                    spectrum[row, column] = np.rint(spectrum[row, column] / divisor) * divisor
            _multiply(across, spectrum, half)
            _multiply(half, waves, block)
            for row in range(8):
                for column in range(8):
                    plane[top + row, left + column] = block[row, column]


@kernel()
def _multiply(left, right, product):
    """Write the product of two matrices (8,8)."""
    for row in range(8):
        for column in range(8):
            product[row, column] = left[row, 0] * right[0, column]
        for k in range(1, 8):
            for column in range(8):
                product[row, column] += left[row, k] * right[k, column]


@kernel()
def _enlarge_row(plane, row, result):
    """Write a row of a plane at twice its size, bilinear."""
    height, width = plane.shape
    near = row // 2
    far = min(max(near + (1 if row % 2 else -1), 0), height - 1)
    line, other = plane[near], plane[far]
    for column in range(width):
        before, after = max(column - 1, 0), min(column + 1, width - 1)
        middle = 0.75 * line[column] + 0.25 * other[column]
        result[2 * column] = 0.75 * middle + 0.25 * (0.75 * line[before] + 0.25 * other[before])
        result[2 * column + 1] = 0.75 * middle + 0.25 * (0.75 * line[after] + 0.25 * other[after])
