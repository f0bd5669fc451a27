import * as React from "react";
import { MARGINS } from "../drawing";
import { ACTIONS, shown, type Action, type Keys } from "../keys";
import type { Session } from "../session";
import { SIZES } from "./pages";

const BUTTONS: [Action, string][] = [
  ["acceptPage", "Accept page"],
  ["mark", "Wrong"],
  ["markAll", "All wrong"],
  ["rejectMarked", "Reject"],
  ["type", "Other class"],
  ["leave", "Later"],
  ["undo", "Undo"],
  ["redo", "Redo"],
  ["previousPage", "Back"],
  ["nextPage", "Next"],
  ["edit", "Edit"],
  ["help", "Keys"],
];

type Properties = {
  session: Session;
  keys: Keys;
  act: (action: Action) => boolean;
  zoom: number;
  onZoom: (zoom: number) => void;
  focus: () => void;
};

/** What can be done with a page, each with its key. */
export function Toolbar({ session, keys, act, zoom, onZoom, focus }: Properties) {
  const { pages } = session;
  const setSize = (size: number) => {
    pages.setSize(size);
    focus();
  };
  const none = !pages.meant.length;
  const disabled: Partial<Record<Action, boolean>> = {
    acceptPage: !pages.isReady,
    mark: pages.cursor === null,
    markAll: !pages.isReady,
    rejectMarked: none,
    type: none,
    leave: none,
    undo: !session.canUndo,
    redo: !session.canRedo,
    previousPage: pages.position === 0,
    nextPage: !pages.page,
    edit: pages.cursor === null,
  };
  return (
    <div className="glr-tools" role="group" aria-label="Decide">
      {BUTTONS.map(([action, name]) => (
        <button key={action} type="button" disabled={disabled[action]} title={ACTIONS[action][1]} onClick={() => act(action)}>
          <kbd>{shown(keys[action])}</kbd>
          {name}
        </button>
      ))}
      <span className="glr-sliders">
        <label title="Masks of a page at most">
          Masks
          <select value={pages.size} onChange={(event) => setSize(Number(event.target.value))}>
            {SIZES.map((size) => (
              <option key={size}>{size}</option>
            ))}
          </select>
        </label>
        <label title="How much of the surroundings is shown">
          Zoom
          <input
            type="range"
            min={0}
            max={MARGINS.length - 1}
            value={zoom}
            onChange={(event) => onZoom(Number(event.target.value))}
          />
        </label>
      </span>
    </div>
  );
}
