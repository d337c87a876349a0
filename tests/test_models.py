"""Models: built by name, they take pixels in [0,1] of any size, and normalise and resize by themselves."""

import json

import pytest
import torch
from torch import nn

import models
from registry import InputError

IMAGES = {"pixel_values": torch.rand(2, 3, 32, 32)}


@pytest.mark.parametrize(
    "name", ["small_cnn", "resnet20", "resnet32", "resnet56", "resnet18", "mobilenet_v3_small", "squeezenet1_0"]
)
def test_a_model_gives_one_logit_per_label_from_a_dict_or_from_keywords(name):
    model = models.build(name, 7, image_size=(32, 32)).eval()
    with torch.no_grad():
        logits = model(IMAGES)
        assert logits.shape == (2, 7)
        assert torch.equal(model(**IMAGES), logits)


@pytest.mark.parametrize(
    "name, depth, millions", [("resnet20", 20, 0.27), ("resnet32", 32, 0.46), ("resnet56", 56, 0.85)]
)
def test_the_cifar_resnets_have_the_published_depth_and_size(name, depth, millions):
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
    large = models.build(name, 10, image_size=(65, 65))
    assert (stem(large).kernel_size, stem(large).stride, large.size) == ((7, 7), (2, 2), (224, 224))


def test_keep_stem_keeps_it():
    model = models.build("resnet18", 10, image_size=(32, 32), keep_stem=True)
    assert (stem(model).kernel_size, model.size) == ((7, 7), (224, 224))


def test_normalisation_is_the_first_layer_of_the_model():
    model = models.build("resnet18", 10, image_size=(32, 32))
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.eval()(IMAGES)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert torch.allclose(seen[0], (IMAGES["pixel_values"] - mean.view(3, 1, 1)) / std.view(3, 1, 1))


def test_a_model_that_wants_another_size_gets_it():
    model = models.build("mobilenet_v3_small", 10, image_size=(32, 32))
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    model.eval()(IMAGES)
    assert seen == [(2, 3, 224, 224)]


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
    """A tiny Hugging Face image classifier, saved as its own library saves it."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=24,
        patch_size=8,
        num_labels=3,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    processor = ViTImageProcessor(
        size={"height": 24, "width": 24}, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    )
    processor.save_pretrained(folder)
    return folder


def test_a_hugging_face_folder_brings_its_processors_mean_std_and_size(vit_folder):
    model = models.build(str(vit_folder), 3).eval()
    assert model(IMAGES).shape == (2, 3) and model.pretrained
    prepared = model.prepare(torch.full((1, 3, 32, 32), 0.5))["pixel_values"]
    assert prepared.shape == (1, 3, 24, 24)
    assert prepared[0, :, 5, 7].tolist() == pytest.approx([0.4 / 0.4, 0.3 / 0.5, 0.2 / 0.6])


def test_a_hugging_face_model_gets_a_new_head_for_another_number_of_labels(vit_folder):
    assert models.build(str(vit_folder), 5).eval()(IMAGES).shape == (2, 5)


def test_without_pretrained_only_the_architecture_is_taken(vit_folder):
    torch.manual_seed(0)
    loaded, fresh = models.build(str(vit_folder), 3), models.build(str(vit_folder), 3, pretrained=False)
    name = "backbone.vit.embeddings.cls_token"
    assert not torch.equal(loaded.state_dict()[name], fresh.state_dict()[name]) and not fresh.pretrained


def test_an_unknown_model_is_refused_with_the_nearest_names():
    with pytest.raises(InputError, match="unknown model 'resnet21'; nearest: resnet32, resnet20, "):
        models.build("resnet21", 10)


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match="no image classifier could be loaded"):
        models.build(str(tmp_path), 10)


def test_own_models_have_no_published_weights():
    with pytest.raises(InputError, match="'resnet20' has no published weights"):
        models.build("resnet20", 10, pretrained=True)
