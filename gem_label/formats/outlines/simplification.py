"""Borders with fewer corners, within a tolerance and without crossings (pure numpy).

cv2.approxPolyDP is not used: it exceeds its tolerance in a last pass, cannot hold points in place, and knows nothing
of other borders.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gem_label.formats.outlines.borders import Borders, signed_areas

ROUNDS = 64
"""After so many rounds of adding corners, the stretches that are not within the tolerance stay exact."""

REPAIRS = 8
"""After so many rounds of adding a corner to lines that cross, such lines become exact."""


STEP = 0.125**0.5
"""Distance in pixels of a corner from the line between the middles of two unit edges that meet there."""


def simplify_borders(borders: Borders, tolerance: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Leave out corners as Douglas and Peucker do, for all borders of a mask at once.

    Where the border runs in stairs of one pixel, lines follow the middles of the steps; that alone reduces the error,
    since lines between the corners of stairs run now on one side of the border, now on the other. Points that borders
    pass twice (the ends of cuts, pixels that touch at a corner) stay, so that both sides of a cut still coincide.
    Lines do not cross unless at such points. A border, or a hole behind a cut, that would lose its area keeps all of
    its corners.

    Args:
        borders: exact borders, with a corner at both ends of each cut.
        tolerance: greatest distance in pixels between the exact borders and the simplified ones.

    Returns:
        The points as (N, 2) float64, whole and half pixels, and where each border starts, as in `Borders`.
    """
    if tolerance <= 0 or not len(borders):
        return borders.points.astype(np.float64), borders.starts
    twice = _find_repeats(borders)
    if tolerance >= STEP:
        borders, twice = _cut_steps(borders, twice)
        left = 2 * (tolerance - STEP)
    else:
        borders = Borders(borders.points * 2, borders.starts)
        left = 2 * tolerance
    borders, fixed = _begin_at_fixed(borders, twice)
    lines = _Lines(borders, fixed)
    lines.refine(np.flatnonzero(~lines.kept), left)
    lines.restore_flat(fixed)
    repairs = 0
    while True:
        crossing = lines.find_crossing()
        inner = np.flatnonzero(~lines.kept & lines.belongs_to(crossing))
        if not len(inner):
            break
        if repairs < REPAIRS:
            lines.add_farthest(inner, -1.0)
        else:
            lines.kept[inner] = True
        repairs += 1
    before = np.r_[0, np.cumsum(lines.kept)]
    return borders.points[lines.kept] / 2, before[borders.starts]


def _find_repeats(borders: Borders) -> NDArray[np.bool_]:
    """(N,) which points are passed more than once."""
    keys = borders.points[:, 1] * (borders.points[:, 0].max() + 1) + borders.points[:, 0]
    order = np.argsort(keys, kind="stable")
    equal = keys[order][1:] == keys[order][:-1]
    repeats = np.zeros(len(keys), bool)
    repeats[order[1:][equal]] = repeats[order[:-1][equal]] = True
    return repeats


def _cut_steps(borders: Borders, fixed: NDArray[np.bool_]) -> tuple[Borders, NDArray[np.bool_]]:
    """Cut the corners of stairs of one pixel, half a pixel from the corner on both of its edges.

    A corner belongs to stairs if one of its edges is one pixel long and leads to a corner that turns the other way;
    so corners of rectangles stay.

    Returns:
        The borders in half pixels, and which of their points stay.
    """
    points, starts = borders.points, borders.starts
    after = np.arange(1, len(points) + 1)
    after[starts[1:] - 1] = starts[:-1]
    before = np.empty_like(after)
    before[after] = np.arange(len(points))
    way = points[after] - points
    length = np.abs(way).sum(axis=1)
    unit = np.sign(way)
    turn = unit[before][:, 0] * unit[:, 1] - unit[before][:, 1] * unit[:, 0]
    step = (length == 1) & (turn != turn[after])
    cut = (step | step[before]) & ~fixed
    pairs = np.stack((2 * points - cut[:, None] * unit[before], 2 * points + cut[:, None] * unit), axis=1)
    keep = np.ones((len(points), 2), bool)
    keep[:, 1] = cut & ~(cut[after] & (length == 1))  # two cuts meet in the middle of a unit edge
    sums = np.r_[0, np.cumsum(keep.sum(axis=1))]
    return Borders(pairs[keep], sums[starts]), np.stack((fixed, fixed), axis=1)[keep]


