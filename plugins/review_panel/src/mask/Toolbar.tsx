import * as React from "react";
import type { Look } from "./Canvases";
import { MARGINS } from "../drawing";
import { ACTIONS, shown, type Action, type Keys } from "../keys";
import type { Session } from "../session";

const BUTTONS: [Action, string][] = [
  ["accept", "Accept"],
  ["reject", "Reject"],
  ["type", "Other class"],
  ["skip", "Skip"],
  ["undo", "Undo"],
  ["redo", "Redo"],
  ["back", "Back"],
  ["forward", "Next"],
  ["edit", "Edit"],
  ["fill", "Fill"],
  ["help", "Keys"],
];

type Properties = {
  session: Session;
  keys: Keys;
  act: (action: Action) => boolean;
  look: Look;
  onLook: (look: Look) => void;
};

/** What can be done with the mask, each with its key. */
export function Toolbar({ session, keys, act, look, onLook }: Properties) {
  const disabled: Partial<Record<Action, boolean>> = { undo: !session.canUndo, redo: !session.canRedo };
  for (const action of ["accept", "reject", "type", "skip", "edit"] as const) disabled[action] = !session.picture;
  return (
    <div className="glr-tools" role="group" aria-label="Decide">
      {BUTTONS.map(([action, name]) => (
        <button key={action} type="button" disabled={disabled[action]} title={ACTIONS[action][1]} onClick={() => act(action)}>
          <kbd>{shown(keys[action])}</kbd>
          {name}
        </button>
      ))}
      <span className="glr-sliders">
        <label title="How opaque the fill is">
          Fill
          <input
            type="range"
            min={0}
            max={1}
            step={0.05}
            value={look.opacity}
            onChange={(event) => onLook({ ...look, opacity: Number(event.target.value) })}
          />
        </label>
        <label title="How much of the surroundings is shown">
          Zoom
          <input
            type="range"
            min={0}
            max={MARGINS.length - 1}
            value={look.zoom}
            onChange={(event) => onLook({ ...look, zoom: Number(event.target.value) })}
          />
        </label>
      </span>
    </div>
  );
}
