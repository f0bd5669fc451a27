import * as React from "react";
import type { State } from "../server";
import type { Crop } from "./crops";
import type { Mark } from "./marks";

type Properties = {
  place: number;
  crop: Crop | undefined;
  state: State | undefined;
  mark: Mark | undefined;
  isCursor: boolean;
  onToggle: () => void;
};

const STATES: Record<State, string> = { undecided: "", accepted: "✓", rejected: "✗ rejected", renamed: "✎" };

/** What a mark says: a symbol and words, so that its color is not needed. */
export function wordsOf(mark: Mark): string {
  if (mark.kind === "class") return `✎ ${mark.label}`;
  return { wrong: "✗ wrong", rejected: "✗ reject", later: "… later" }[mark.kind];
}

/** A mask of a page. */
export const Cell = React.memo(
  function Cell({ place, crop, state, mark, isCursor, onToggle }: Properties) {
    const frame = React.useRef<HTMLSpanElement>(null);
    React.useLayoutEffect(() => frame.current!.replaceChildren(...(crop ? [crop.canvas] : [])), [crop]);
    const badge = mark ? wordsOf(mark) : state ? STATES[state] : "";
    return (
      <button
        type="button"
        tabIndex={-1}
        className="glr-cell"
        data-mask={crop?.details.label_id}
        data-mark={mark?.kind}
        data-cursor={isCursor || undefined}
        aria-pressed={mark !== undefined}
        aria-label={`Mask ${place + 1}, ${crop?.details.label ?? "not read yet"}${badge && `, ${badge}`}`}
        title={crop?.problem ?? undefined}
        // a pointer marks by the grid's brush; this is for what presses buttons without one
        onClick={(event) => event.detail === 0 && onToggle()}
      >
        <span ref={frame} className="glr-crop" />
        {badge && <span className="glr-badge">{badge}</span>}
        {crop?.problem && <span className="glr-badge glr-problem">⚠</span>}
      </button>
    );
  },
  // the function that toggles is another one each time, and does the same
  (one, other) =>
    one.crop === other.crop && one.state === other.state && one.mark === other.mark && one.isCursor === other.isCursor,
);
