import * as React from "react";
import type { Details, State } from "../server";
import type { Session } from "../session";

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
  photo: React.RefObject<HTMLCanvasElement>;
  ended: boolean;
};

/** The whole photo, the label with its score, and other classes. */
export function Side({ session, details, photo, ended }: Properties) {
  return (
    <div className="glr-side">
      <div className="glr-photo" style={{ visibility: ended ? "hidden" : "visible" }}>
        <canvas ref={photo} role="img" aria-label="The whole photo, with a box around the part that is shown large" />
      </div>
      {details && <Label details={details} />}
      {details && <ClassList classes={details.classes} onChoose={(name) => session.decide(name)} />}
    </div>
  );
}

type ClassListProperties = { classes: [string, number | null][]; onChoose: (name: string) => void };

/** Classes, each with the digit that is its key. */
export function ClassList({ classes, onChoose }: ClassListProperties) {
  return (
    <ol className="glr-classes" aria-label="Other classes">
      {classes.map(([name, score], place) => (
        <li key={name}>
          <button type="button" onClick={() => onChoose(name)} aria-label={`Key ${place + 1}: the class is ${name}`}>
            <kbd>{place + 1}</kbd>
            <span className="glr-word">{name}</span>
            <span className="glr-number">{score === null ? "" : percent(score)}</span>
          </button>
        </li>
      ))}
    </ol>
  );
}

export function Label({ details }: { details: Details }) {
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
