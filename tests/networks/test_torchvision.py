"""Our ImageNet networks are torchvision's: with its weights they give its outputs, gradients and statistics."""

import re

import pytest
import torch
import torch.nn.functional as F
import torchvision

from benchmark.complexity import complexity
from benchmark.specs import NetworkSpec
from lightning_modules import create_network, load_torchvision
from lightning_modules.networks.torchvision_weights import our_key

SAME = {
    "imagenet_resnet18": "resnet18",
    "imagenet_resnet34": "resnet34",
    "imagenet_resnet50": "resnet50",
    "imagenet_densenet121": "densenet121",
}
CLASSES = 20


def model(name, num_classes=CLASSES):
    """torchvision's, whose batch norms are no longer the identity at their start."""
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=num_classes)
    with torch.no_grad():
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                for tensor in (module.weight, module.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (module.bias, module.running_mean):
                    tensor.normal_(std=0.1)
    return theirs


def backward(network, images, labels):
    """Logits, and gradients of the images and of each parameter."""
    network.zero_grad()
    images = images.clone().requires_grad_()
    logits = network(images)
    F.cross_entropy(logits, labels).backward()
    return logits.detach(), images.grad, {name: p.grad for name, p in network.named_parameters()}


@pytest.mark.parametrize(("name", "theirs"), SAME.items(), ids=SAME)
def test_outputs_gradients_and_statistics(name, theirs):
    theirs = model(theirs).double()
    ours = create_network(name, CLASSES).double()
    load_torchvision(ours, theirs.state_dict())
    images, labels = torch.randn(2, 3, 64, 64, dtype=torch.float64), torch.tensor([0, 19])
    for training in (True, False):
        logits, input_gradient, gradients = backward(ours.train(training), images, labels)
        expected, expected_input, expected_gradients = backward(theirs.train(training), images, labels)
        torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(input_gradient, expected_input, rtol=1e-7, atol=1e-12)
        assert gradients.keys() == {our_key(key) for key in expected_gradients}
        for key, gradient in expected_gradients.items():
            torch.testing.assert_close(gradients[our_key(key)], gradient, rtol=1e-7, atol=1e-10, msg=key)
    state = ours.state_dict()
    assert len(state) == len(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(state[our_key(key)], value, rtol=1e-9, atol=1e-12, msg=key)
    assert all(value == 1 for key, value in state.items() if key.endswith("num_batches_tracked"))


@pytest.mark.parametrize(("name", "theirs"), SAME.items(), ids=SAME)
def test_start(name, theirs):
    """Each of our weights starts with the spread of torchvision's; batch norms start alike."""
    theirs = torchvision.models.get_model(theirs, weights=None)
    ours = create_network(name).state_dict()
    for key, value in theirs.state_dict().items():
        if key.endswith("weight") and value.dim() > 1:
            assert ours[our_key(key)].std() == pytest.approx(value.std().item(), rel=0.1), key
        elif not key.startswith(("fc.", "classifier.")):
            assert torch.equal(ours[our_key(key)], value), key
    assert not ours["classifier.bias"].any()


@pytest.mark.parametrize(("name", "theirs"), SAME.items(), ids=SAME)
def test_size_is_the_one_that_torchvision_states(name, theirs):
    stated = torchvision.models.get_model_weights(theirs).DEFAULT.meta
    parameters, multiply_adds = complexity(NetworkSpec(name), 1000, (3, 224, 224))
    assert parameters == stated["num_params"]
    assert round(multiply_adds / 1e9, 3) == stated["_ops"]


@pytest.mark.parametrize("mode", [True, False])
def test_a_heavy_ball_without_momentum_is_torchvisions_resnet(mode):
    theirs = model("resnet34").train(mode)
    ours = create_network("imagenet_hbnet34", CLASSES, beta=0.0).train(mode)
    load_torchvision(ours, theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_agdnet_with_ones_and_no_linear_terms_is_torchvisions_densenet():
    theirs = model("densenet121").eval()
    ours = create_network("imagenet_agdnet121", CLASSES, linear_terms=False).eval()
    load_torchvision(ours, theirs.state_dict())
    with torch.no_grad():
        for key, parameter in ours.named_parameters():
            if ".table." in key:
                parameter.fill_(1)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_coefficients_keep_their_start():
    ours = create_network("imagenet_hbnet18", CLASSES)
    load_torchvision(ours, model("resnet18").state_dict())
    assert [stage.rule.beta.tolist() for stage in ours.stages] == [[0.5]] * 4


def test_files_of_pretrained_weights():
    """They have no counters of batches, and those of DenseNets write ``norm.1`` for ``norm1``."""
    state = model("densenet121").state_dict()
    written = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock4.denselayer16.norm.2.running_var" in written
    ours = create_network("imagenet_densenet121", CLASSES)
    load_torchvision(ours, written)
    loaded = ours.state_dict()
    assert all(torch.equal(loaded[our_key(key)], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("network", "weights", "message"),
    [
        (
            "imagenet_resnet18",
            "resnet34",
            "another architecture: this network has no place for layer1.2.conv1.weight",
        ),
        (
            "imagenet_resnet34",
            "resnet18",
            "another architecture: they have nothing for stages.0.transforms.2.conv1",
        ),
        (
            "imagenet_resnet50",
            "resnet34",
            r"layer1.0.conv1.weight has shape \(64, 64, 3, 3\), this network's stages",
        ),
        (
            "imagenet_resnet18",
            "densenet121",
            "another architecture: this network has no place for features.denseblo",
        ),
        (
            "imagenet_resnet18",
            "squeezenet1_1",
            "'features.0.weight' is not a key of torchvision's ResNets or Dense",
        ),
    ],
)
def test_weights_of_another_architecture(network, weights, message):
    ours = create_network(network, CLASSES)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    with pytest.raises(ValueError, match=message) as error:
        load_torchvision(ours, model(weights).state_dict())
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_weights_for_another_number_of_classes():
    with pytest.raises(
        ValueError, match=r"fc.weight has shape \(1000, 512\), this network's classifier.weight \(10,"
    ):
        load_torchvision(create_network("imagenet_resnet18", 10), model("resnet18", 1000).state_dict())


@pytest.mark.parametrize(
    ("name", "theirs"), [("imagenet_hbnet18", "resnet18"), ("imagenet_agdnet121", "densenet121")]
)
def test_weights_without_the_head_are_for_other_classes(name, theirs):
    theirs, ours = model(theirs).state_dict(), create_network(name, 3)
    head = ours.classifier.weight.clone()
    load_torchvision(ours, theirs, head=False)
    assert torch.equal(ours.classifier.weight, head)
    own = ours.state_dict()
    names = {our_key(key): key for key in theirs if not our_key(key).startswith("classifier.")}
    assert all(torch.equal(own[name], theirs[key]) for name, key in names.items())
    with pytest.raises(ValueError, match=r"weights do not fit.*; head=False leaves it"):
        load_torchvision(ours, theirs)
