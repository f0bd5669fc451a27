// The modes of the panel: ways to look at the same masks.
import type * as React from "react";
import type { Action, Keys } from "./keys";
import type { Details, Reference } from "./server";
import type { Session } from "./session";
import type { Step } from "./steps";

export type ModeName = "mask" | "page" | "photo" | "summary";

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

/** What the session asks of a mode that shows more than one mask at a time. */
export type View = {
  /** Why masks cannot be shown; null: they can. */
  failure: string | null;
  begin: () => Promise<void>;
  /** Makes ready what is shown and what comes next. */
  look: () => void;
  /** What is known of a mask. */
  find: (label: string) => Details | undefined;
  show: (mask: Reference) => void;
  /** Shows what a step was about that is undone, or what comes after one that is redone. */
  showStep: (step: Step) => void;
  showAfter: (step: Step) => void;
  readAgain: () => void;
};

export type Mode = { title: string; component: (properties: ModeProperties) => React.JSX.Element };
