import * as React from "react";
import { openViewer } from "../app";
import { MARGINS, USUAL_ZOOM } from "../drawing";
import { shown, type Action } from "../keys";
import type { ModeProperties } from "../modes";
import { Typing } from "../Overlays";
import type { Session } from "../session";
import { useFirstFocus, useReturn } from "../useFocus";
import { useCanvases, type Look } from "./Canvases";
import { Side } from "./Side";
import { Toolbar } from "./Toolbar";

const FILLED = 0.45;
const COMPARING = "Comparing every decision with what the others teach. This takes a few seconds …";

/** One mask at a time, large, with the whole photo beside it. */
export function MaskMode({ session, keys, handler, focus, showHelp }: ModeProperties) {
  const [look, setLook] = React.useState<Look>({ zoom: USUAL_ZOOM, opacity: 0, outlined: true });
  const [typing, setTyping] = React.useState(false);
  const picture = session.picture;
  const { stage, photo } = useCanvases(picture, look);
  const closeTyping = React.useCallback(() => {
    setTyping(false);
    focus();
  }, [focus]);

  useFirstFocus(picture !== null, focus);
  useReturn(() => {
    session.readAgain();
    focus();
  });

  const act = (action: Action): boolean => {
    const zoom = (by: number) =>
      setLook((now) => ({ ...now, zoom: Math.min(Math.max(now.zoom + by, 0), MARGINS.length - 1) }));
    const acts: Partial<Record<Action, () => void>> = {
      accept: () => {
        const label = picture?.details.label;
        if (label) session.decide(label);
        else if (picture) setTyping(true); // a mask without a label needs one first
      },
      reject: () => session.decide(null),
      type: () => picture && setTyping(true),
      skip: () => session.skip(),
      undo: () => session.undo(),
      redo: () => session.redo(),
      back: () => session.look(-1),
      forward: () => session.look(1),
      edit: () => session.current && openViewer(session.current[0]),
      fill: () => setLook((now) => ({ ...now, opacity: now.opacity ? 0 : FILLED })),
      outline: () => setLook((now) => ({ ...now, outlined: !now.outlined })),
      closer: () => zoom(1),
      farther: () => zoom(-1),
      help: showHelp,
    };
    acts[action]?.();
    return action in acts;
  };

  handler.current = (action, event) => {
    if (/^[1-9]$/.test(event.key)) {
      const choice = picture?.details.classes[Number(event.key) - 1];
      if (choice && !event.repeat) session.decide(choice[0]);
      return Boolean(choice);
    }
    if (!action) return false;
    const repeats = ["back", "forward", "closer", "farther"].includes(action);
    return event.repeat && !repeats ? true : act(action); // a key that is held down decides once
  };

  const ended = !session.loading && session.question.field !== null && session.position >= session.masks.length;
  return (
    <div className="glr-mode">
      <div className="glr-main">
        <div className="glr-stage">
          <canvas
            ref={stage}
            role="img"
            aria-label={picture ? `Mask of ${picture.details.label ?? "no class"}` : "No mask"}
            style={{ visibility: ended ? "hidden" : "visible" }}
          />
          {picture?.problem && <div className="glr-note">⚠ {picture.problem}</div>}
          {session.problem && (
            <div className="glr-note" role="alert">
              ⚠ {session.problem}{" "}
              <button type="button" onClick={() => void session.begin()}>
                Try again
              </button>
            </div>
          )}
          {session.loading && <div className="glr-middle">{session.isSecondLook ? COMPARING : "Looking for masks …"}</div>}
          {!session.loading && session.question.field === null && !session.problem && (
            <div className="glr-middle">No masks yet: label the photos first.</div>
          )}
          {ended && !session.problem && <End session={session} backKey={shown(keys.back)} />}
        </div>
        <Side session={session} details={picture?.details ?? null} photo={photo} ended={ended} />
      </div>
      <Toolbar session={session} keys={keys} act={act} look={look} onLook={setLook} />
      <div className="glr-hidden" aria-live="polite">
        {picture && `${picture.details.label ?? "no label"}, ${picture.details.state}`}
      </div>
      {typing && (
        <Typing
          classes={session.classes}
          onClose={closeTyping}
          onChoose={(name) => {
            session.decide(name);
            closeTyping();
          }}
        />
      )}
    </div>
  );
}

/** What is seen after the last mask of a queue. */
function End({ session, backKey }: { session: Session; backKey: string }) {
  const { decided, remaining } = session.counts;
  const skipped = session.masks.length - decided;
  return (
    <div className="glr-middle" role="status">
      <div>{endOf(session, remaining)}</div>
      {skipped > 0 && <div>{skipped} were skipped.</div>}
      <div>
        <kbd>{backKey}</kbd> looks back.
      </div>
      {remaining > 0 && (
        <button type="button" onClick={() => void session.begin()}>
          Review those
        </button>
      )}
      <button type="button" onClick={() => session.setMode("summary")}>
        How it goes, and export
      </button>
    </div>
  );
}

function endOf({ isSecondLook, masks }: Session, remaining: number): string {
  if (isSecondLook) return masks.length ? "This is the end of the likely mistakes." : "No decision looks like a mistake.";
  return remaining
    ? `This is the end of the queue. ${remaining} masks of this choice are undecided.`
    : "All masks of this choice are decided.";
}
