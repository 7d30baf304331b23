"""Batched views against Pillow and torchvision, image by image, on photographs."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional

from maskcon.data.augment import VIEWS, draw_crops, views
from maskcon.data.augment.autoaugment import CIFAR10_POLICY, OPERATIONS, cifar10_policy
from maskcon.data.augment.crop import random_boxes, resample, whole
from maskcon.data.augment.photo import blur, colour, hue, perspective, simclr_colour
from maskcon.errors import InputError

GREY = (128, 128, 128)
HEAVY = pytest.mark.heavy


def to_pillow(images: Tensor) -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def from_pillow(images: list[Image.Image]) -> Tensor:
    return torch.stack([torch.from_numpy(np.array(i)).permute(2, 0, 1) for i in images])


def sizes_of(images: Tensor) -> Tensor:
    return torch.tensor(images.shape[2:]).expand(len(images), 2)


def affine(image: Image.Image, matrix: tuple, resample: Image.Resampling) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=GREY)


def rotate(image: Image.Image, degrees: float) -> Image.Image:
    turned = image.convert("RGBA").rotate(degrees)
    fill = Image.new("RGBA", turned.size, (*GREY, 128))
    return Image.composite(turned, fill, turned).convert("RGB")


BICUBIC, NEAREST = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
PILLOW = {
    "shear_x": lambda i, m: affine(i, (1, m, 0, 0, 1, 0), BICUBIC),
    "shear_y": lambda i, m: affine(i, (1, 0, 0, m, 1, 0), BICUBIC),
    "translate_x": lambda i, m: affine(i, (1, 0, m * i.size[0], 0, 1, 0), NEAREST),
    "translate_y": lambda i, m: affine(i, (1, 0, 0, 0, 1, m * i.size[1]), NEAREST),
    "rotate": rotate,
    "color": lambda i, m: ImageEnhance.Color(i).enhance(m),
    "contrast": lambda i, m: ImageEnhance.Contrast(i).enhance(m),
    "sharpness": lambda i, m: ImageEnhance.Sharpness(i).enhance(m),
    "brightness": lambda i, m: ImageEnhance.Brightness(i).enhance(m),
    "posterize": lambda i, m: ImageOps.posterize(i, int(m)),
    "solarize": lambda i, m: ImageOps.solarize(i, m),
    "autocontrast": lambda i, m: ImageOps.autocontrast(i),
    "equalize": lambda i, m: ImageOps.equalize(i),
    "invert": lambda i, m: ImageOps.invert(i),
}


def test_every_operation_of_the_policy_is_known():
    assert {name for sub in CIFAR10_POLICY for name, _, _ in sub} <= set(OPERATIONS)
    assert set(OPERATIONS) == set(PILLOW)
    assert len(CIFAR10_POLICY) == 25


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_operation_agrees_with_pillow(name, photographs):
    """Every level and sign. The arithmetic follows Pillow's, so at most single pixels differ:
    where a float32 product lands on the other side of a whole level (fused multiply-adds differ
    between processors), by one level, or where a fixed-point coordinate falls on an edge between
    pixels; none did on the machine that this was written on.
    """
    apply, minus, plus = OPERATIONS[name]
    pillow = to_pillow(photographs)
    for magnitude in torch.cat([minus, plus]).unique().tolist():
        ours = apply(photographs, torch.full((len(photographs),), magnitude, dtype=torch.float64))
        theirs = from_pillow([PILLOW[name](image, magnitude) for image in pillow])
        assert ours.dtype == torch.uint8
        assert (ours != theirs).double().mean() < 1e-3, magnitude


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_each_image_has_its_own_magnitude(name, photographs):
    apply, minus, plus = OPERATIONS[name]
    magnitude = torch.cat([minus, plus]).repeat(5)[: len(photographs)]
    together = apply(photographs[: len(magnitude)], magnitude)
    alone = [apply(i[None], m[None])[0] for i, m in zip(photographs, magnitude, strict=False)]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "contrast", "sharpness"])
def test_flat_images_and_images_of_two_levels(name):
    flat = torch.full((1, 3, 32, 32), 77, dtype=torch.uint8)
    two = flat.clone()
    two[:, :, :16] = 200
    for image in (flat, two):
        apply, _, plus = OPERATIONS[name]
        theirs = from_pillow([PILLOW[name](i, plus[9].item()) for i in to_pillow(image)])
        assert torch.equal(apply(image, plus[9:]), theirs)


@pytest.mark.parametrize(("size", "tolerated"), [(32, 0.01), (48, 0.01), (14, 0.05)])
def test_crop_agrees_with_torchvision(size, tolerated, photographs):
    """Sums that end on half a level may round either way, because Pillow's weights are
    fixed-point numbers and ours float32: by one level, in under 1 % of the pixels; in more where
    a wide filter has many weights.
    """
    boxes = random_boxes(sizes_of(photographs), generator=torch.Generator().manual_seed(0))
    flip = torch.arange(len(photographs)) % 2 == 0
    ours = resample(photographs, boxes, size, flip)
    theirs = from_pillow(
        [
            functional.hflip(crop) if mirrored else crop
            for image, box, mirrored in zip(
                to_pillow(photographs), boxes.tolist(), flip, strict=True
            )
            for crop in [functional.resized_crop(image, *box, [size, size])]
        ]
    )
    difference = (ours.int() - theirs.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).double().mean() <= tolerated


def test_plain_resizes_to_a_square(photographs):
    oblong = photographs[:, :, :, :20].contiguous()
    ours = (views(oblong, "plain", size=16) * 255).round()
    theirs = from_pillow([functional.resize(i, [16, 16]) for i in to_pillow(oblong)])
    assert (ours - theirs).abs().max() <= 1
    assert torch.equal(views(photographs, "plain"), photographs.float() / 255)
    assert whole(sizes_of(oblong)).boxes[0].tolist() == [0, 0, 32, 20]


def test_boxes_are_drawn_like_torchvision_draws_them():
    """Mean and std of top, left, height and width over 20,000 draws, two shapes."""
    for height, width in ((32, 32), (20, 50)):
        images = torch.zeros(20_000, 3, height, width, dtype=torch.uint8)
        ours = random_boxes(sizes_of(images), generator=torch.Generator().manual_seed(1)).double()
        torch.manual_seed(2)
        one = images[0]
        theirs = torch.tensor(
            [
                transforms.RandomResizedCrop.get_params(one, (0.2, 1.0), (3 / 4, 4 / 3))
                for _ in range(20_000)
            ]
        ).double()
        error = theirs.std(0) / math.sqrt(20_000)  # of a mean; of a std it is smaller
        assert ((ours.mean(0) - theirs.mean(0)).abs() < 6 * error).all()
        assert ((ours.std(0) - theirs.std(0)).abs() < 6 * error).all()


def reference_view(image: Image.Image, kind: str, random: np.random.Generator) -> Image.Image:
    """One image at a time, as the released programs do it."""
    least = 0.08 if kind == "simclr" else 0.2
    image = transforms.RandomResizedCrop(32, (least, 1.0))(image)
    image = transforms.RandomHorizontalFlip()(image)
    if kind == "strong":
        for name, probability, level in CIFAR10_POLICY[random.integers(25)]:
            if random.random() < probability:
                _, minus, plus = OPERATIONS[name]
                magnitudes = plus if random.random() < 0.5 else minus
                image = PILLOW[name](image, magnitudes[level].item())
    if kind in ("moco", "simclr"):  # simclr at 32 px: half of its jitter, no blur
        image = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8)(image)
        image = transforms.RandomGrayscale(0.2)(image)
    if kind == "moco":
        image = transforms.RandomApply([transforms.GaussianBlur(13, (0.1, 2.0))], 0.5)(image)
    return image


@pytest.mark.parametrize(
    "kind", ["weak", "strong", *(pytest.param(kind, marks=HEAVY) for kind in ("moco", "simclr"))]
)
def test_pipelines_have_the_statistics_of_a_per_image_pipeline(kind, photographs):
    """Over many draws from one image: mean and spread of each pixel, and of each view's mean
    and contrast. Means of n draws scatter by std / sqrt(n); six of that is the tolerance.
    """
    n = 4000
    image = photographs[37]
    ours = views(
        image.expand(n, -1, -1, -1), kind, generator=torch.Generator().manual_seed(3)
    ).double()
    torch.manual_seed(4)
    random = np.random.default_rng(4)
    (pillow,) = to_pillow(image[None])
    theirs = from_pillow([reference_view(pillow, kind, random) for _ in range(n)]).double() / 255
    error = theirs.std(0) * math.sqrt(2 / n)
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 6 * error).all()
    for statistic in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.std((1, 2, 3)),
        lambda x: (x.diff(dim=3)).abs().mean((1, 2, 3)),  # sharpness
        lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)),  # colourfulness
    ):
        a, b = statistic(ours), statistic(theirs)
        scatter = b.std() * math.sqrt(2 / n)
        assert (a.mean() - b.mean()).abs() < 6 * scatter
        assert (a.std() - b.std()).abs() < 0.1 * b.std()


@pytest.mark.parametrize("kind", list(VIEWS))
def test_views_are_a_function_of_the_generator(kind, photographs):
    def draw(seed: int) -> Tensor:
        return views(photographs, kind, generator=torch.Generator().manual_seed(seed))

    before = photographs.clone()
    assert draw(0).shape == (len(photographs), 3, 32, 32)
    assert draw(0).dtype == torch.float32
    assert draw(0).min() >= 0
    assert draw(0).max() <= 1
    assert torch.equal(draw(0), draw(0))
    assert torch.equal(draw(0), draw(1)) == (kind == "plain")
    assert torch.equal(before, photographs)  # the set itself is not touched


def test_each_image_draws_for_itself(photographs):
    same = photographs[:1].expand(200, -1, -1, -1)
    for kind in set(VIEWS) - {"plain"}:
        drawn = views(same, kind, generator=torch.Generator().manual_seed(0))
        assert (
            drawn.flatten(1).unique(dim=0).shape[0] > 150
        )  # nearly all; a whole-image crop can repeat


def test_policy_leaves_the_shape_and_the_input(photographs):
    before = photographs.clone()
    out = cifar10_policy(photographs, torch.Generator().manual_seed(0))
    assert out.shape == photographs.shape
    assert torch.equal(before, photographs)
    assert not torch.equal(out, before)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_tiny_images(size):
    images = torch.randint(256, (64, 3, size, size), dtype=torch.uint8)
    for kind in VIEWS:
        assert views(images, kind, size=8).isfinite().all()


def test_what_is_no_batch_of_images():
    with pytest.raises(InputError, match="there is no view 'stronk': choose one of plain"):
        views(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "stronk")
    with pytest.raises(InputError, match=r"float32 \[1, 3, 4, 4\]: expected uint8"):
        views(torch.zeros(1, 3, 4, 4), "weak")
    with pytest.raises(InputError, match=r"\[3, 4, 4\]: expected uint8"):
        views(torch.zeros(3, 4, 4, dtype=torch.uint8), "weak")


def test_views_are_mirrored_only_if_asked(photographs):
    """Half of the weak views are mirrored; without flip none is."""
    square = photographs[:1, :, :32, :32].repeat(200, 1, 1, 1)

    def count(flip: bool) -> int:
        random = torch.Generator().manual_seed(0)
        mirrored = views(square, "weak", size=32, crop_scale=1.0, flip=flip, generator=random)
        plain = views(square[:1], "plain", size=32)
        distance = (mirrored - plain).square().mean((1, 2, 3))
        return int((distance > (mirrored - plain.flip(3)).square().mean((1, 2, 3))).sum())

    assert 70 < count(True) < 130
    assert count(False) == 0


@pytest.fixture(scope="module")
def large(photographs) -> Tensor:
    """Photographs of 64 px, larger than the blur's window: uint8 [24, 3, 64, 64]."""
    rows = photographs.view(24, 2, 2, 3, 32, 32)
    return rows.permute(0, 3, 1, 4, 2, 5).reshape(24, 3, 64, 64).contiguous()


