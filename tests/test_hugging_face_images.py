"""Hugging Face's image classifiers get what their own image processors would give them, or are refused in one line."""

import json

import pytest
import torch
import transformers
from conftest import refuses

from robust_data import models
from robust_data.registry import InputError
from robust_data.train.saved_models import save_model

BYTES = torch.randint(0, 256, (2, 3, 40, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
IMAGES = BYTES / 255
SQUARE = {"height": 32, "width": 32}
# Given bytes, a processor rounds to whole levels after resizing each of the two axes, and torch keeps the weights
# of bytes with few digits; given floats it does not. That is worth one level, 1.5 to be sure, of 255.
LEVELS = 1.5


def save(folder, model, processor):
    """A folder as the hub has it; processor: an image processor, or a dict of its settings, or None."""
    model.save_pretrained(folder)
    if isinstance(processor, dict):
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    elif processor is not None:
        processor.save_pretrained(folder)
    return str(folder)


def resnet(**settings):
    """A tiny backbone that takes images of any size."""
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1], num_labels=3, **settings)
    return transformers.ResNetForImageClassification(config)


def vit(**settings):
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config |= {"patch_size": 8, "image_size": 32, "num_labels": 3}
    return transformers.ViTForImageClassification(transformers.ViTConfig(**config | settings))


