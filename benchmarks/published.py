"""The common corruptions as the package imagecorruptions defines them, with either published set of constants.

imagecorruptions 1.1.2 brings ImageNet-C's constants and predates NumPy 2 and today's scikit-image. Here its
functions run again, and with CIFAR-10-C's constants for images up to 64 px: those of the catalogue, which
tests/test_perturbations.py compares with the published ones. Its elastic_transform is another one than ImageNet-C's;
the published definition of that is written out below.
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

from robust_data.perturbations import CATALOGUE

SMALL_SIDE = 64
COMMON_CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("gaussian_blur", "glass_blur", "defocus_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "spatter"),
    *("brightness", "contrast", "saturate", "pixelate", "jpeg_compression", "elastic_transform"),
)
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
    apply = _with_constants(module, name, cifar_10_c(name)) if replace else getattr(module, name)

    def corrupted(image, severity):
        # zoom_blur and snow print where rounding leaves a zoomed image a pixel short.
        with contextlib.redirect_stdout(io.StringIO()):
            return np.asarray(apply(Image.fromarray(image), severity), dtype=np.float64)

    return corrupted


def cifar_10_c(name: str) -> tuple:
    """CIFAR-10-C's constants of a corruption at severity 1 to 5, as the package takes them."""
    constants = CATALOGUE[name].severities_small
    if name == "zoom_blur":
        return tuple(np.arange(1, 1 + step * (zooms - 0.5), step) for zooms, step in constants)
    if name == "spatter":  # behind the strength of mud, which is 1, the catalogue has its softness, and 0 for water
        return tuple(
            (*drops, *((softness, 1) if softness else (strength, 0))) for *drops, strength, softness in constants
        )
    return constants


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

    entry = CATALOGUE["elastic_transform"]
    alpha, sigma, jitter = (entry.severities_small if small else entry.severities)[severity - 1]
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