def _begin_at_fixed(borders: Borders, fixed: NDArray[np.bool_]) -> tuple[Borders, NDArray[np.bool_]]:
    """The borders, each turned so that it begins at a point that stays, and which points stay."""
    points, starts, fixed = borders.points, borders.starts, fixed.copy()
    # a point that stays where there is one, otherwise the corner farthest to the top left
    sums = points.sum(axis=1)
    rank = (np.where(fixed, 0, sums + 1)) * len(points) + np.arange(len(points))
    begin = np.minimum.reduceat(rank, starts[:-1]) % len(points)
    fixed[begin] = True
    sizes = np.diff(starts)
    place = np.arange(len(points)) - np.repeat(starts[:-1], sizes)
    turned = np.repeat(starts[:-1], sizes) + (place + np.repeat(begin - starts[:-1], sizes)) % np.repeat(
        sizes, sizes
    )
    return Borders(points[turned], starts), fixed[turned]


class _Lines:
    """Lines between the corners kept so far; each corner between stands for itself until it is kept."""

    def __init__(self, borders: Borders, kept: NDArray[np.bool_]) -> None:
        self.points, self.starts = borders.points, borders.starts
        self.kept = kept.copy()
        self._begins = np.zeros(len(kept) + 1, bool)
        self._begins[self.starts] = True

    def line_of_point(self) -> NDArray[np.int64]:
        """(N,) the line that each point is on."""
        return np.cumsum(self.kept) - 1

    def belongs_to(self, lines: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(N,) which points are on one of these lines."""
        chosen = np.zeros(len(self.kept), bool)
        chosen[lines] = True
        return chosen[self.line_of_point()]

    def ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The indices of the points where each of the M lines begins and ends."""
        first = np.flatnonzero(self.kept)
        last = np.append(first[1:], len(self.kept))
        closing = np.flatnonzero(self._begins[last])
        last[closing] = self.starts[:-1]  # each border has one closing line
        return first, last

    def add_farthest(self, inner: NDArray[np.int64], tolerance: float) -> NDArray[np.int64]:
        """Keep the farthest point of each line that is farther away than the tolerance.

        Args:
            inner: ascending indices of points that are not kept, all those of the lines that matter.
            tolerance: in pixels.

        Returns:
            The points of `inner` on such lines that are not kept yet.
        """
        first, last = self.ends()
        line = self.line_of_point()[inner]
        distance = _squared_distances(self.points[inner], self.points[first[line]], self.points[last[line]])
        groups, sizes = _group(line)
        greatest = np.maximum.reduceat(distance, groups)
        limit = tolerance**2 if tolerance >= 0 else -1.0
        over = greatest > limit + 1e-9
        group = np.repeat(np.arange(len(groups)), sizes)
        farthest = np.flatnonzero((distance >= greatest[group]) & over[group])
        # the middle one of equals, so that the teeth of a comb do not come off one by one
        begin, equals = _group(group[farthest])
        self.kept[inner[farthest[begin + equals // 2]]] = True
        rest = inner[over[group]]
        return rest[~self.kept[rest]]

    def refine(self, inner: NDArray[np.int64], tolerance: float) -> None:
        """Keep points until no other is farther from its line than the tolerance."""
        for _ in range(ROUNDS):
            if not len(inner):
                return
            inner = self.add_farthest(inner, tolerance)
        self.kept[inner] = True

    def restore_flat(self, fixed: NDArray[np.bool_]) -> None:
        """Keep all points of borders, and of stretches that return to where they began, that lost their area."""
        stretches = np.flatnonzero(fixed)
        ends = np.r_[stretches[1:], len(fixed)]
        ends[self._begins[ends]] = self.starts[:-1]
        closed = (self.points[stretches] == self.points[ends]).all(axis=1)
        lost = closed & self._lost(np.r_[stretches, len(fixed)])
        self.kept |= np.repeat(lost, np.diff(np.r_[stretches, len(fixed)]))
        self.kept |= np.repeat(self._lost(self.starts), np.diff(self.starts))

    def _lost(self, starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which stretches, each closed, have no area or one of the other sign than the exact one."""
        before = np.r_[0, np.cumsum(self.kept)]
        exact = signed_areas(Borders(self.points, starts))
        now = signed_areas(Borders(self.points[self.kept], before[starts]))
        return np.sign(now) != np.sign(exact)

    def find_crossing(self) -> NDArray[np.int64]:
        """Lines that cross or touch another one elsewhere than where both end; exact ones alone do not count."""
        first, last = self.ends()
        a, b = self.points[first], self.points[last]
        inexact = np.diff(np.r_[first, len(self.kept)]) > 1
        if not inexact.any():
            return np.zeros(0, np.int64)
        one, other = _near_pairs(a, b, inexact)
        p, q, r, s = a[one], b[one], a[other], b[other]
        to_r, to_s = _side(p, q, r), _side(p, q, s)
        to_p, to_q = _side(r, s, p), _side(r, s, q)
        cross = (to_r * to_s < 0) & (to_p * to_q < 0)
        for side, start, end, point in ((to_r, p, q, r), (to_s, p, q, s), (to_p, r, s, p), (to_q, r, s, q)):
            cross |= (side == 0) & (((point - start) * (point - end)).sum(axis=1) < 0)
        return _distinct(np.concatenate((one[cross], other[cross])))


def _squared_distances(
    points: NDArray[np.int64], start: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) squared distances of points from the lines between two points each, all (n, 2)."""
    along, to = (end - start).astype(np.float64), (points - start).astype(np.float64)
    length = (along**2).sum(axis=1)
    share = np.clip((along * to).sum(axis=1) / np.where(length > 0, length, 1.0), 0, 1)
    return ((to - share[:, None] * along) ** 2).sum(axis=1)


def _side(start: NDArray[np.int64], end: NDArray[np.int64], point: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) -1, 0 or 1: which side of the line from start to end each point is on."""
    along, to = end - start, point - start
    return np.sign(along[:, 0] * to[:, 1] - along[:, 1] * to[:, 0])


def _near_pairs(
    a: NDArray[np.int64], b: NDArray[np.int64], inexact: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of lines that pass the same cell of a grid, at least one of them inexact.

    Args:
        a: (M, 2) where the lines begin.
        b: (M, 2) where they end.
        inexact: (M,).

    Returns:
        Two arrays of indices, the first lower than the second; some pairs come more than once.
    """
    length = np.abs(b - a).max(axis=1)
    cell = float(np.clip(length.mean(), 2, 16))
    # lines in pieces no longer than a cell; the box of a piece is in four cells at most
    pieces = np.maximum(np.ceil(length / cell), 1).astype(np.int64)
    line = np.repeat(np.arange(len(a)), pieces)
    step = np.arange(len(line)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start, along = a[line].astype(np.float64), (b - a)[line] / pieces[line, None]
    ends = np.stack((start + along * step[:, None], start + along * (step[:, None] + 1)))
    low = np.floor((ends.min(axis=0) - 1e-6) / cell).astype(np.int64) + 1
    high = np.floor((ends.max(axis=0) + 1e-6) / cell).astype(np.int64) + 1
    wide = int(max(high[:, 0].max(), 0)) + 1
    keys = []
    for x in (low[:, 0], high[:, 0]):
        keys += [(y * wide + x) * len(a) + line for y in (low[:, 1], high[:, 1])]
    cells, members = np.divmod(_distinct(np.concatenate(keys)), len(a))
    groups, sizes = _group(cells)
    busy = np.repeat(np.maximum.reduceat(inexact[members], groups), sizes)
    cells, members = cells[busy], members[busy]
    groups, sizes = _group(cells)
    later = np.repeat(groups + sizes, sizes) - np.arange(len(cells)) - 1  # members of the cell that follow
    one = np.repeat(np.arange(len(cells)), later)
    other = np.arange(len(one)) - np.repeat(np.cumsum(later) - later, later) + one + 1
    one, other = members[one], members[other]
    useful = inexact[one] | inexact[other]
    return one[useful], other[useful]


def _group(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each group of equal neighbors begins, and how many there are."""
    begins = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    first = np.flatnonzero(begins)
    sizes = np.full(len(first), len(values))
    sizes[:-1] = first[1:]
    return first, sizes - first


def _distinct(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted values without repeats; np.unique takes twenty times as long for millions (numpy 2.3)."""
    values = np.sort(values)
    return values[_group(values)[0]]
