"""Pictures of labeled masks: colors, where words go, and the drawing itself."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from gem_label.demo import demo_words
from gem_label.masks import MaskSet, encode_mask
from gem_label.show.colors import PALETTE, class_color, class_colors, text_color
from gem_label.show.label_boxes import DrawnMask, overlap, place_labels
from gem_label.show.overlay import contact_sheet, draw_overlay, font_size


def mask_set(masks: list[NDArray[np.bool_]]) -> MaskSet:
    height, width = masks[0].shape
    return MaskSet(
        height,
        width,
        [encode_mask(mask) for mask in masks],
        np.ones(len(masks), np.float32),
        np.ones(len(masks), np.float32),
        np.zeros((len(masks), 2), np.float32),
    )


def disk(shape: tuple[int, int], x: float, y: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def crowd(shape: tuple[int, int], count: int) -> list[NDArray[np.bool_]]:
    """Disks all over a picture, many over one another."""
    rng = np.random.default_rng(0)
    return [
        disk(shape, rng.uniform(0, shape[1]), rng.uniform(0, shape[0]), rng.uniform(3, 60))
        for _ in range(count)
    ]


def check_boxes(boxes: NDArray[np.int64], bounds: tuple[int, int]) -> None:
    """None overlaps another, all lie inside."""
    assert not overlap(boxes, boxes)[~np.eye(len(boxes), dtype=bool)].any()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= bounds).all()


# colors


def test_a_class_has_one_color_everywhere() -> None:
    assert class_color("cat") == class_color("cat") == class_colors(["cat"])["cat"]
    assert len({class_color(word) for word in demo_words()}) == len(PALETTE)


def test_colors_on_one_picture_are_distinct() -> None:
    for count in (2, 10, 23, 69):
        colors = class_colors(demo_words()[:count])
        assert len(set(colors.values())) == count
    colors = class_colors(demo_words()[:23])
    lab = cv2.cvtColor(np.array([list(colors.values())], np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    apart = [np.linalg.norm(one - other) for one, other in itertools.combinations(lab, 2)]
    assert min(apart) > 30  # CIELAB; 2 is what an eye notices side by side
    assert len(class_colors([str(i) for i in range(200)])) == 200


def test_colors_do_not_depend_on_the_order_of_names() -> None:
    names = list(demo_words()[:30])
    assert class_colors(names) == class_colors(names[::-1] * 2)


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    channels = np.array([one, other]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722) + 0.05)
    return float(high / low)


def test_text_can_be_read_on_any_color() -> None:
    steps = range(0, 256, 15)
    used = list(class_colors([str(i) for i in range(300)]).values())
    for color in [*itertools.product(steps, steps, steps), *used]:
        assert contrast(color, text_color(color)) >= 3.6


# where words go


@pytest.mark.parametrize("bounds", [(1024, 683), (683, 1024)])
def test_sixty_labels_do_not_overlap(bounds: tuple[int, int]) -> None:
    width, height = bounds
    masks = [DrawnMask.scaled(mask, width, height) for mask in crowd((height, width), 60)]
    rng = np.random.default_rng(1)
    sizes = [(int(rng.integers(60, 180)), 24) for _ in masks]
    boxes = place_labels(
        sizes,
        [mask.anchors(size) for mask, size in zip(masks, sizes, strict=True)],
        bounds,
        targets=[mask.poles[0] for mask in masks],
    )
    assert (boxes >= 0).all()
    check_boxes(boxes, bounds)
    np.testing.assert_array_equal(boxes[:, 2:] - boxes[:, :2], sizes)


def test_labels_on_one_point_make_room_for_one_another() -> None:
    anchors = [[(100, 100)]] * 20
    boxes = place_labels([(50, 20)] * 20, anchors, (400, 300), targets=[(125, 110)] * 20)
    assert boxes[0].tolist() == [100, 100, 150, 120]
    check_boxes(boxes, (400, 300))
    away = np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - (125, 110), axis=1)
    assert away.max() < 160  # around it, not anywhere


def test_a_full_picture_leaves_labels_out() -> None:
    boxes = place_labels([(50, 20)] * 9, [[(0, 0)]] * 9, (100, 50), targets=[(0, 0)] * 9)
    placed = boxes[boxes[:, 0] >= 0]
    check_boxes(placed, (100, 50))
    assert 1 <= len(placed) < 9
    assert (boxes[len(placed) :] == -1).all()


def test_labels_larger_than_the_picture_are_left_out() -> None:
    boxes = place_labels([(120, 20), (20, 60), (20, 20)], [[(0, 0)]] * 3, (100, 50), targets=[(0, 0)] * 3)
    assert (boxes[:, 0] >= 0).tolist() == [False, False, True]


def test_anchors_come_into_the_picture_in_their_order() -> None:
    boxes = place_labels([(50, 20)], [[(-30, 45), (10, 10)]], (100, 50))
    assert boxes.tolist() == [[0, 30, 50, 50]]


def test_labels_go_where_they_hide_least() -> None:
    hidden = np.zeros((50, 100))
    hidden[:, :50] = 0.01
    boxes = place_labels([(40, 20)], [[(0, 10), (55, 10)]], (100, 50), hidden=hidden)
    assert boxes.tolist() == [[55, 10, 95, 30]]


def test_labels_keep_off_boxes_and_within_reach() -> None:
    taken = [[0, 0, 100, 40]]
    boxes = place_labels([(40, 10)], [[(0, 0)]], (100, 80), targets=[(0, 0)], taken=taken, reach=60)
    check_boxes(np.concatenate([boxes, taken]), (100, 80))
    boxes = place_labels([(40, 10)], [[(0, 0)]], (100, 80), targets=[(0, 0)], taken=taken, reach=30)
    assert (boxes == -1).all()


def test_no_labels() -> None:
    assert place_labels([], [], (10, 10), targets=[]).shape == (0, 4)


def test_the_pole_is_inside_and_anchors_are_close() -> None:
    ring = disk((200, 300), 150, 100, 80) & ~disk((200, 300), 150, 100, 50)
    mask = DrawnMask.scaled(ring | disk((200, 300), 5, 5, 3), 300, 200)
    assert all(ring[y, x] for x, y in mask.poles)
    assert len(mask.poles) == 4
    for x, y in mask.anchors((40, 16)):
        assert mask.touches((x, y, x + 40, y + 16))
    assert not mask.touches((130, 92, 170, 108))  # in the hole
    assert not mask.touches((0, 0, 10, 10))  # a speck, not the body


@pytest.mark.parametrize("shape", [(3000, 4000), (5, 4000), (20, 10)])
def test_masks_of_a_pixel_or_none_stay_visible(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, bool)
    for _ in range(2):
        drawn = DrawnMask.scaled(mask, 100, 80)
        assert drawn.pixels.sum() >= 1
        assert drawn.anchors((10, 10)).shape[1] == 2
        mask[-1, -1] = True


# the picture


def test_an_overlay_tints_masks_and_leaves_the_rest() -> None:
    image = np.full((600, 1100, 3), 100, np.uint8)
    masks = mask_set([disk((600, 1100), 300, 300, 100), disk((600, 1100), 300, 300, 30)])
    picture = draw_overlay(image, masks, ["cat", "dog"], [0.5, 0.25])
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    assert (image == 100).all()
    assert (picture[:, 800:] == 100).all()
    colors = class_colors(["cat", "dog"])
    for x, name in ((235, "cat"), (325, "dog")):  # the small one's color is not mixed with the large one's
        np.testing.assert_allclose(picture[300, x], 73 + 0.27 * np.array(colors[name]), atol=1)


@pytest.mark.parametrize(
    ("shape", "expected"), [((200, 300), (683, 1024)), ((3000, 1500), (1280, 640)), ((2, 900), (2, 1024))]
)
def test_small_photos_grow_and_large_ones_shrink(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    picture = draw_overlay(image, mask_set([np.ones(shape, bool)]), ["word"], [1.0])
    assert picture.shape[1] == expected[1]
    assert picture.shape[0] >= expected[0]
    assert (picture.shape[0] > expected[0]) == (shape[0] == 2)  # no room for the word: it stands below


def test_no_masks_no_change() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 1100, 3), np.uint8)
    np.testing.assert_array_equal(
        draw_overlay(image, mask_set([np.ones((40, 1100), bool)])[np.zeros(0, int)], [], []), image
    )


def test_a_crowd_gets_numbers_and_a_strip() -> None:
    shape = (300, 1100)
    image = np.full((*shape, 3), 90, np.uint8)
    few = draw_overlay(image, mask_set(crowd(shape, 20)), ["word"] * 20, [0.5] * 20)
    assert few.shape == image.shape
    names = [f"a rather long name of a class {i}" for i in range(150)]
    many = draw_overlay(image, mask_set(crowd(shape, 150)), names, [0.5] * 150)
    assert many.shape[0] > 320
    assert many.shape[1] == 1100


def test_words_are_bounded_in_size() -> None:
    sizes = [font_size(side, labels) for side in (1024, 1280) for labels in (1, 10, 30, 60, 1000)]
    assert all(16 <= size <= 32 for size in sizes)
    assert font_size(1280, 5) > font_size(1280, 60) == font_size(1280, 600)


def test_contact_sheet() -> None:
    pictures = [
        np.full(shape, 50 * i, np.uint8) for i, shape in enumerate([(900, 900, 3), (50, 1200, 3), (99, 9, 3)])
    ]
    sheet = contact_sheet(pictures, columns=2, width=420)
    assert sheet.size == (2 * 428 + 8, 420 + 99 + 3 * 8)
    captioned = contact_sheet(pictures, columns=2, captions=["one", "two " * 100, ""])
    assert captioned.width == sheet.width
    assert captioned.height > sheet.height
    assert contact_sheet([]).size == (1, 1)
    assert contact_sheet(pictures[:1]).width == 436
