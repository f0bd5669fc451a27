// Where labels are written on a photo, so that they do not pile up.

export type Box = { x: number; y: number; width: number; height: number };

/** A mask that is named: its box, and where its highest pixels are, across. */
export type Named = Box & { peak: number };

const GAP = 2; // pixels between two labels

function overlaps(one: Box, other: Box): boolean {
  return (
    one.x < other.x + other.width + GAP &&
    other.x < one.x + one.width + GAP &&
    one.y < other.y + other.height + GAP &&
    other.y < one.y + one.height + GAP
  );
}

/** The places for a label at its mask, the preferred one first: above its top, above it, in it, below it, beside it. */
function candidates(mask: Named, width: number, height: number): [number, number][] {
  const middle = mask.x + (mask.width - width) / 2;
  const right = mask.x + mask.width - width;
  const low = mask.y + mask.height;
  return [
    [mask.peak - width / 2, mask.y - height],
    [mask.x, mask.y - height],
    [middle, mask.y - height],
    [right, mask.y - height],
    [mask.x, mask.y],
    [middle, mask.y + (mask.height - height) / 2],
    [mask.x, low - height],
    [right, low - height],
    [mask.x, low],
    [middle, low],
    [right, low],
    [mask.x - width, mask.y],
    [mask.x + mask.width, mask.y],
  ];
}

/**
 * A box for each label, greedily in the given order, inside the bounds, clear of those before it and of taken boxes.
 *
 * A label for which there is no place at its mask has none: null.
 */
export function placeLabels(
  masks: Named[],
  sizes: [number, number][],
  bounds: Box,
  taken: readonly Box[] = [],
): (Box | null)[] {
  const used = [...taken];
  return masks.map((mask, i) => {
    const [width, height] = sizes[i]!;
    for (const [left, top] of candidates(mask, width, height)) {
      const box = {
        x: Math.min(Math.max(left, bounds.x), bounds.x + bounds.width - width),
        y: Math.min(Math.max(top, bounds.y), bounds.y + bounds.height - height),
        width,
        height,
      };
      if (used.some((other) => overlaps(box, other))) continue;
      used.push(box);
      return box;
    }
    return null;
  });
}
