"""Image classifiers: the project's own small ones and torchvision's."""

from __future__ import annotations

import functools
import inspect
import warnings

import torch
import torchvision
from torch import nn

from robust_data.registry import InputError, Registry

# Up to this side, in pixels, a 7x7 stride-2 stem with a max-pool throws away most of the image.
SMALL_SIDE = 64

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

SMALL_MODELS = Registry("model")


class ImageClassifier(nn.Module):
    """A backbone behind its own resizing and normalisation, so that clean and perturbed images take one path.

    Called with `{"pixel_values": [B,3,H,W] float in [0,1]}` (or the same as keyword arguments), it
    returns logits [B, num_labels]. `size` is the (height, width) the backbone wants; None leaves the
    images as they are. `pretrained` tells whether the backbone starts from published weights, `memory_format` how
    the backbone gets the images.
    """

    memory_format = torch.contiguous_format

    def __init__(self, backbone: nn.Module, mean, std, size: tuple[int, int] | None = None, pretrained: bool = False):
        super().__init__()
        self.backbone = backbone
        self.size = size
        self.pretrained = pretrained
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, inputs: dict[str, torch.Tensor] | None = None, /, **named: torch.Tensor) -> torch.Tensor:
        images = (inputs or named)["pixel_values"]
        if self.size is not None and tuple(images.shape[-2:]) != self.size:
            images = nn.functional.interpolate(images, self.size, mode="bilinear", antialias=True, align_corners=False)
        normalised = (images - self.mean) / self.std
        if self.memory_format is not torch.contiguous_format:
            normalised = normalised.contiguous(memory_format=self.memory_format)
        outputs = self.backbone(normalised)
        return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


def small_model(name: str):
    """Register a function `(num_labels) -> backbone` that runs at the images' own resolution."""

    def register(make):
        SMALL_MODELS.add(name, make)
        return make

    return register


@small_model("small_cnn")
def small_cnn(num_labels: int) -> nn.Module:
    """Three convolutions and a linear layer: 75,000 parameters, seconds an epoch on a CPU."""
    widths = (3, 32, 64, 96)
    layers: list[nn.Module] = []
    for width_in, width_out in zip(widths[:-1], widths[1:]):
        layers += [nn.Conv2d(width_in, width_out, 3, padding=1), nn.BatchNorm2d(width_out), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], num_labels))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (He et al. 2016, option A)."""

    def __init__(self, width_in: int, width_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width_out)
        self.stride = stride
        self.new_channels = width_out - width_in

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out = nn.functional.relu(self.norm1(self.conv1(images)), inplace=True)
        out = self.norm2(self.conv2(out))
        shortcut = images
        if self.new_channels:
            shortcut = nn.functional.pad(
                images[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels)
            )
        return nn.functional.relu(out + shortcut, inplace=True)


class CifarResNet(nn.Sequential):
    """The CIFAR ResNets of He et al. (CVPR 2016, section 4.2): 6n + 2 layers, widths 16, 32, 64."""

    def __init__(self, blocks: int, num_labels: int):
        stages, width_in = [], 16
        for width_out, stride in ((16, 1), (32, 2), (64, 2)):
            for block in range(blocks):
                stages.append(_BasicBlock(width_in, width_out, stride if block == 0 else 1))
                width_in = width_out
        stem = (nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        super().__init__(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_labels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


# Blocks in each of the three stages; 0.27, 0.46 and 0.85 M parameters.
for _name, _blocks in {"resnet20": 3, "resnet32": 5, "resnet56": 9}.items():
    SMALL_MODELS.add(_name, functools.partial(CifarResNet, _blocks))


def _convolution(width_in: int, width_out: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, batch norm and ReLU."""
    convolution = nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width_out), nn.ReLU(inplace=True))