@pytest.mark.parametrize("turn", [-0.1, -0.03, 0.0, 0.07, 0.1])
def test_hue_agrees_with_torchvision(turn, large):
    """Both go over HSV in float32; torchvision cuts to a level where we round."""
    ours = hue(large, torch.full((len(large),), turn))
    theirs = functional.adjust_hue(large.float() / 255, turn).mul(255).round()
    assert (ours - theirs).abs().max() <= 1
    assert (ours != theirs).double().mean() < 0.01


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.3, 2.0])
def test_blur_agrees_with_torchvision(sigma, large):
    """The same float32 sums in another order: one level at most, where they end on a half."""
    ours = blur(large, torch.full((len(large),), sigma))
    theirs = functional.gaussian_blur(large, [13, 13], [sigma, sigma])
    assert (ours.int() - theirs.int()).abs().max() <= 1
    assert (ours != theirs).double().mean() < 1e-3


def test_perspective_agrees_with_torchvision(large, monkeypatch):
    """With the corners that we drew. Given a fill, torchvision fades the border twice, and so
    is given none: black, faded once, like ours. It solves for the eight numbers in float32 and
    cuts, not rounds, to whole levels: 99 % of the pixels are within two levels, and the rest
    lies on steep edges.
    """
    drawn = {}
    from maskcon.data.augment import photo

    real = photo._grid

    def spy(seen, corners, height, width):
        drawn.update(seen=seen, corners=corners)
        return real(seen, corners, height, width)

    monkeypatch.setattr(photo, "_grid", spy)
    ours = perspective(large, torch.Generator().manual_seed(0))
    changed = (ours != large).flatten(1).any(1).nonzero()[:, 0]
    assert 6 < len(changed) < 18
    assert len(drawn["seen"]) == len(changed)
    for row, seen in zip(changed, drawn["seen"], strict=True):
        theirs = functional.perspective(
            large[row], drawn["corners"].tolist(), seen.long().tolist(), fill=None
        )
        difference = (ours[row].int() - theirs.int()).abs()
        assert difference.double().quantile(0.99) <= 2


