// Where the masks of a page are: square cells, as large as fit.

export type Layout = { columns: number; side: number };

export const GAP = 4;

/** The columns that give the largest cells for so many in a place of this size in pixels. */
export function bestLayout(width: number, height: number, count: number): Layout {
  let best: Layout = { columns: 1, side: 1 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const across = (width - GAP * (columns - 1)) / columns;
    const down = (height - GAP * (rows - 1)) / rows;
    const side = Math.floor(Math.min(across, down));
    if (side > best.side) best = { columns, side };
  }
  return best;
}

/** The number of the cell at a place in pixels; null beyond the columns. */
export function cellAt({ columns, side }: Layout, x: number, y: number): number | null {
  const column = Math.floor(x / (side + GAP));
  const row = Math.floor(y / (side + GAP));
  return column >= 0 && column < columns && row >= 0 ? row * columns + column : null;
}

/** The numbers of the cells on a straight line between two places. */
export function cellsBetween(layout: Layout, from: [number, number], to: [number, number]): number[] {
  const distance = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const steps = Math.max(1, Math.ceil((2 * distance) / layout.side));
  const found = new Set<number>();
  for (let i = 0; i <= steps; i++) {
    const share = i / steps;
    const cell = cellAt(layout, from[0] + share * (to[0] - from[0]), from[1] + share * (to[1] - from[1]));
    if (cell !== null) found.add(cell);
  }
  return [...found];
}
