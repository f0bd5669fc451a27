import * as React from "react";
import { openForm } from "../app";
import type { ModeProperties } from "../modes";
import type { ClassProgress, Progress } from "../server";
import type { Session } from "../session";
import { QualityLine } from "./Quality";
import { range } from "./words";

/** How the review goes, per class and person, and the export from there. */
export function SummaryMode({ session, handler, focus }: ModeProperties) {
  const { progress, failure, read } = useProgress(session);
  handler.current = (action) => (action === "undo" ? session.undo() : action === "redo" && session.redo());
  React.useEffect(() => focus(), [focus]);
  const field = session.question.field;
  if (field === null) return <div className="glr-summary">No masks yet: label the photos first.</div>;
  return (
    <div className="glr-summary" role="region" aria-label="How the review goes">
      {failure && (
        <div className="glr-trouble" role="alert">
          ⚠ {failure}{" "}
          <button type="button" onClick={read}>
            Try again
          </button>
        </div>
      )}
      {!progress && !failure && <div>Counting …</div>}
      {progress && (
        <>
          <Total progress={progress} />
          <QualityLine quality={progress.quality} session={session} />
          <Note />
          <div className="glr-tools">
            <button type="button" onClick={() => openForm("export_annotations", field)}>
              Export annotations …
            </button>
            <button type="button" onClick={() => openForm("learn", field)}>
              Learn from decisions …
            </button>
            <button type="button" onClick={read}>
              Count again
            </button>
          </div>
          <Classes classes={progress.classes} session={session} />
          <People progress={progress} />
        </>
      )}
    </div>
  );
}

/** The counts, read when the mode is shown, when another field is, and when decisions have been stored. */
function useProgress(session: Session) {
  const [progress, setProgress] = React.useState<Progress | null>(null);
  const [failure, setFailure] = React.useState<string | null>(null);
  const { field, seed } = session.question;
  const unstored = session.outbox.entries.length;
  const latest = React.useRef(0);
  const read = React.useCallback(() => {
    if (field === null) return;
    const number = ++latest.current;
    session.server.getProgress(field, seed).then(
      (found) => {
        if (number !== latest.current) return;
        setProgress(found);
        setFailure(null);
      },
      (error: Error) => number === latest.current && setFailure(error.message),
    );
  }, [session, field, seed]);
  React.useEffect(() => {
    if (!unstored) read();
  }, [read, unstored]);
  return { progress, failure, read };
}

function Total({ progress }: { progress: Progress }) {
  const { reviewed, remaining, precision } = progress.total;
  return (
    <p className="glr-total">
      <b>{reviewed}</b> of <b>{reviewed + remaining}</b> masks are reviewed, <b>{remaining}</b> remain.
      {precision && (
        <>
          {" "}
          <b>{range(precision)}</b> of the reviewed labels were right.
        </>
      )}
      {progress.drawn > 0 && <> People added {progress.drawn} more.</>}
    </p>
  );
}

function Note() {
  return (
    <p>
      The table counts reviewed masks, with the 95 % interval. Masks that were chosen because they are least certain are
      wrong more often than others, so these shares do not hold for all labels.
    </p>
  );
}

function Classes({ classes, session }: { classes: ClassProgress[]; session: Session }) {
  return (
    <table className="glr-table" aria-label="Classes">
      <thead>
        <tr>
          <th>Class</th>
          <th>Reviewed</th>
          <th>Remaining</th>
          <th className="glr-wide">Progress</th>
          <th>Right (95 %)</th>
        </tr>
      </thead>
      <tbody>
        {classes.map(({ label, reviewed, remaining, precision }) => (
          <tr key={label}>
            <td>
              {remaining === 0 ? (
                label
              ) : (
                <button
                  type="button"
                  title="Review this class"
                  onClick={() => {
                    session.ask({ label, runner_up: null });
                    session.setMode("mask");
                  }}
                >
                  {label}
                </button>
              )}
            </td>
            <td className="glr-number">{reviewed}</td>
            <td className="glr-number">{remaining}</td>
            <td className="glr-wide">
              <div className="glr-track" role="img" aria-label={`${percentDone(reviewed, remaining)} % reviewed`}>
                <div style={{ width: `${percentDone(reviewed, remaining)}%` }} />
              </div>
            </td>
            <td className="glr-number">{precision ? range(precision) : "–"}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function percentDone(reviewed: number, remaining: number): number {
  return Math.round((100 * reviewed) / Math.max(1, reviewed + remaining));
}

function People({ progress }: { progress: Progress }) {
  if (!progress.people.length) return null;
  return (
    <table className="glr-table" aria-label="People">
      <thead>
        <tr>
          <th>Reviewer</th>
          <th>Masks decided</th>
          <th>Per minute</th>
        </tr>
      </thead>
      <tbody>
        {progress.people.map(({ name, masks, per_minute }) => (
          <tr key={name ?? ""}>
            <td>{name ?? "(no name)"}</td>
            <td className="glr-number">{masks}</td>
            <td className="glr-number">{per_minute === null ? "–" : per_minute.toFixed(per_minute < 10 ? 1 : 0)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
