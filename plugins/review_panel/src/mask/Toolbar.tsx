import * as React from "react";
import { Buttons, ZoomSlider } from "../Buttons";
import type { Look } from "./Canvases";
import type { Action, Keys } from "../keys";
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
    <Buttons buttons={BUTTONS} keys={keys} disabled={disabled} act={act}>
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
      <ZoomSlider zoom={look.zoom} onZoom={(zoom) => onLook({ ...look, zoom })} />
    </Buttons>
  );
}