def test_corners_are_drawn_like_torchvision_draws_them():
    n, side = 1500, 32
    white = torch.full((n, 3, side, side), 255, dtype=torch.uint8)
    ours = perspective(white, torch.Generator().manual_seed(0)).double().mean((1, 2, 3))
    torch.manual_seed(1)
    warp = transforms.RandomPerspective(0.5, 0.5)
    theirs = torch.stack([warp(white[0]).double().mean() for _ in range(n)])
    error = theirs.std() * math.sqrt(2 / n)
    assert (ours.mean() - theirs.mean()).abs() < 6 * error
    assert (ours.std() - theirs.std()).abs() < 0.1 * theirs.std()


@pytest.mark.heavy
def test_colour_has_the_statistics_of_torchvision(photographs):
    """Over many draws from one image, as for the pipelines of small images."""
    n = 1000
    image = photographs[37]
    ours = colour(image.expand(n, -1, -1, -1), torch.Generator().manual_seed(0)).double() / 255
    pipeline = transforms.Compose(
        [
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([transforms.GaussianBlur(13, (0.1, 2.0))], 0.5),
        ]
    )
    torch.manual_seed(1)
    theirs = torch.stack([pipeline(image) for _ in range(n)]).double() / 255
    for statistic in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.std((1, 2, 3)),
        lambda x: x.diff(dim=3).abs().mean((1, 2, 3)),
        lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)),
    ):
        a, b = statistic(ours), statistic(theirs)
        # torchvision cuts each operation's levels where Pillow's and ours round: up to 1/255
        assert (a.mean() - b.mean()).abs() < 6 * b.std() * math.sqrt(2 / n) + 1 / 255
        assert (a.std() - b.std()).abs() < 0.1 * b.std()


