import * as React from "react";
import { shown, type Action, type Keys } from "./keys";
import type { Details, State } from "./server";
import type { Session } from "./session";

const STATES: Record<State, string> = {
  undecided: "○ not decided yet",
  accepted: "✓ accepted",
  rejected: "✗ rejected",
  renamed: "✎ another class, accepted",
};

const percent = (share: number) => `${Math.round(100 * share)} %`;

type Properties = {
  session: Session;
  details: Details | null;
  keys: Keys;
  act: (action: Action) => void;
  photo: React.RefObject<HTMLCanvasElement>;
};

/** The whole photo, the label with its score, other classes, and what can be done. */
export function Side({ session, details, keys, act, photo }: Properties) {
  return (
    <div className="glr-side">
      <div className="glr-photo">
        <canvas ref={photo} role="img" aria-label="The whole photo, with a box around the part that is shown large" />
      </div>
      {details && <Label details={details} />}
      {details && (
        <ol className="glr-classes" aria-label="Other classes">
          {details.classes.map(([name, score], place) => (
            <li key={name}>
              <button type="button" onClick={() => session.decide(name)} aria-label={`Key ${place + 1}: the class is ${name}`}>
                <kbd>{place + 1}</kbd>
                <span className="glr-word">{name}</span>
                <span className="glr-number">{score === null ? "" : percent(score)}</span>
              </button>
            </li>
          ))}
        </ol>
      )}
      <Actions session={session} keys={keys} act={act} />
    </div>
  );
}

function Label({ details }: { details: Details }) {
  return (
    <div>
      <div className="glr-name">{details.label ?? "(no label)"}</div>
      {details.score !== null && (
        <div className="glr-score" role="img" aria-label={`Score ${percent(details.score)}`}>
          <div className="glr-track">
            <div style={{ width: `${100 * details.score}%` }} />
          </div>
          <span className="glr-number">{percent(details.score)}</span>
        </div>
      )}
      <div className="glr-state">{STATES[details.state]}</div>
    </div>
  );
}

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
];

function Actions({ session, keys, act }: Pick<Properties, "session" | "keys" | "act">) {
  const disabled: Partial<Record<Action, boolean>> = { undo: !session.canUndo, redo: !session.canRedo };
  for (const action of ["accept", "reject", "type", "skip", "edit"] as const) disabled[action] = !session.picture;
  return (
    <div className="glr-actions" role="group" aria-label="Decide">
      {BUTTONS.map(([action, name]) => (
        <button key={action} type="button" disabled={disabled[action]} onClick={() => act(action)}>
          <kbd>{shown(keys[action])}</kbd>
          {name}
        </button>
      ))}
    </div>
  );
}
