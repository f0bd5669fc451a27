import * as React from "react";
import type { Mode, ModeName } from "./modes";
import { OrderChoice } from "./OrderChoice";
import type { Session } from "./session";

/** How to review: the mode. What to review: field, order, class or confused pair, and which photos. */
export function QueueBar({ session, modes }: { session: Session; modes: Record<ModeName, Mode> }) {
  const { question, description } = session;
  const pair = question.runner_up === null ? "" : JSON.stringify([question.label, question.runner_up]);
  const chosen = pair || (question.label === null ? "" : JSON.stringify([question.label]));
  const choose = (value: string) => {
    const [label = null, runner_up = null] = value ? (JSON.parse(value) as string[]) : [];
    session.ask({ label, runner_up });
  };
  return (
    <div className="glr-bar" role="group" aria-label="What to review">
      <Tabs session={session} modes={modes} />
      {(description?.fields.length ?? 0) > 1 && (
        <label>
          Field
          <select value={question.field ?? ""} onChange={(event) => session.ask({ field: event.target.value })}>
            {description!.fields.map((field) => (
              <option key={field}>{field}</option>
            ))}
          </select>
        </label>
      )}
      {session.mode === "mask" && <OrderChoice session={session} />}
      {session.isSample && (
        <label title="The same seed gives the same sample">
          Seed
          <input
            type="number"
            min={0}
            value={question.seed}
            onChange={(event) => session.ask({ seed: Math.max(0, Math.floor(Number(event.target.value)) || 0) })}
          />
        </label>
      )}
      {session.mode !== "summary" && (
        <>
          <label>
            Class
            <select value={chosen} onChange={(event) => choose(event.target.value)}>
              <option value="">all classes</option>
              <optgroup label="One class">
                {description?.classes.map(({ name, undecided }) => (
                  <option key={name} value={JSON.stringify([name])}>
                    {name} ({undecided})
                  </option>
                ))}
              </optgroup>
              {description?.pairs.length ? (
                <optgroup label="Confused: called one, nearly the other">
                  {description.pairs.map(({ label, runner_up, masks }) => (
                    <option key={`${label}\0${runner_up}`} value={JSON.stringify([label, runner_up])}>
                      {label} / {runner_up} ({masks})
                    </option>
                  ))}
                </optgroup>
              ) : null}
            </select>
          </label>
          <label>
            Photos
            <select
              value={question.scope}
              onChange={(event) => session.ask({ scope: event.target.value as "dataset" | "view" | "selected" })}
            >
              <option value="dataset">all</option>
              <option value="view">in the view</option>
              <option value="selected">selected</option>
            </select>
          </label>
        </>
      )}
    </div>
  );
}

/** One button a mode. */
function Tabs({ session, modes }: { session: Session; modes: Record<ModeName, Mode> }) {
  const names = Object.keys(modes) as ModeName[];
  if (names.length < 2) return null;
  return (
    <span className="glr-tabs" role="tablist" aria-label="How to review">
      {names.map((name) => (
        <button
          key={name}
          type="button"
          role="tab"
          aria-selected={session.mode === name}
          onClick={() => session.setMode(name)}
        >
          {modes[name].title}
        </button>
      ))}
    </span>
  );
}