def test_boxes_lie_inside_images_of_their_own_sizes():
    sizes = torch.tensor([[1, 1], [1, 900], [20_000, 3], [7, 5], [480, 640]]).repeat(200, 1)
    top, left, height, width = random_boxes(
        sizes, generator=torch.Generator().manual_seed(0)
    ).unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (height >= 1).all()
    assert (width >= 1).all()
    assert (top + height <= sizes[:, 0]).all()
    assert (left + width <= sizes[:, 1]).all()


def one_coloured(image: Tensor, u: list[float], jitter: float, hue: float, blurs: bool) -> Tensor:
    """Jitter, grey and blur of one image by torchvision, with the numbers that it drew."""
    (out,) = to_pillow(image[None])
    factors = [1 + jitter * (2 * x - 1) for x in u[1:4]]
    jitters = [
        lambda i: functional.adjust_brightness(i, factors[0]),
        lambda i: functional.adjust_contrast(i, factors[1]),
        lambda i: functional.adjust_saturation(i, factors[2]),
        lambda i: functional.to_pil_image(  # Pillow's hue has 256 steps
            functional.adjust_hue(from_pillow([i])[0] / 255, hue * (2 * u[4] - 1))
        ),
    ]
    if u[0] < 0.8:
        for number in np.argsort(u[5:9]):
            out = jitters[number](out)
    if u[9] < 0.2:
        out = functional.to_grayscale(out, 3)
    made = from_pillow([out])[0]
    if blurs and u[10] < 0.5:
        made = functional.gaussian_blur(made, [13, 13], [0.1 + 1.9 * u[11]] * 2)
    return made


