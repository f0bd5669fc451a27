import * as React from "react";
import { MARGINS } from "./drawing";
import { ACTIONS, shown, type Action, type Keys } from "./keys";

type Properties = {
  buttons: readonly (readonly [Action, string])[];
  keys: Keys;
  disabled: Partial<Record<Action, boolean>>;
  act: (action: Action) => boolean;
  /** What stands at the end of the row. */
  children?: React.ReactNode;
};

/** One button an action, each with its key. */
export function Buttons({ buttons, keys, disabled, act, children }: Properties) {
  return (
    <div className="glr-tools" role="group" aria-label="Decide">
      {buttons.map(([action, name]) => (
        <button key={action} type="button" disabled={disabled[action]} title={ACTIONS[action][1]} onClick={() => act(action)}>
          <kbd>{shown(keys[action])}</kbd>
          {name}
        </button>
      ))}
      {children && <span className="glr-sliders">{children}</span>}
    </div>
  );
}

/** How much of the surroundings of a mask is shown. */
export function ZoomSlider({ zoom, onZoom }: { zoom: number; onZoom: (zoom: number) => void }) {
  return (
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
  );
}