class _Residual(nn.Sequential):
    """Layers beside a shortcut."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + super().forward(images)


@small_model("resnet9_small")
def resnet9_small(num_labels: int) -> nn.Module:
    """A small fast residual net, 0.46 M parameters: seven 3x3 convolutions and a global max-pool."""
    return nn.Sequential(
        _convolution(3, 32, stride=2),
        _convolution(32, 64),
        nn.MaxPool2d(2),
        _Residual(_convolution(64, 64), _convolution(64, 64)),
        _convolution(64, 128),
        nn.MaxPool2d(2),
        _Residual(_convolution(128, 128), _convolution(128, 128)),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(128, num_labels),
    )


def build_small(name: str, num_labels: int) -> ImageClassifier:
    """One of the project's own small models, at the images' own resolution, from random weights."""
    return ImageClassifier(SMALL_MODELS[name](num_labels), CIFAR10_MEAN, CIFAR10_STD)


def torchvision_names() -> list[str]:
    """The names of torchvision's classification models, without the quantised ones."""
    return torchvision.models.list_models(module=torchvision.models)


def trained_side(name: str) -> int:
    """The side in pixels of the images on which the default weights of a torchvision model were trained."""
    return torchvision.models.get_model_weights(name).DEFAULT.transforms().crop_size[0]


def build_torchvision(
    name: str, num_labels: int, pretrained: bool, image_size: tuple[int, int], keep_stem: bool
) -> ImageClassifier:
    """A torchvision classifier with a head of `num_labels`, pretrained on ImageNet or from random weights.

    For images up to 64 px a CNN's 7x7 stride-2 stem becomes 3x3 stride-1 without max-pool (unless
    `keep_stem`) and the model runs at the images' own resolution; every other model resizes to the size
    its default weights were trained at. Raises InputError if the weights cannot be had.
    """
    weights = torchvision.models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    # A vision transformer has a position for each patch, so it is made for one size, without weights 224 px.
    makes = inspect.signature(torchvision.models.get_model_builder(name)).return_annotation
    fixed = {"image_size": preset.crop_size[0]} if makes is torchvision.models.VisionTransformer else {}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The default weight initialization", category=FutureWarning)
            backbone = torchvision.models.get_model(name, weights=weights if pretrained else None, **fixed)
    except OSError as error:
        raise InputError(
            f"--pretrained 1: the weights of '{name}' could not be downloaded ({error}); "
            "use --pretrained 0 or connect to the network"
        ) from None
    _replace_head(backbone, num_labels)
    for auxiliary_head in ("aux1", "aux2", "AuxLogits"):  # GoogLeNet's and Inception's, for training on ImageNet
        if hasattr(backbone, auxiliary_head):
            setattr(backbone, auxiliary_head, None)
    size = (preset.crop_size[0],) * 2
    if max(image_size) <= SMALL_SIDE and not keep_stem and _adapt_stem(backbone):
        size = None
    return ImageClassifier(backbone, preset.mean, preset.std, size, pretrained)


def _last_of(backbone: nn.Module, kind: type | tuple[type, ...]) -> tuple[nn.Module, str]:
    """The parent and the attribute name of the last submodule of a kind, auxiliary heads aside."""
    found = [
        name for name, module in backbone.named_modules() if isinstance(module, kind) and "aux" not in name.lower()
    ]
    parent, _, attribute = found[-1].rpartition(".")
    return backbone.get_submodule(parent), attribute


def _replace_head(backbone: nn.Module, num_labels: int) -> None:
    """Give the classifier a new last layer; SqueezeNet's is a 1x1 convolution, all others' is linear."""
    convolutional = isinstance(backbone, torchvision.models.SqueezeNet)
    parent, attribute = _last_of(backbone, nn.Conv2d if convolutional else nn.Linear)
    old = getattr(parent, attribute)
    if convolutional:
        setattr(parent, attribute, nn.Conv2d(old.in_channels, num_labels, kernel_size=1))
    else:
        setattr(parent, attribute, nn.Linear(old.in_features, num_labels, bias=old.bias is not None))


def _adapt_stem(backbone: nn.Module) -> bool:
    """Turn a 7x7 stride-2 stem into 3x3 stride-1 and drop the max-pool behind it; False if there is no such stem."""
    modules = list(backbone.named_modules())
    name, stem = next((n, m) for n, m in modules if isinstance(m, nn.Conv2d))
    if stem.kernel_size != (7, 7) or stem.stride != (2, 2):
        return False
    new_stem = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=stem.bias is not None)
    nn.init.kaiming_normal_(new_stem.weight, mode="fan_out", nonlinearity="relu")
    backbone.set_submodule(name, new_stem)
    backbone.set_submodule(next(n for n, m in modules if isinstance(m, nn.MaxPool2d)), nn.Identity())
    return True
