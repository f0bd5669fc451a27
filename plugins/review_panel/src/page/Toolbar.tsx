import * as React from "react";
import { Buttons, ZoomSlider } from "../Buttons";
import type { Action, Keys } from "../keys";
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
    <Buttons buttons={BUTTONS} keys={keys} disabled={disabled} act={act}>
      <label title="Masks of a page at most">
        Masks
        <select value={pages.size} onChange={(event) => setSize(Number(event.target.value))}>
          {SIZES.map((size) => (
            <option key={size}>{size}</option>
          ))}
        </select>
      </label>
      <ZoomSlider zoom={zoom} onZoom={onZoom} />
    </Buttons>
  );
}
