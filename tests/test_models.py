"""Models: built by name, they take pixels in [0,1] of any size, and normalise and resize by themselves."""

import contextlib

import pytest
import torch
import torchvision
from conftest import refuses
from torch import nn
from torch.overrides import TorchFunctionMode

from robust_data import models
from robust_data.models import vision

IMAGES = {"pixel_values": torch.rand(2, 3, 32, 32)}


@pytest.mark.parametrize("name", [*vision.SMALL_MODELS, "resnet18", "mobilenet_v3_small", "squeezenet1_0"])
def test_a_model_gives_one_logit_per_label_from_a_dict_or_from_keywords(name):
    model = models.build(name, 7, image_size=(32, 32)).eval()
    with torch.no_grad():
        logits = model(IMAGES)
        assert logits.shape == (2, 7)
        assert torch.equal(model(**IMAGES), logits)


@pytest.mark.parametrize(
    "name, depth, millions",
    [("resnet9_small", 8, 0.464), ("resnet20", 20, 0.27), ("resnet32", 32, 0.46), ("resnet56", 56, 0.85)],
)
def test_the_small_resnets_have_their_depth_and_size(name, depth, millions):
    model = models.build(name, 10)
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def stem(model):
    return next(module for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet"])
def test_small_images_get_a_small_stem_and_stay_as_large_as_they_are(name):
    small = models.build(name, 10, image_size=(64, 64))
    assert (stem(small).kernel_size, stem(small).stride, small.size) == ((3, 3), (1, 1), None)
    kept = models.build(name, 10, image_size=(64, 64), keep_stem=True)
    assert (stem(kept).kernel_size, kept.size) == ((7, 7), (224, 224))
    large = models.build(name, 10, image_size=(65, 65))
    assert (stem(large).kernel_size, stem(large).stride, large.size) == ((7, 7), (2, 2), (224, 224))


def test_resizing_and_normalisation_are_the_first_layers_of_the_model():
    for name, side in (("resnet18", 32), ("mobilenet_v3_small", 224)):
        model, seen = models.build(name, 10, image_size=(32, 32)).eval(), []
        model.backbone.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        model(IMAGES)
        assert seen[0].shape == (2, 3, side, side)
        if side == 32:
            mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
            expected = (IMAGES["pixel_values"] - mean.view(3, 1, 1)) / std.view(3, 1, 1)
            assert torch.allclose(seen[0], expected)


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    """A tiny Hugging Face image classifier, saved as its own library saves it."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("vit")
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(**config, image_size=24, patch_size=8, num_labels=3)
    ViTForImageClassification(config).save_pretrained(folder)
    colours = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    ViTImageProcessor(size={"height": 24, "width": 24}, **colours).save_pretrained(folder)
    return folder


def test_a_hugging_face_folder_brings_its_processors_mean_std_and_size(vit_folder):
    model = models.build(str(vit_folder), 3).eval()
    assert model(IMAGES).shape == (2, 3) and model.pretrained
    assert models.build(str(vit_folder), 5).eval()(IMAGES).shape == (2, 5)  # with a new head
    prepared = model.prepare(torch.full((1, 3, 32, 32), 0.5))["pixel_values"]
    assert prepared.shape == (1, 3, 24, 24)
    assert prepared[0, :, 5, 7].tolist() == pytest.approx([0.4 / 0.4, 0.3 / 0.5, 0.2 / 0.6])


def test_without_pretrained_only_the_architecture_is_taken(vit_folder):
    torch.manual_seed(0)
    loaded, fresh = models.build(str(vit_folder), 3), models.build(str(vit_folder), 3, pretrained=False)
    name = "backbone.vit.embeddings.cls_token"
    assert not torch.equal(loaded.state_dict()[name], fresh.state_dict()[name]) and not fresh.pretrained


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    text = {"modality": "text", "memory_format": "channels_last"}
    for name, more, named in (
        ("resnet21", {}, "resnet20"),
        ("resnet20", {"pretrained": True}, "--pretrained"),
        (str(tmp_path), {}, "--model_name"),
        ("bert", text, "--memory_format"),
    ):
        with refuses(named):
            models.build(name, 10, **more)


@pytest.mark.parametrize("name", ["resnet9_small", "resnet18", "a folder of Hugging Face"])
def test_channels_last_computes_the_same_up_to_rounding(name, vit_folder):
    name = str(vit_folder) if name.startswith("a folder") else name
    logits = []
    for memory_format in models.MEMORY_FORMATS:
        torch.manual_seed(0)
        model = models.build(name, 3, image_size=(32, 32), memory_format=memory_format).eval()
        seen = []
        next(m for m in model.modules() if isinstance(m, nn.Conv2d)).register_forward_pre_hook(
            lambda module, inputs, seen=seen: seen.append((module.weight, inputs[0]))
        )
        logits.append(model(IMAGES))
        last = memory_format == "channels_last" or (memory_format == "auto" and name != str(vit_folder))
        expected = torch.channels_last if last else torch.contiguous_format
        assert all(tensor.is_contiguous(memory_format=expected) for tensor in seen[0])
    for others in logits[1:]:
        torch.testing.assert_close(logits[0], others, rtol=1e-4, atol=1e-5)


class _WithoutInitialisation(TorchFunctionMode):
    """Leaves new weights as they are, so that a large model is made in no time and touches no memory."""

    SKIPPED = {torch.Tensor.uniform_, torch.Tensor.normal_, torch.Tensor.fill_, torch.Tensor.zero_}
    SKIPPED |= {torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.clamp_, torch.Tensor.erfinv_}

    def __torch_function__(self, function, types, given=(), named=None):
        return given[0] if function in self.SKIPPED else function(*given, **(named or {}))


# One of each architecture of torchvision, by default the cheapest; all of them are slow extras.
CHEAPEST = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18", "vgg11"),
    *("shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vit_b_16"),
)


@pytest.mark.parametrize("image_size", [(96, 80), (32, 32)])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in CHEAPEST else pytest.mark.slow)
        for name in torchvision.models.list_models(module=torchvision.models)
    ],
)
def test_every_torchvision_classifier_takes_the_images_that_it_is_given(name, image_size):
    """On the meta device, where there are shapes and no values."""
    # MaxViT asks its new tensors for values.
    with contextlib.nullcontext() if name == "maxvit_t" else _WithoutInitialisation():
        model = models.build(name, 3, image_size=image_size).to("meta").eval()
    assert model({"pixel_values": torch.empty(2, 3, *image_size, device="meta")}).shape == (2, 3)