@pytest.mark.parametrize(
    ("change", "tiles", "jitter", "hue", "blurs"),
    [
        (colour, 1, 0.4, 0.1, True),
        (colour, 3, 0.4, 0.1, True),
        (simclr_colour, 1, 0.4, 0.1, False),
        (simclr_colour, 2, 0.4, 0.1, False),
        (simclr_colour, 3, 0.8, 0.2, True),
    ],
)
def test_moco_and_simclr_agree_with_torchvision(change, tiles, jitter, hue, blurs, photographs):
    """At 32, 64 and 96 px, image by image, with what each drew; levels that end on a half may
    round either way, and a jitter that follows makes more of that.
    """
    n, side = 90 // tiles**2, 32 * tiles
    rows = photographs[: n * tiles**2].view(n, tiles, tiles, 3, 32, 32)
    images = rows.permute(0, 3, 1, 4, 2, 5).reshape(n, 3, side, side).contiguous()
    drawn = change.draw(n, torch.Generator().manual_seed(0))
    ours = change.apply(images, drawn)
    pairs = zip(images, drawn.tolist(), strict=True)
    theirs = torch.stack([one_coloured(image, u, jitter, hue, blurs) for image, u in pairs])
    difference = (ours.int() - theirs.int()).abs().double()
    assert (difference > 2).double().mean() < 0.01


def test_crops_of_a_view_are_its_own_unless_said_otherwise(photographs):
    """SimCLR's keep a twelfth of the area and more, the others a fifth."""
    sizes = torch.tensor([[480, 640]]).expand(4000, 2)
    for kind, given, least in (
        ("simclr", None, 0.08),
        ("moco", None, 0.2),
        ("weak", None, 0.2),
        ("simclr", 0.5, 0.5),
    ):
        area = VIEWS[kind].area(given)
        boxes = draw_crops(area, sizes, flip=True, generator=torch.Generator().manual_seed(0)).boxes
        share = boxes[:, 2] * boxes[:, 3] / (480 * 640)
        assert share.min() == pytest.approx(least, abs=0.01)
    assert draw_crops(VIEWS["plain"].area(0.5), sizes, flip=True, generator=None).whole