def processor_names():
    """The image processors of every architecture that classifies images."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES

    found = (IMAGE_PROCESSOR_MAPPING_NAMES.get(name, {}) for name in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)
    return sorted({classes["torchvision"] for classes in found if "torchvision" in classes})


# Two have outputs of their own, colours in place of pixels and patches, and tests of their own below.
PIXEL_PROCESSORS = [
    name for name in processor_names() if name not in ("ImageGPTImageProcessor", "Siglip2ImageProcessor")
]
VARIANTS = {
    "by default": {},
    "as they are": {"do_resize": False, "do_center_crop": False},
    "neither rescaled nor normalised": {"do_rescale": False, "do_normalize": False, "include_top": False},
    "rescaled alone": {"do_rescale": True, "do_normalize": False, "rescale_factor": 1 / 127.5},
    "rescaled around zero": {"rescale_offset": True, "rescale_factor": 1 / 127.5, "include_top": False},
    "red first": {"do_flip_channel_order": False},
    "nearest": {"resample": 0},
    "bilinear, cropped": {"resample": 2, "do_center_crop": True, "crop_size": SQUARE, "crop_pct": 0.7},
    "cropped and padded": {"do_center_crop": True, "crop_size": {"height": 20, "width": 50}, "do_pad": True},
}


def small(name):
    """The processor with its own settings but for a size that is quick."""
    by_edge = "shortest_edge" in getattr(transformers, name).size
    return {"image_processor_type": name, "size": {"shortest_edge": 33} if by_edge else {"height": 33, "width": 30}}


@pytest.fixture(scope="module")
def resnet_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    save(folder, resnet(), None)
    return folder


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", PIXEL_PROCESSORS)
def test_the_first_layers_are_the_image_processor(resnet_folder, name, variant):
    settings = small(name) | VARIANTS[variant]
    (resnet_folder / "preprocessor_config.json").write_text(json.dumps(settings))
    processor = transformers.AutoImageProcessor.from_pretrained(resnet_folder)
    expected, white, less = (
        processor(images, return_tensors="pt")["pixel_values"]
        for images in (BYTES, torch.full_like(BYTES, 255), torch.full_like(BYTES, 254))
    )
    prepared = models.build(str(resnet_folder), 3, image_size=(40, 36)).prepare(IMAGES)["pixel_values"]
    assert prepared.shape == expected.shape
    level = (white - less).abs().max()
    assert (prepared - expected).abs().max() <= LEVELS * level


@pytest.mark.parametrize("settings", [{"do_rescale": False}, {"rescale_factor": 1}, {"rescale_factor": 1.0}], ids=str)
def test_a_processor_that_does_not_rescale_gets_the_images_to_which_its_mean_belongs(resnet_folder, settings):
    expected = small("ViTImageProcessor") | {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.4, 0.2]}
    in_levels = {name: [255 * value for value in expected[name]] for name in ("image_mean", "image_std")}
    prepared = []
    for own in (expected, expected | settings, expected | settings | in_levels):
        (resnet_folder / "preprocessor_config.json").write_text(json.dumps(own))
        model = models.build(str(resnet_folder), 3, image_size=(40, 36))
        prepared.append(model.prepare(IMAGES)["pixel_values"])
    for other in prepared[1:]:
        assert torch.allclose(other, prepared[0], atol=1e-5)


def test_a_model_of_patches_gets_their_mask_too(tmp_path):
    part = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.Siglip2Config(
        vision_config=part | {"patch_size": 8, "num_patches": 16}, text_config=part | {"vocab_size": 9}, num_labels=3
    )
    processor = transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
    folder = save(tmp_path, transformers.Siglip2ForImageClassification(config), processor)
    model = models.build(folder, 3, image_size=(40, 36)).eval()
    assert model({"pixel_values": IMAGES}).shape == (2, 3)
    expected = processor(BYTES, return_tensors="pt")
    prepared = model.prepare(IMAGES)
    assert (prepared["pixel_values"] - expected["pixel_values"]).abs().max() <= LEVELS * 2 / 255
    assert torch.equal(prepared["pixel_attention_mask"], expected["pixel_attention_mask"])


@pytest.mark.parametrize("inference", [True, False])
def test_gradients_reach_the_pixels_also_after_a_pass_in_inference_mode(tmp_path, inference):
    model = models.build(
        save(tmp_path, vit(return_dict=False), transformers.ViTImageProcessor(size=SQUARE)), 3, image_size=(40, 36)
    )
    with torch.inference_mode(inference), torch.no_grad():
        model({"pixel_values": IMAGES})
    images = IMAGES.clone().requires_grad_()
    model({"pixel_values": images})[:, 0].sum().backward()
    assert images.grad.abs().max() > 0 and model.backbone.classifier.weight.grad is not None


def test_a_model_of_one_channel_gets_the_mean_of_the_three(tmp_path):
    processor = transformers.ViTImageProcessor(size=SQUARE, image_mean=[0.5], image_std=[0.5])
    model = models.build(save(tmp_path, vit(num_channels=1), processor), 3, image_size=(40, 36)).eval()
    grey = IMAGES.mean(dim=1, keepdim=True)
    assert torch.allclose(
        model({"pixel_values": IMAGES}), model({"pixel_values": grey.expand(-1, 3, -1, -1)}), atol=1e-6
    )
    assert model.prepare(IMAGES)["pixel_values"].shape == (2, 1, 32, 32)


def test_a_model_without_published_weights_can_be_saved_and_loaded(tmp_path):
    """Its image processor is found where the architecture came from."""
    folder = save(tmp_path / "hub", vit(), transformers.ViTImageProcessor(size=SQUARE))
    model = models.build(folder, 3, pretrained=False, image_size=(40, 36)).eval()
    again = models.build(str(save_model(tmp_path / "model", model, {})), 3, image_size=(40, 36))
    assert torch.equal(again.eval()({"pixel_values": IMAGES}), model({"pixel_values": IMAGES}))


def palette():
    return transformers.ImageGPTImageProcessor(size={"height": 4, "width": 4}, clusters=[[0.0, 0.0, 0.0]] * 8)


def image_gpt():
    config = transformers.ImageGPTConfig(vocab_size=9, n_positions=16, n_embd=8, n_layer=1, n_head=1, num_labels=3)
    return transformers.ImageGPTForImageClassification(config)


def square_vit():
    return transformers.ViTImageProcessor(size=SQUARE)


REFUSED = {
    "colours in place of pixels": (image_gpt, palette),
    "another size": (lambda: vit(image_size=48), square_vit),
    "channels": (lambda: vit(num_channels=5), square_vit),
    "patches": (resnet, transformers.Siglip2ImageProcessor),
    "no processor": (vit, lambda: None),
    "no such processor": (vit, lambda: {"image_processor_type": "MyImageProcessor"}),
    "no such curve": (resnet, lambda: small("ViTImageProcessor") | {"resample": 77}),
}


@pytest.mark.parametrize("model, processor", REFUSED.values(), ids=REFUSED)
def test_a_model_that_cannot_take_the_images_is_refused_in_one_line(tmp_path, model, processor):
    folder = save(tmp_path, model(), processor())
    with pytest.raises(InputError) as refusal:
        models.build(folder, 3, image_size=(40, 36))
    assert str(refusal.value).startswith(f"--model_name {folder}") and "\n" not in str(refusal.value)


def timm_folder(folder, **settings):
    settings = {"input_size": [3, 32, 32], "mean": [0.5, 0.4, 0.5], "std": [0.5, 0.5, 0.25], "crop_pct": 0.9} | settings
    config = {"model_type": "timm_wrapper", "architecture": "resnet18", "num_classes": 3, "pretrained_cfg": settings}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_model_of_timm_gets_what_timm_gives_it(tmp_path, interpolation):
    pytest.importorskip("timm")
    from torchvision.transforms.functional import to_pil_image

    folder = timm_folder(tmp_path, interpolation=interpolation)
    expected = transformers.AutoImageProcessor.from_pretrained(folder)([to_pil_image(image) for image in BYTES])
    prepared = models.build(folder, 3, pretrained=False, image_size=(40, 36)).prepare(IMAGES)["pixel_values"]
    assert (prepared - expected["pixel_values"]).abs().max() <= LEVELS / 255 / 0.25


def named(folder, *names, **settings):
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    return save(folder, resnet(**labels, **settings), transformers.ViTImageProcessor(size=SQUARE))


def test_classes_are_known_by_their_names(tmp_path):
    torch.manual_seed(0)
    folder = named(tmp_path / "hub", "dog", "eel", "cat")
    ours, theirs = (
        models.build(folder, 3, image_size=(40, 36), label_names=names).eval()
        for names in (["Cat", "dog", "eel"], ["dog", "eel", "cat"])
    )
    with torch.no_grad():
        expected = theirs({"pixel_values": IMAGES})[:, [2, 0, 1]]
        assert torch.allclose(ours({"pixel_values": IMAGES}), expected, atol=1e-5)
    assert ours.backbone.config.id2label == {0: "Cat", 1: "dog", 2: "eel"}
    with refuses("--model_name"):
        models.build(folder, 3, image_size=(40, 36), label_names=["cat", "dog", "fox"])
    # A model of our own that was trained in another order, too.
    small = models.build("small_cnn", 3).eval()
    folder = save_model(tmp_path / "ours", small, {}, ["dog", "eel", "cat"])
    again = models.build(str(folder), 3, image_size=(40, 36), label_names=["cat", "dog", "eel"]).eval()
    with torch.no_grad():
        assert torch.allclose(again({"pixel_values": IMAGES}), small({"pixel_values": IMAGES})[:, [2, 0, 1]], atol=1e-5)


def test_a_saved_model_says_that_it_tells_single_labels_apart(tmp_path):
    folder = named(tmp_path / "hub", "cat", "dog", "eel", problem_type="multi_label_classification")
    model = models.build(folder, 3, image_size=(40, 36))
    folder = save_model(tmp_path / "model", model, {})
    assert transformers.AutoConfig.from_pretrained(folder).problem_type == "single_label_classification"
