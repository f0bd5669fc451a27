// Which key does what. Keys can be changed; the browser remembers them.

export const ACTIONS = {
  accept: ["a", "accept the label"],
  reject: ["r", "reject the mask: no class fits it"],
  type: ["/", "type the name of a class, or a new one"],
  skip: ["s", "skip the mask"],
  undo: ["u", "undo the last decision"],
  redo: ["Shift+u", "redo what was undone"],
  back: ["ArrowLeft", "look at the mask before"],
  forward: ["ArrowRight", "look at the next mask"],
  edit: ["e", "open the photo in FiftyOne's viewer"],
  fill: ["o", "fill the mask, or only outline it"],
  outline: ["h", "hide the outline, or show it"],
  closer: ["+", "zoom in"],
  farther: ["-", "zoom out"],
  help: ["?", "show or hide the keys"],
} as const satisfies Record<string, readonly [string, string]>;

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
  const other = (Object.keys(keys) as Action[]).find((each) => each !== action && keys[each] === key);
  return other ? `${shown(key)} is taken: ${ACTIONS[other][1]}` : null;
}

/** A key as people read it. */
export function shown(key: string): string {
  const names: Record<string, string> = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", " ": "Space" };
  return names[key] ?? key.replace(/(^|\+)([a-z])$/, (_, before: string, letter: string) => before + letter.toUpperCase());
}
