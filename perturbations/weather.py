"""Weather: what falls, drifts, settles or shines between the scene and the lens."""

from __future__ import annotations

import functools
import math

from robust_data.perturbations.catalogue import COMMON_CORRUPTIONS, ROBUST_DATA_IMAGES, SMALL_SIDE, perturbation, steps
from robust_data.perturbations.filters import (
    enlarged,
    exact_gaussian_filter,
    filter2d,
    gaussian_filter,
    motion_filter,
    separable_filter,
)
from robust_data.perturbations.sampling import InstanceRandom
from robust_data.registry import LazyModule

torch = LazyModule("torch")

GREY_WEIGHTS = (0.299, 0.587, 0.114)


def _colour(values, images):
    """A colour as [3, 1, 1], to be mixed with the images."""
    return torch.tensor(values, dtype=images.dtype, device=images.device).view(-1, 1, 1)


@perturbation(
    "snow",
    family="weather",
    severities=(
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    small=(
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    ),
    lengths=(2, 4, 5),
    unit="(mean, deviation, zoom and threshold of the flakes, radius and sigma of their fall px, weight of the image)",
    source=COMMON_CORRUPTIONS,
)
def snow(images: torch.Tensor, parameters: tuple[float, ...], random: InstanceRandom) -> torch.Tensor:
    """Whiten the image and add flakes: thresholded noise, enlarged and blurred along a steep line.

    The layer of flakes is added twice, once turned by 180 degrees. It is not rounded to 8 bits.
    """
    mean, deviation, zoom, threshold, radius, sigma, weight = parameters
    height, width = images.shape[-2:]
    noise = random.normal_field(1, math.ceil(height / zoom), math.ceil(width / zoom)) * deviation + mean
    flakes = enlarged(noise, zoom, height, width)
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp_(max=1.0)
    flakes = motion_filter(flakes, radius, sigma, (-135, -45), random)
    grey = (images * _colour(GREY_WEIGHTS, images)).sum(1, keepdim=True)
    whitened = torch.maximum(images, grey * 1.5 + 0.5)
    return whitened.lerp_(images, weight).add_(flakes + flakes.flip(-1, -2))


@perturbation(
    "frost",
    family="weather",
    severities=((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    small=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    unit="(weight of the image, weight of the frost)",
    source=COMMON_CORRUPTIONS,
)
def frost(images: torch.Tensor, weights: tuple[float, float], random: InstanceRandom) -> torch.Tensor:
    """Add a random part of one of five panes of frost to the darkened image.

    The published one cuts the part out of photographs. Here the panes are drawn, feathers of ice in
    the mean colours and contrasts of those photographs, so the mean change agrees and the pattern does
    not. Up to 64 px the panes are five times smaller, as published; above 640 px they are enlarged.
    """
    image_weight, frost_weight = weights
    height, width = images.shape[-2:]
    panes = _frost_panes(max(height, width) <= SMALL_SIDE, images.device)
    pane = random.integers(0, len(panes))
    # A part that would exceed the pane is cut smaller and enlarged; a tenth of the pane is left to choose from.
    longer, side = max(height, width), panes.shape[-1]
    reduction = 1.1 * longer / side if longer > side else 1.0
    cut = math.ceil(height / reduction), math.ceil(width / reduction)
    relief = _random_cuts(panes, pane, *cut, random)
    if cut != (height, width):
        relief = torch.nn.functional.interpolate(relief[:, None], (height, width), mode="bilinear")[:, 0]
    tone = torch.tensor(FROST_TONES, dtype=images.dtype, device=images.device)[pane, :, :, None, None]
    ice = (relief[:, None] * tone[:, 1]).add_(tone[:, 0]).clamp_(0.0, 1.0)
    return ice.mul_(frost_weight).add_(images, alpha=image_weight)


# Mean and deviation of red, green and blue in the five published photographs.
FROST_TONES = (
    ((0.305, 0.585, 0.650), (0.106, 0.065, 0.060)),
    ((0.787, 0.805, 0.841), (0.084, 0.087, 0.089)),
    ((0.787, 0.805, 0.841), (0.084, 0.087, 0.089)),
    ((0.540, 0.599, 0.648), (0.112, 0.112, 0.117)),
    ((0.441, 0.484, 0.528), (0.174, 0.170, 0.163)),
)
FROST_SIDE = 640


def _random_cuts(panes, pane, height, width, random):
    """Of panes [P, S, S]: per instance a random [H, W] part of its pane, as [B, H, W]."""
    side = panes.shape[-1]
    top = (random.uniform() * (side - height + 1)).long()
    left = (random.uniform() * (side - width + 1)).long()
    starts = (pane * side + top) * side + left
    rows = starts[:, None] + torch.arange(height, device=panes.device) * side
    windows = panes.as_strided((panes.numel() - width + 1, width), (1, 1))
    return windows.index_select(0, rows.flatten()).view(-1, height, width)


@functools.lru_cache(maxsize=4)
def _frost_panes(small: bool, device: torch.device) -> torch.Tensor:
    """float32 [5, S, S]: the relief of five panes of frost, of mean 0 and deviation 1; made on the CPU, once."""
    if small:
        relief = torch.nn.functional.avg_pool2d(_frost_panes(False, torch.device("cpu"))[:, None], 5)[:, 0]
    else:
        generator = torch.Generator().manual_seed(0)
        relief = torch.stack([_frost_relief(generator) for _ in FROST_TONES])
    relief = relief - relief.mean((1, 2), keepdim=True)
    return (relief / relief.std((1, 2), keepdim=True)).to(device)


def _frost_relief(generator, feathers=1100, barbs=15, points=40):
    """[S, S]: bright feathers of ice on uneven ground, drawn at twice the size and averaged down."""
    side = 2 * FROST_SIDE

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(shape, generator=generator)

    start = uniform(-0.1, 1.1, feathers, 1, 1, 2) * side
    # Feathers near each other grow in similar directions.
    flow = _smooth_noise(side, 6, generator) * 1.5
    y, x = start.clamp(0, side - 1).long().unbind(-1)
    heading = flow[y, x] * math.pi + uniform(-0.5, 0.5, feathers, 1, 1)
    length = uniform(0.04, 0.2, feathers, 1, 1) * side
    along = torch.linspace(0.0, 1.0, barbs).view(1, -1, 1)
    out = torch.linspace(0.0, 1.0, points).view(1, 1, -1)
    shade = uniform(0.3, 1.0, feathers, 1, 1)
    canvas = torch.zeros(side * side)
    for turn in (-1, 0, 1):
        # The barbs leave the stem at 55 degrees and shorten towards the tip; turn 0 is the stem itself.
        barb = length * (0.35 * (1 - along) + 0.03) if turn else length / barbs
        direction = heading + turn * math.radians(55)
        rows = start[..., 0] + along * length * heading.sin() + out * barb * direction.sin()
        columns = start[..., 1] + along * length * heading.cos() + out * barb * direction.cos()
        light = (shade * (1 - 0.5 * out) * (1 - 0.3 * along)).expand(rows.shape)
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        places = rows[inside].long() * side + columns[inside].long()
        canvas.scatter_reduce_(0, places, light[inside], "amax")
    drawn = torch.nn.functional.avg_pool2d(canvas.view(1, 1, side, side), 2)[0, 0]
    haze = gaussian_filter(drawn, 2.0)
    # Ice catches the light on one side and shades the other.
    relief = haze - haze.roll((2, 2), (0, 1))
    return drawn + 0.5 * haze + 1.2 * relief + 0.12 * _smooth_noise(FROST_SIDE, 6, generator)


def _smooth_noise(side, cells, generator):
    """[side, side]: smooth normal noise that changes over side / cells px."""
    coarse = torch.randn(1, 1, cells, cells, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)[0, 0]


@perturbation(
    "fog",
    family="weather",
    severities=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    small=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    unit="(amount of fog, how much smoother each finer scale is)",
    source=COMMON_CORRUPTIONS,
)
def fog(images: torch.Tensor, amount_and_decay: tuple[float, float], random: InstanceRandom) -> torch.Tensor:
    """Add a plasma fractal in [0, amount], then rescale so that the brightest value could stay what it was."""
    amount, decay = amount_and_decay
    height, width = images.shape[-2:]
    brightest = images.amax((1, 2, 3), keepdim=True)
    clouds = _plasma_fractal(max(height, width), decay, random)[:, None, :height, :width]
    return (images + amount * clouds).mul_(brightest / (brightest + amount))


def _plasma_fractal(side, decay, random):
    """[B, S, S] in [0, 1], S the next power of two: per instance a diamond-square height map, periodic.

    From scale to scale the jitter shrinks by decay squared, as published.
    """
    levels = max(1, (side - 1).bit_length())
    jitter = random.uniform_field(4**levels - 1).mul_(2).sub_(1)
    heights = torch.zeros(len(random), 1, 1, device=jitter.device)
    used = 0
    for level in range(levels):
        cells = 4**level
        scaled = jitter[:, used : used + 3 * cells].view(-1, 3, 2**level, 2**level) * decay ** (-2 * level)
        heights = _refined(heights, scaled)
        used += 3 * cells
    low, high = heights.amin((1, 2), keepdim=True), heights.amax((1, 2), keepdim=True)
    return heights.sub_(low).div_(high - low)


def _refined(corners, jitter):
    """One step of diamond-square: heights [B, n, n] and jitter [B, 3, n, n] to heights [B, 2n, 2n]."""
    batch, side = corners.shape[:2]
    to_right, to_below = corners.roll(-1, 2), corners.roll(-1, 1)
    middles = (corners + to_right).add_(to_below).add_(to_below.roll(-1, 2)).mul_(0.25).add_(jitter[:, 0])
    heights = corners.new_empty(batch, side, 2, side, 2)
    heights[:, :, 0, :, 0] = corners
    heights[:, :, 1, :, 1] = middles
    beside = to_right.add_(corners).add_(middles).add_(middles.roll(1, 1))
    below = to_below.add_(corners).add_(middles).add_(middles.roll(1, 2))
    heights[:, :, 0, :, 1] = beside.mul_(0.25).add_(jitter[:, 1])
    heights[:, :, 1, :, 0] = below.mul_(0.25).add_(jitter[:, 2])
    return heights.view(batch, 2 * side, 2 * side)


WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)


@perturbation(
    "spatter",
    family="weather",
    severities=(
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1, 1.5),
        (0.67, 0.4, 1, 0.65, 1, 1.5),
    ),
    small=(
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1.0, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 1, 0.6),
        (0.65, 0.1, 0.5, 0.68, 1, 0.6),
    ),
    # Smoothing over a length divides the deviation by it: drops stay as frequent if both change in step.
    lengths=(1, 2, 5),
    unit="(mean, deviation, smoothness px and threshold of the drops, strength, softness px of mud, 0 for water)",
    source=COMMON_CORRUPTIONS,
)
def spatter(images: torch.Tensor, parameters: tuple, random: InstanceRandom) -> torch.Tensor:
    """Splash the lens: pale water, lit from one side, at the lower severities, brown mud at the higher.

    Drops are where smooth noise exceeds a threshold. Mud is as published; water follows the published
    steps with a simpler contour and a distance of less than 20 px, so its mean change and coverage
    agree and its shading does so nearly.
    """
    mean, deviation, smoothness, threshold, strength, softness = parameters
    noise = random.normal_field(1, *images.shape[-2:]).mul_(deviation)
    level = exact_gaussian_filter(noise, smoothness).add_(mean)
    drops = level > threshold
    if softness:
        cover = exact_gaussian_filter(drops.to(images.dtype), softness)
        return torch.lerp(images, _colour(MUD, images), torch.where(cover < 0.8, 0.0, cover))
    water = (level * drops * 255).clamp_(0, 255).floor_()
    # Few drops are so wide that their middle is farther from the contour.
    farthest = max(4, math.ceil(3.5 * smoothness))
    light = water * _lit_from_one_side(water, farthest)
    light /= light.amax((2, 3), keepdim=True).clamp_(min=1e-6)
    return torch.addcmul(images, light, _colour(WATER, images), value=strength)


