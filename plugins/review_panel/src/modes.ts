// The modes of the panel: ways to look at the same masks.
import type * as React from "react";
import type { Action, Keys } from "./keys";
import type { Session } from "./session";

export type ModeName = "mask";

/** What a mode does with a key; false: the key means nothing to it. */
export type KeyHandler = (action: Action | null, event: KeyboardEvent) => boolean;

/** What the panel gives the component of a mode. */
export type ModeProperties = {
  session: Session;
  keys: Keys;
  /** The mode keeps its handler here: the panel calls it with every key that is pressed in it. */
  handler: React.MutableRefObject<KeyHandler>;
  /** Gives the focus to the panel, so that keys work. */
  focus: () => void;
  /** Shows the list of keys. */
  showHelp: () => void;
};

export type Mode = { title: string; component: (properties: ModeProperties) => React.JSX.Element };
