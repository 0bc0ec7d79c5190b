"""Filter an image: a mosaic of handwritten digits, blurred (Gaussian) and searched for edges (Sobel).

Writes blurred.pgm and edges.pgm, which any image viewer opens, and checks the filters: a blur keeps the mean, and the
edges of a slanted plane are the same everywhere.
"""

import base64
import gzip
import sys
from pathlib import Path

import numpy as np

ACROSS, DOWN, ENLARGED = 30, 20, 4
SOBEL = np.array([1.0, 2.0, 1.0]), np.array([-1.0, 0.0, 1.0])


def mosaic() -> np.ndarray:
    text = gzip.decompress(base64.b64decode(Path("digits.csv.gz.b64").read_text())).decode()
    digits = np.array([line.split(",")[:64] for line in text.splitlines()[: ACROSS * DOWN]], dtype=np.float64)
    tiles = digits.reshape(DOWN, ACROSS, 8, 8) * (255 / 16)
    image = tiles.transpose(0, 2, 1, 3).reshape(DOWN * 8, ACROSS * 8)
    return image.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


def separable(image: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
    """Convolve with an outer product of two short kernels; the image goes on around its borders."""
    result = image
    for axis, kernel in ((0, vertical), (1, horizontal)):
        reach = len(kernel) // 2
        result = sum(weight * np.roll(result, reach - i, axis=axis) for i, weight in enumerate(kernel))
    return np.asarray(result)


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    steps = np.arange(-int(3 * sigma), int(3 * sigma) + 1)
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    return separable(image, kernel, kernel)


def edges(image: np.ndarray) -> np.ndarray:
    smooth, difference = SOBEL
    return np.hypot(separable(image, smooth, difference), separable(image, difference, smooth)) / 8


def write_pgm(path: str, image: np.ndarray) -> None:
    pixels = np.clip(image * (255 / max(float(image.max()), 1.0)), 0, 255).astype(np.uint8)
    Path(path).write_bytes(b"P5\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes())
    print(f"{path}: {pixels.shape[1]} x {pixels.shape[0]}, mean {pixels.mean():.1f}", flush=True)


def main() -> int:
    image = mosaic()
    blurred = blur(image, 2.0)
    write_pgm("blurred.pgm", blurred)
    write_pgm("edges.pgm", edges(blurred))
    rows, columns = np.indices((40, 40)).astype(np.float64)
    plane = edges(3 * rows + 4 * columns)[1:-1, 1:-1]  # slope 5 everywhere but at the borders
    print(f"mean kept within {abs(image.mean() - blurred.mean()):.1e}; slope of the plane {plane.mean():.3f}")
    return 0 if abs(image.mean() - blurred.mean()) < 1e-9 and np.allclose(plane, 5) else 1


if __name__ == "__main__":
    sys.exit(main())