def _lit_from_one_side(water, farthest):
    """[B, 1, H, W]: light, up to a factor, on the relief of the water, which rises from its contours.

    The height is the distance to the contour, its values spread evenly over the image as histogram
    equalisation does. Up to the light all values are whole, or whole sixteenths, so that every sum is exact.
    """
    box = (1.0, 1.0, 1.0)
    distance = _distance(_contours(water), farthest).mul_(16).round_().div_(16)
    height = separable_filter(distance, box).div_(9).floor_()
    emboss = torch.tensor([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
    return separable_filter(filter2d(_equalised(height, farthest + 1), emboss).clamp_(0, 255), box)


def _contours(brightness):
    """[B, 1, H, W] of 0 and 1: where the brightness, 0..255, changes most and fast, one pixel thin.

    The steps of Canny's detector but the last: weak edges are dropped even where they prolong strong ones.
    """
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    right, down = filter2d(brightness, sobel, border="edge"), filter2d(brightness, sobel.T, border="edge")
    same_sign = right * down >= 0
    right, down = right.abs_(), down.abs_()
    slope = right + down
    height, width = slope.shape[-2:]
    padded = torch.nn.functional.pad(slope, (1, 1, 1, 1))

    def beside(row, column):
        return padded[..., 1 + row : 1 + row + height, 1 + column : 1 + column + width]

    across = (slope > beside(0, -1)) & (slope >= beside(0, 1))
    along = (slope > beside(-1, 0)) & (slope >= beside(1, 0))
    falling = (slope > beside(-1, -1)) & (slope > beside(1, 1))
    rising = (slope > beside(-1, 1)) & (slope > beside(1, -1))
    flat = math.tan(math.pi / 8)
    upright, level = down > right / flat, down < right * flat
    diagonal = ~(upright | level) & ((same_sign & falling) | (~same_sign & rising))
    ridge = (upright & along) | (level & across) | diagonal
    return (ridge & (slope > 150)).to(brightness.dtype)


def _distance(contours, farthest):
    """Euclidean distance in px to the nearest contour, `farthest` at most; [B, 1, H, W] of 0 and 1.

    The least of (rows^2 + columns^2) is that of columns^2 + the least of rows^2, so each axis is
    searched alone.
    """
    squares = torch.where(contours > 0, 0, farthest**2).to(torch.int16)
    for axis in (-2, -1):
        length = squares.shape[axis]
        nearest = squares.clone()
        for step in range(1, min(farthest, length)):
            reached = squares + step**2
            for here, there in ((0, step), (step, 0)):
                target = nearest.narrow(axis, here, length - step)
                torch.minimum(target, reached.narrow(axis, there, length - step), out=target)
        squares = nearest
    return squares.to(contours.dtype).sqrt_()


def _equalised(values, levels):
    """Spread whole values 0..levels-1 of [B, 1, H, W] over 0..255, each over a range as wide as it is frequent."""
    batch, area = len(values), values[0].numel()
    whole = values.long().flatten(1)
    cells = whole + levels * torch.arange(batch, device=values.device)[:, None]
    counts = torch.bincount(cells.flatten(), minlength=batch * levels).view(batch, levels)
    up_to = counts.cumsum(1)
    # The lowest value that occurs becomes 0.
    lowest = torch.where(up_to == 0, area, up_to).amin(1, keepdim=True)
    spread = ((up_to - lowest).clamp_(min=0) * 255 / (area - lowest).clamp_(min=1)).round_()
    return spread.gather(1, whole).view(values.shape)


def _coordinates(images):
    """Rows [H, 1] and columns [1, W] of the pixels, in shares of the shorter side."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)[:, None] + 0.5
    columns = torch.arange(width, device=images.device)[None, :] + 0.5
    return rows / min(height, width), columns / min(height, width)


def _places(images, random, vertical, horizontal):
    """Per instance a point [B, 1, 1], [B, 1, 1] within the given shares of the height and of the width."""
    height, width = (side / min(images.shape[-2:]) for side in images.shape[-2:])
    row = random.uniform(*vertical, (1, 1)) * height
    return row, random.uniform(*horizontal, (1, 1)) * width


@perturbation(
    "sun_flare",
    family="weather",
    severities=steps(0.1, 0.5),
    unit="radius of the sun's glare, share of the shorter side",
    source=ROBUST_DATA_IMAGES,
)
def sun_flare(images: torch.Tensor, radius: float, random: InstanceRandom) -> torch.Tensor:
    """Let the sun shine into the lens: a glaring disk with rays in the upper half and its coloured reflections.

    The reflections lie on the line from the sun through the middle of the image. Light is added so that
    nothing exceeds white: 1 - (1 - image) * (1 - light).
    """
    rows, columns = _coordinates(images)
    sun_row, sun_column = _places(images, random, (0.08, 0.4), (0.1, 0.9))
    down, right = rows - sun_row, columns - sun_column
    distance = torch.sqrt(down**2 + right**2)
    glare = torch.exp(-((distance / (0.55 * radius)) ** 2)) + 0.5 * torch.exp(-distance / radius)
    glare += _rays(down, right, distance / radius, random)
    dark = 1 - images
    _shine(dark, glare.clamp_(0.0, 1.0), (1.0, 0.97, 0.86))
    to_middle = rows.mean() - sun_row, columns.mean() - sun_column
    for place, size, colour in LENS_REFLECTIONS:
        row, column = (start + place * way for start, way in zip((sun_row, sun_column), to_middle, strict=True))
        away = torch.sqrt((rows - row) ** 2 + (columns - column) ** 2) / (size * radius)
        disk = torch.sigmoid((1 - away) * 12).mul_(0.14 + 0.21 * away.clamp_(max=1.0) ** 3)
        _shine(dark, disk, colour)
    return 1 - dark


def _shine(dark, light, colour):
    """Take light [B, H, W] of a colour from the darkness [B, 3, H, W] of the images, in place."""
    for channel, strength in enumerate(colour):
        dark[:, channel] *= 1 - strength * light


# Place on the line from the sun (0) through the middle of the image (1), radius relative to the glare, colour.
LENS_REFLECTIONS = (
    (0.45, 0.16, (1.0, 0.75, 0.35)),
    (0.75, 0.10, (0.5, 1.0, 0.55)),
    (1.25, 0.32, (0.45, 0.85, 1.0)),
    (1.5, 0.14, (1.0, 0.55, 0.45)),
    (1.85, 0.48, (0.75, 0.6, 1.0)),
)


def _rays(down, right, reach, random, count=6):
    """Light [B, H, W] of thin rays around the sun, turned by a random angle; reach: distance in glare radii."""
    angle = torch.atan2(down, right) + random.uniform(0.0, math.pi, (1, 1))
    rays = torch.cos(angle.mul_(count / 2))
    for _ in range(5):
        # The 32nd power leaves thin rays of the broad waves.
        rays.square_()
    return rays.mul_(torch.exp(-0.9 * reach))


@perturbation(
    "random_shadow",
    family="weather",
    severities=steps(0.2, 0.75),
    unit="share of the light taken away in the shadow",
    source=ROBUST_DATA_IMAGES,
)
def random_shadow(images: torch.Tensor, darkness: float, random: InstanceRandom, shadows: int = 2) -> torch.Tensor:
    """Darken two random convex polygons of five corners, their edges slightly soft."""
    rows, columns = _coordinates(images)
    light = torch.ones(len(images), *images.shape[-2:], dtype=images.dtype, device=images.device)
    for _ in range(shadows):
        light *= 1 - _polygon(rows, columns, images, random)
    # Where shadows overlap it is no darker than in one.
    return images * (1 - darkness * (1 - light))[:, None]


def _polygon(rows, columns, images, random, corners=5):
    """[B, H, W] in [0, 1]: 1 inside a polygon whose corners lie on a random ellipse, and so is convex."""
    middle_row, middle_column = _places(images, random, (0.2, 0.9), (0.1, 0.9))
    tall, wide = random.uniform(0.15, 0.45, (2, 1, 1)).unbind(1)
    gaps = random.uniform(0.5, 1.0, (corners, 1, 1))
    angles = (gaps / gaps.sum(1, keepdim=True)).cumsum(1) * 2 * math.pi + random.uniform(0, math.pi, (1, 1, 1))
    corner_rows = (middle_row[:, None] + tall[:, None] * angles.sin()).unbind(1)
    corner_columns = (middle_column[:, None] + wide[:, None] * angles.cos()).unbind(1)
    inside = 1.0
    for corner in range(corners):
        down = corner_rows[corner] - corner_rows[corner - 1]
        right = corner_columns[corner] - corner_columns[corner - 1]
        depth = right * (rows - corner_rows[corner]) - down * (columns - corner_columns[corner])
        inside = inside * torch.sigmoid(depth / torch.hypot(down, right) / 0.008)
    return inside


RAIN_DROPS = {"drizzle": 60, "heavy": 120, "torrential": 180}
RAIN_SLANTS = {"0": 0, "10": 10, "neg_10": -10, "20": 20, "neg_20": -20}
DROP_BRIGHTNESS = 0.85
DROP_OPACITY = 0.7


def _register_rain(kind, drops, slant_name, slant):
    @perturbation(
        f"rain_{kind}_slant_{slant_name}",
        family="weather",
        severities=steps(0.10, 0.50),
        unit="length of a drop, share of the height",
        bounded=True,
        source=ROBUST_DATA_IMAGES,
    )
    def rain(images, length, random):
        """Draw bright streaks of rain over the image, darkened by half the length of a drop, 9 to 25 %.

        There are 60 (drizzle), 120 (heavy) or 180 (torrential) drops, 2 px wide at 224 px. No drop is
        narrower than one pixel: small images have fewer drops, and the rain covers the same share of any
        image. The slant is how far to the right a drop ends, in px at 224 px.
        """
        streaks = _streaks(images, drops, slant, length, random)
        return (images * (1 - length / 2)).lerp_(_colour((DROP_BRIGHTNESS,) * 3, images), streaks)

    return rain


for _kind, _drops in RAIN_DROPS.items():
    for _slant_name, _slant in RAIN_SLANTS.items():
        _register_rain(_kind, _drops, _slant_name, _slant)


def _streaks(images, drops_at_224, slant_at_224, length, random):
    """[B, 1, H, W]: opacity of the drops at every pixel, faint at their tails."""
    height, width = images.shape[-2:]
    thickness = max(1, round(2 * width / 224))
    drops = max(2, round(drops_at_224 * 2 * width / 224 / thickness))
    rows_per_drop = max(2, round(length * height))
    slant = slant_at_224 * width / 224
    along = torch.arange(rows_per_drop, device=images.device) / (rows_per_drop - 1)
    top = random.integers(-rows_per_drop, height, (drops, 1))
    left = random.uniform(-abs(slant), width + abs(slant), (drops, 1))
    columns = left + along * slant
    first = columns.floor()
    # The canvas has room for whatever a drop lights outside the image, so that no place need be checked.
    margin = math.ceil(2 * abs(slant))
    canvas_height, canvas_width = height + 2 * rows_per_drop, width + 2 * margin + thickness + 1
    rows = top + rows_per_drop + torch.arange(rows_per_drop, device=images.device)
    places = (rows * canvas_width).add_(first.long().add_(margin)).flatten(1)
    # The outermost columns are lit by the share of them that the drop covers.
    shares = [torch.ones_like(columns)] * (thickness + 1)
    shares[0] = 1 - (columns - first)
    shares[-1] = (columns + thickness) - (first + thickness)
    light = DROP_OPACITY * (0.35 + 0.65 * along)
    canvas = torch.zeros(len(images), canvas_height * canvas_width, dtype=images.dtype, device=images.device)
    for step, share in enumerate(shares):
        canvas.scatter_reduce_(1, places + step, (light * share).flatten(1), "amax")
    canvas = canvas.view(-1, 1, canvas_height, canvas_width)
    return canvas[..., rows_per_drop : rows_per_drop + height, margin : margin + width]
