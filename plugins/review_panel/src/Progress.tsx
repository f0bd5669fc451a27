import * as React from "react";
import type { Entry } from "./outbox";
import type { Session } from "./session";

const percent = (share: number) => `${Math.round(100 * share)} %`;

/** How the review goes, and what is not stored yet. */
export function Progress({ session }: { session: Session }) {
  const { decided, remaining, speed, precision } = session.counts;
  const { entries, failure, troubles } = session.outbox;
  const honest = session.isSample;
  return (
    <div className="glr-progress" role="status" aria-live="off">
      <span>
        <b>{decided}</b> decided
      </span>
      <span>
        <b>{remaining}</b> remaining{speed ? ` (${minutes(remaining / speed)} at this speed)` : ""}
      </span>
      {speed !== null && (
        <span>
          <b>{speed.toFixed(speed < 10 ? 1 : 0)}</b> per minute
        </span>
      )}
      {precision && (
        <span
          title={
            honest
              ? "The share of labels that you accepted, with its 95 % interval. Of a random sample it is an estimate for all masks of this choice."
              : "The share of labels that you accepted, with its 95 % interval. Only a random sample tells what all masks are like."
          }
        >
          <b>{percent(precision.share)}</b> {honest ? "right" : "of these right"} (95 %: {percent(precision.low)} to{" "}
          {percent(precision.high)})
        </span>
      )}
      <span data-unstored={entries.length}>
        {entries.length ? `… ${entries.length} being stored` : decided ? "✓ all stored" : ""}
      </span>
      {failure && entries.length > 0 && (
        <div className="glr-trouble" role="alert">
          ⚠ {entries.length} {entries.length === 1 ? "decision is" : "decisions are"} not stored yet ({failure}). They are
          kept in this tab and sent again.{" "}
          <button type="button" onClick={() => session.outbox.retry()}>
            Try now
          </button>
        </div>
      )}
      {troubles.slice(-3).map((trouble) => (
        <div className="glr-trouble" role="alert" key={trouble.entry.request + trouble.entry.kind + trouble.message}>
          ⚠ {nameOf(trouble.entry)}: {trouble.message}{" "}
          <button type="button" onClick={() => session.dismiss(trouble, true)}>
            Look at it
          </button>{" "}
          <button type="button" onClick={() => session.dismiss(trouble, false)}>
            Dismiss
          </button>
        </div>
      ))}
    </div>
  );
}

function nameOf({ kind, choices }: Entry): string {
  if (kind === "undo") return "undo";
  return choices.length > 1 ? `${choices.length} masks` : (choices[0]?.label ?? "reject");
}

function minutes(count: number): string {
  if (count < 1) return "under a minute";
  if (count < 60) return `${Math.round(count)} min`;
  return `${Math.floor(count / 60)} h ${Math.round(count % 60)} min`;
}
