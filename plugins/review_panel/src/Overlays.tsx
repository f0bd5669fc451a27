import * as React from "react";
import { ACTIONS, actionsOf, forgetKeys, keyName, refuseKey, shown, storeKeys, type Action, type Keys } from "./keys";
import type { ModeName } from "./modes";
import { PhotoHelp } from "./photo/PhotoHelp";

type HelpProperties = {
  keys: Keys;
  mode: ModeName;
  onKeys: (keys: Keys) => void;
  author: string;
  onAuthor: (name: string) => void;
  onClose: () => void;
};

/** The keys of a mode, each of which can be changed, and the name of the reviewer. */
export function Help({ keys, mode, onKeys, author, onAuthor, onClose }: HelpProperties) {
  const [changing, setChanging] = React.useState<Action | null>(null);
  const [refusal, setRefusal] = React.useState<string | null>(null);
  const sheet = React.useRef<HTMLDivElement>(null);
  React.useEffect(() => sheet.current?.focus(), []);
  React.useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (["Tab", "Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
      if (!changing && ["Enter", " "].includes(event.key)) return; // they press buttons
      event.stopPropagation();
      if ((event.target as HTMLElement).matches("input") && event.key !== "Escape") return;
      event.preventDefault();
      if (!changing) {
        if (event.key === "Escape" || keyName(event) === keys.help) onClose();
        return;
      }
      const key = keyName(event);
      const reason = key === "Escape" ? null : refuseKey(keys, changing, key);
      setRefusal(reason);
      if (reason) return;
      if (key !== "Escape") {
        const changed = { ...keys, [changing]: key };
        storeKeys(changed);
        onKeys(changed);
      }
      setChanging(null);
    };
    const element = sheet.current!;
    element.addEventListener("keydown", listen);
    return () => element.removeEventListener("keydown", listen);
  }, [changing, keys, onKeys, onClose]);
  return (
    <div className="glr-over" onClick={onClose}>
      <div
        className="glr-sheet"
        role="dialog"
        aria-label="Keys"
        tabIndex={-1}
        ref={sheet}
        onClick={(event) => event.stopPropagation()}
      >
        <h2>Keys</h2>
        <table>
          <tbody>
            <tr>
              <td>
                <kbd>1</kbd> to <kbd>9</kbd>
              </td>
              <td colSpan={2}>give {mode === "page" ? "the marked masks" : "the mask"} that class of the list</td>
            </tr>
            {mode === "photo" && <PhotoHelp />}
            {actionsOf(mode).map((action) => (
              <tr key={action}>
                <td>
                  <kbd>{changing === action ? "press a key" : shown(keys[action])}</kbd>
                </td>
                <td>{ACTIONS[action][1]}</td>
                <td>
                  <button type="button" aria-label={`Change the key: ${ACTIONS[action][1]}`} onClick={() => setChanging(action)}>
                    change
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
        <p>
          <label>
            Reviewer, stored with every decision
            <input type="text" value={author} onChange={(event) => onAuthor(event.target.value)} />
          </label>
        </p>
        {refusal && <p role="alert">⚠ {refusal}</p>}
        <p>Keys work while the panel has the focus, which its frame shows: click into it.</p>
        <button type="button" onClick={() => onKeys(forgetKeys())}>
          The usual keys
        </button>{" "}
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
    </div>
  );
}

type TypingProperties = { classes: string[]; onChoose: (name: string) => void; onClose: () => void };

/** The name of a class, typed; the first class that fits is offered, and a name that is none makes a new class. */
export function Typing({ classes, onChoose, onClose }: TypingProperties) {
  const [text, setText] = React.useState("");
  const [place, setPlace] = React.useState(0);
  const input = React.useRef<HTMLInputElement>(null);
  const typed = text.trim();
  const found = matching(classes, typed);
  const isNew = typed !== "" && !classes.includes(typed);
  const choices = [...found, ...(isNew ? [typed] : [])];
  React.useEffect(() => input.current?.focus(), []);
  React.useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      event.stopPropagation();
      if (event.key === "Escape") onClose();
      else if (event.key === "Enter" && choices[place]) onChoose(choices[place]!);
      else if (event.key === "ArrowDown") setPlace(Math.min(place + 1, choices.length - 1));
      else if (event.key === "ArrowUp") setPlace(Math.max(place - 1, 0));
      else return;
      event.preventDefault();
    };
    const element = input.current!;
    element.addEventListener("keydown", listen);
    return () => element.removeEventListener("keydown", listen);
  });
  return (
    <div className="glr-over" onClick={onClose}>
      <div className="glr-sheet" role="dialog" aria-label="Another class" onClick={(event) => event.stopPropagation()}>
        <h2>Another class</h2>
        <input
          type="text"
          ref={input}
          value={text}
          role="combobox"
          aria-label="Name of the class"
          aria-expanded="true"
          aria-controls="glr-choices"
          aria-activedescendant={choices.length ? `glr-choice-${place}` : undefined}
          onChange={(event) => {
            setText(event.target.value);
            setPlace(0);
          }}
        />
        <ul id="glr-choices" role="listbox">
          {choices.map((name, i) => (
            <li
              key={name}
              id={`glr-choice-${i}`}
              role="option"
              aria-selected={i === place}
              onClick={() => onChoose(name)}
            >
              {name}
              {isNew && i === choices.length - 1 ? " (a new class)" : ""}
            </li>
          ))}
        </ul>
        <p>
          <kbd>Enter</kbd> takes the marked class, <kbd>↑</kbd> <kbd>↓</kbd> mark another, <kbd>Esc</kbd> closes.
        </p>
      </div>
    </div>
  );
}

/** Classes with the text in their names: those that begin with it first. */
function matching(classes: string[], text: string): string[] {
  const low = text.toLowerCase();
  const rank = (name: string) => {
    const at = name.toLowerCase().indexOf(low);
    if (at <= 0) return at;
    return /[\s-]/.test(name[at - 1]!) ? 1 : 2;
  };
  return classes
    .map((name) => [rank(name), name] as const)
    .filter(([at]) => at >= 0)
    .sort((one, other) => one[0] - other[0])
    .map(([, name]) => name)
    .slice(0, 50);
}
