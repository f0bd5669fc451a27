import * as React from "react";
import { shown, type Keys } from "../keys";
import type { Session } from "../session";
import { classesFor, outcomeOf, type Marks } from "./marks";

/** Says what accepting the page does, before it is done. */
export function Head({ session, keys }: { session: Session; keys: Keys }) {
  const { pages } = session;
  const { accepted, rejected, renamed, later } = outcomeOf(pages.shown, pages.marks);
  const open = countWrong(pages.marks);
  return (
    <div className="glr-head" role="status" aria-live="polite">
      <span className="glr-name">{pages.page?.label ?? " "}</span>
      {pages.page && (
        <span>
          <kbd>{shown(keys.acceptPage)}</kbd> ✓ accepts <b>{accepted}</b>
          {rejected > 0 && (
            <>
              , ✗ rejects <b>{rejected}</b>
              {open > 0 && ` (${open} marked, without another class)`}
            </>
          )}
          {renamed > 0 && (
            <>
              , ✎ gives <b>{renamed}</b> another class
            </>
          )}
          {later > 0 && (
            <>
              , … leaves <b>{later}</b> for later
            </>
          )}
        </span>
      )}
    </div>
  );
}

function countWrong(marks: Marks): number {
  return [...marks.values()].filter(({ kind }) => kind === "wrong").length;
}

/** The classes that marked masks can get with 1 to 9. */
export function Classes({ session }: { session: Session }) {
  const { pages } = session;
  const masks = pages.meant;
  const classes = classesFor(masks);
  return (
    <div className="glr-strip" role="group" aria-label="Other classes">
      {masks.length === 0 && <span>Click the wrong masks, or walk to them with the arrows: here are their other classes.</span>}
      {classes.map(([name, score], place) => (
        <button
          key={name}
          type="button"
          aria-label={`Key ${place + 1}: the class is ${name}`}
          onClick={() => pages.set({ kind: "class", label: name })}
        >
          <kbd>{place + 1}</kbd>
          <span className="glr-word">{name}</span>
          {score !== null && <span className="glr-number">{Math.round(100 * score)} %</span>}
        </button>
      ))}
    </div>
  );
}
