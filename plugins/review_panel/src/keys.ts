// Which key does what. Keys can be changed; the browser remembers them.
import type { ModeName } from "./modes";

type Described = readonly [key: string, does: string, modes: readonly ModeName[]];

const EVERYWHERE = ["mask"] as const;
const MASK = ["mask"] as const;

/** Every action with its usual key, what it does, and the modes that it belongs to. */
export const ACTIONS = {
  accept: ["a", "accept the label", MASK],
  reject: ["r", "reject the mask: no class fits it", MASK],
  type: ["/", "type the name of a class, or a new one", MASK],
  skip: ["s", "skip the mask", MASK],
  undo: ["u", "undo the last decision", EVERYWHERE],
  redo: ["Shift+u", "redo what was undone", EVERYWHERE],
  back: ["ArrowLeft", "look at the mask before", MASK],
  forward: ["ArrowRight", "look at the next mask", MASK],
  edit: ["e", "open the photo in FiftyOne's viewer", MASK],
  fill: ["o", "fill the mask, or only outline it", MASK],
  outline: ["h", "hide the outline, or show it", MASK],
  closer: ["+", "zoom in", MASK],
  farther: ["-", "zoom out", MASK],
  help: ["?", "show or hide the keys", EVERYWHERE],
} as const satisfies Record<string, Described>;

export type Action = keyof typeof ACTIONS;
export type Keys = Record<Action, string>;

const STORAGE = "gem-label-keys";

export function loadKeys(): Keys {
  const usual = Object.fromEntries(Object.entries(ACTIONS).map(([action, [key]]) => [action, key])) as Keys;
  return { ...usual, ...JSON.parse(localStorage.getItem(STORAGE) ?? "{}") };
}

export function storeKeys(keys: Keys): void {
  localStorage.setItem(STORAGE, JSON.stringify(keys));
}

export function forgetKeys(): Keys {
  localStorage.removeItem(STORAGE);
  return loadKeys();
}

function isIn(action: Action, mode: ModeName): boolean {
  const modes: readonly ModeName[] = ACTIONS[action][2];
  return modes.includes(mode);
}

/** The actions of a mode. */
export function actionsOf(mode: ModeName): Action[] {
  return (Object.keys(ACTIONS) as Action[]).filter((action) => isIn(action, mode));
}

/** The action of a mode that a key event asks for; null: none. */
export function actionOf(keys: Keys, mode: ModeName, event: KeyboardEvent): Action | null {
  const name = keyName(event);
  return actionsOf(mode).find((action) => keys[action] === name) ?? null;
}

/** The name of the key that an event is about: "a", "Shift+u", "+", "ArrowLeft". */
export function keyName(event: KeyboardEvent): string {
  const isLetter = event.key.length === 1 && event.key.toLowerCase() !== event.key.toUpperCase();
  if (isLetter) return (event.shiftKey ? "Shift+" : "") + event.key.toLowerCase();
  return event.key === "=" ? "+" : event.key; // "+" without shift on many keyboards
}

/** Why a key cannot be given to an action; null: it can. */
export function refuseKey(keys: Keys, action: Action, key: string): string | null {
  if (/^[0-9]$/.test(key)) return "the digits are the classes";
  if (["Escape", "Tab", "Enter", "Shift", "Control", "Alt", "Meta"].includes(key)) return `${key} is the browser's`;
  const other = (Object.keys(keys) as Action[]).find(
    (each) => each !== action && keys[each] === key && ACTIONS[each][2].some((mode) => isIn(action, mode)),
  );
  return other ? `${shown(key)} is taken: ${ACTIONS[other][1]}` : null;
}

/** A key as people read it. */
export function shown(key: string): string {
  const names: Record<string, string> = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space" };
  return names[key] ?? key.replace(/(^|\+)([a-z])$/, (_, before: string, letter: string) => before + letter.toUpperCase());
}
