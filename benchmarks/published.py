"""The common corruptions as the package imagecorruptions defines them, with either published set of constants.

imagecorruptions 1.1.2 brings ImageNet-C's constants and predates NumPy 2 and today's scikit-image. Here its
functions run again, and with CIFAR-10-C's constants for images up to 64 px. Its elastic_transform is another
one than ImageNet-C's; the published definition of that is written out below.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
import io
import sys
import types
import warnings

import numpy as np

SMALL_SIDE = 64
COMMON_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("gaussian_blur", "glass_blur", "defocus_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "spatter"),
    *("brightness", "contrast", "saturate", "pixelate", "jpeg_compression", "elastic_transform"),
)
# Hendrycks & Dietterich, ICLR 2019, severity 1 to 5. elastic_transform: alpha, sigma and jitter, each to be
# multiplied by 32 (CIFAR-10-C) or 244 px (ImageNet-C).
CIFAR_10_C = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "shot_noise": (500, 250, 100, 75, 50),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
    "speckle_noise": (0.06, 0.10, 0.12, 0.16, 0.20),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1),
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
    "motion_blur": ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)),
    "zoom_blur": tuple(np.arange(1, stop, 0.01) for stop in (1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    "frost": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "saturate": ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
    "jpeg_compression": (80, 65, 58, 50, 40),
    "elastic_transform": ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
}
IMAGENET_C_ELASTIC = ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
# CIFAR-10-C's photographs of frost were scaled down by this.
SMALL_FROST = 0.2


def corrupt(name: str, image: np.ndarray, severity: int) -> np.ndarray:
    """One image, uint8 [H, W, 3], corrupted; float [H, W, 3] in 0..255. Draws from numpy's global generator."""
    return function(name, small=max(image.shape[:2]) <= SMALL_SIDE)(image, severity)


def function(name: str, small: bool):
    """The published corruption as `(image uint8 [H, W, 3], severity) -> float [H, W, 3] in 0..255`."""
    if name == "elastic_transform":
        return functools.partial(_elastic_transform, small=small)
    return package_function(name, small)


@functools.lru_cache(maxsize=64)
def package_function(name: str, small: bool):
    """The package's own function, called as `function`'s; its elastic_transform keeps its own constants."""
    from PIL import Image

    module = imagecorruptions_module()
    replace = small and name != "elastic_transform"
    apply = _with_constants(module, name, CIFAR_10_C[name]) if replace else getattr(module, name)

    def corrupted(image, severity):
        # zoom_blur and snow print where rounding leaves a zoomed image a pixel short.
        with contextlib.redirect_stdout(io.StringIO()):
            return np.asarray(apply(Image.fromarray(image), severity), dtype=np.float64)

    return corrupted


@functools.lru_cache(maxsize=1)
def imagecorruptions_module():
    """imagecorruptions.corruptions, made to run with the versions of its dependencies that are installed."""
    if "pkg_resources" not in sys.modules:
        # It asks setuptools' old module for the path of its photographs of frost, and for nothing else.
        finder = types.ModuleType("pkg_resources")
        finder.resource_filename = lambda name, path: str(_folder_of(name) / path)
        sys.modules["pkg_resources"] = finder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from imagecorruptions import corruptions
    corruptions.np = types.SimpleNamespace(**{**vars(np), "float_": np.float64})
    corruptions.gaussian = _gaussian
    return corruptions


def _folder_of(module_name):
    from pathlib import Path

    return Path(sys.modules[module_name].__file__).parent


def _gaussian(image, sigma=1, multichannel=False, **options):
    """scikit-image's Gaussian filter under the argument it had until version 0.19."""
    from skimage.filters import gaussian

    return gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **options)


def _with_constants(module, name, constants):
    """The module's function of that name, with its five severities `c = [...][severity - 1]` replaced."""
    tree = ast.parse(inspect.getsource(getattr(module, name)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["c"]:
            node.value = ast.parse("published_constants[severity - 1]", mode="eval").body
    namespace = {**vars(module), "published_constants": constants, "cv2": _with_small_frost(module.cv2)}
    exec(compile(ast.fix_missing_locations(tree), f"<{name} of CIFAR-10-C>", "exec"), namespace)
    return namespace[name]


def _with_small_frost(cv2):
    """cv2, but what it reads from files is scaled down as the photographs of frost were for CIFAR-10-C."""

    @functools.lru_cache(maxsize=8)
    def imread(path):
        return cv2.resize(cv2.imread(path), (0, 0), fx=SMALL_FROST, fy=SMALL_FROST)

    return types.SimpleNamespace(**{**vars(cv2), "imread": imread})


def _elastic_transform(image, severity, small):
    """Affine jitter of three points about the centre, then a smooth random displacement of every pixel."""
    import cv2
    from scipy.ndimage import map_coordinates

    constants, unit = (CIFAR_10_C["elastic_transform"], 32) if small else (IMAGENET_C_ELASTIC, 244)
    alpha, sigma, jitter = np.array(constants[severity - 1], dtype=np.float64) * unit
    height, width = image.shape[:2]
    centre, reach = np.array((height, width)) // 2, min(height, width) // 3
    points = np.float32([centre + reach, (centre[0] + reach, centre[1] - reach), centre - reach])
    moved = points + np.random.uniform(-jitter, jitter, points.shape).astype(np.float32)
    affine = cv2.getAffineTransform(points, moved)
    turned = cv2.warpAffine(image / 255.0, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    down, right = (_smooth_field((height, width), sigma) * alpha for _ in range(2))
    rows, columns = np.mgrid[:height, :width]
    points = rows + down, columns + right
    channels = [map_coordinates(turned[..., channel], points, order=1, mode="reflect") for channel in range(3)]
    return np.clip(np.stack(channels, axis=-1), 0, 1) * 255


def _smooth_field(shape, sigma):
    return _gaussian(np.random.uniform(-1, 1, shape), sigma, mode="reflect", truncate=3)
