import * as React from "react";
import type { Session } from "../session";
import { Cell } from "./Cell";
import { bestLayout, cellAt, cellsBetween, GAP, type Layout } from "./layout";

const LEAST_CELLS = 12;

type Brush = { isWrong: boolean; at: [number, number] };

type Properties = { session: Session; layout: Layout; onLayout: (layout: Layout) => void };

/** The masks of a page. A click marks one, and a brush over several marks them. */
export function Grid({ session, layout, onLayout }: Properties) {
  const { pages } = session;
  const masks = pages.page?.masks ?? [];
  // a page with few masks, such as the last of a class, has larger cells
  const cells = Math.min(pages.size, Math.max(LEAST_CELLS, masks.length));
  const grid = React.useRef<HTMLDivElement>(null);
  const brush = React.useRef<Brush | null>(null);
  React.useLayoutEffect(() => {
    const measure = () => {
      const { clientWidth, clientHeight } = grid.current!;
      if (clientWidth && clientHeight) onLayout(bestLayout(clientWidth, clientHeight, cells));
    };
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(grid.current!);
    return () => observer.disconnect();
  }, [cells, onLayout]);

  const placeOf = (event: React.PointerEvent): [number, number] => {
    const { left, top } = grid.current!.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const begin = (event: React.PointerEvent) => {
    const at = placeOf(event);
    const place = cellAt(layout, ...at);
    if (event.button !== 0 || place === null || !pages.page?.masks[place]) return;
    event.preventDefault(); // no text is selected
    grid.current!.setPointerCapture(event.pointerId);
    const from = event.shiftKey && pages.cursor !== null ? pages.cursor : place;
    brush.current = { isWrong: from !== place || !pages.isMarked(place), at };
    const [first, last] = [Math.min(from, place), Math.max(from, place)];
    pages.walk(place);
    pages.mark(Array.from({ length: last - first + 1 }, (_, i) => first + i), brush.current.isWrong);
  };
  const move = (event: React.PointerEvent) => {
    if (!brush.current) return;
    const at = placeOf(event);
    pages.mark(cellsBetween(layout, brush.current.at, at), brush.current.isWrong);
    brush.current.at = at;
  };
  const end = () => (brush.current = null);

  return (
    <div
      ref={grid}
      className="glr-grid"
      role="group"
      aria-label={pages.page ? `${masks.length} masks of ${pages.page.label}` : "No masks"}
      data-page={pages.isReady ? masks[0]?.[1] : undefined}
      data-ahead={pages.isAhead || undefined}
      style={{ gridTemplateColumns: `repeat(${layout.columns}, ${layout.side}px)`, gap: GAP, gridAutoRows: layout.side }}
      onPointerDown={begin}
      onPointerMove={move}
      onPointerUp={end}
      onPointerCancel={end}
    >
      {masks.map(([, label], place) => (
        <Cell
          key={label}
          place={place}
          crop={pages.pictures.get(label)}
          state={pages.details.get(label)?.state}
          mark={pages.marks.get(label)}
          isCursor={pages.cursor === place}
          onToggle={() => pages.mark([place], !pages.isMarked(place))}
        />
      ))}
    </div>
  );
}
