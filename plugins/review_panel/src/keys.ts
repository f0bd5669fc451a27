// Which key does what. Keys can be changed; the browser remembers them.
import type { ModeName } from "./modes";

type Described = readonly [key: string, does: string, modes: readonly ModeName[]];

const EVERYWHERE = ["mask", "page", "photo", "summary"] as const;
const MASK = ["mask"] as const;
const PHOTO = ["photo"] as const;
const ONE = ["mask", "photo"] as const;
const PAGE = ["page"] as const;

/** Every action with its usual key, what it does, and the modes that it belongs to. */
export const ACTIONS = {
  accept: ["a", "accept the label", ONE],
  reject: ["r", "reject the mask: no class fits it", ONE],
  type: ["/", "type the name of a class, or a new one", EVERYWHERE],
  skip: ["s", "skip the mask", MASK],
  undo: ["u", "undo the last decision", EVERYWHERE],
  redo: ["Shift+u", "redo what was undone", EVERYWHERE],
  back: ["ArrowLeft", "look at the mask before", ONE],
  forward: ["ArrowRight", "look at the next mask", ONE],
  acceptPhoto: ["Shift+a", "accept all undecided masks of the photo, and show the next one", PHOTO],
  nextPair: ["d", "go to the next duplicate or part", PHOTO],
  swapPair: ["x", "go to the other mask of the pair", PHOTO],
  keepOfPair: ["k", "keep this mask of the pair and reject the other one", PHOTO],
  nextFound: ["w", "of what was found, show a part or more", PHOTO],
  previousPhoto: ["p", "look at the photo before", PHOTO],
  nextPhoto: ["n", "look at the next photo", PHOTO],
  acceptPage: ["a", "accept all masks of the page that are not marked", PAGE],
  mark: ["x", "mark the mask as wrong, or take the mark away", PAGE],
  markAll: ["Shift+x", "mark all masks of the page, or none", PAGE],
  rejectMarked: ["r", "reject the marked masks", PAGE],
  leave: ["s", "leave the marked masks for later", PAGE],
  left: ["ArrowLeft", "walk left (with Shift: and mark)", PAGE],
  right: ["ArrowRight", "walk right (with Shift: and mark)", PAGE],
  up: ["ArrowUp", "walk up (with Shift: and mark)", PAGE],
  down: ["ArrowDown", "walk down (with Shift: and mark)", PAGE],
  previousPage: ["PageUp", "look at the page before", PAGE],
  nextPage: ["PageDown", "look at the next page", PAGE],
  edit: ["e", "open the photo in FiftyOne's viewer", EVERYWHERE],
  fill: ["o", "fill the mask, or only outline it", MASK],
  outline: ["h", "hide the outline, or show it", ONE],
  closer: ["+", "zoom in", EVERYWHERE],
  farther: ["-", "zoom out", EVERYWHERE],
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
