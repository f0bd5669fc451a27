import * as React from "react";
import { openViewer } from "../app";
import { shown, type Action } from "../keys";
import type { ModeProperties } from "../modes";
import { Typing } from "../Overlays";
import { useFirstFocus, useReturn } from "../useFocus";
import type { Point } from "./asking";
import { Side } from "./Side";
import { Stage } from "./Stage";
import { PHOTO_STYLES } from "./styles";
import { Toolbar } from "./Toolbar";
import { WHOLE, zoomTo } from "./view";

/** A photo at a time, with all its masks: what is doubled goes, what is missing is asked for. */
export function PhotoMode({ session, keys, handler, focus, showHelp }: ModeProperties) {
  const review = session.photoReview;
  const { asking, picture } = review;
  const [isOutlined, setOutlined] = React.useState(true);
  const [typing, setTyping] = React.useState(false);
  const [zoom, setZoom] = React.useState(WHOLE);
  React.useEffect(() => setZoom(WHOLE), [review.sample]);
  const openTyping = React.useCallback(() => setTyping(true), []);
  const closeTyping = React.useCallback(() => {
    setTyping(false);
    focus();
  }, [focus]);
  useFirstFocus(picture !== null, focus);
  useReturn(() => {
    session.readAgain();
    focus();
  });

  /** The middle of the chosen mask, or of the photo. */
  const middle = (): Point => {
    const [x, y, width, height] = review.mask?.details.box ?? [0, 0, ...(picture?.size ?? [0, 0])];
    return [x + width / 2, y + height / 2];
  };
  const zoomBy = (factor: number) => setZoom(zoomTo(zoom, factor, middle()));
  /** Chooses another mask, which is in the middle when a part of the photo is shown. */
  const go = (walk: () => void) => {
    if (asking.prompt) return;
    walk();
    if (zoom.level > 1) setZoom({ ...zoom, center: middle() });
  };
  /** Gives what is asked, or else the chosen mask, a class. */
  const name = (label: string) => (asking.prompt ? review.keepFound(label) : review.decide(label));
  const accept = () => {
    const label = review.mask?.details.label;
    if (label) review.decide(label);
    else if (review.mask) openTyping(); // a mask without a label needs one first
  };
  const keepFound = () => {
    if (asking.isLooking || !asking.mask) return;
    const proposed = asking.mask.classes[0];
    if (proposed) review.keepFound(proposed[0]);
    else openTyping();
  };
  const acts: Partial<Record<Action, () => void>> = {
    acceptPhoto: () => review.acceptAll(),
    accept: () => !asking.prompt && accept(),
    reject: () => !asking.prompt && review.decide(null),
    type: () => (asking.prompt ? asking.mask : review.mask) && openTyping(),
    back: () => go(() => review.walk(-1)),
    forward: () => go(() => review.walk(1)),
    nextPair: () => go(() => review.nextPair()),
    swapPair: () => go(() => review.swapPair()),
    keepOfPair: () => !asking.prompt && review.keepOfPair(),
    nextFound: () => asking.next(),
    undo: () => session.undo(),
    redo: () => session.redo(),
    previousPhoto: () => review.turn(-1),
    nextPhoto: () => review.turn(1),
    edit: () => review.sample && openViewer(review.sample),
    closer: () => zoomBy(2),
    farther: () => zoomBy(0.5),
    outline: () => setOutlined((now) => !now),
    help: showHelp,
  };
  const act = (action: Action): boolean => {
    acts[action]?.();
    return action in acts;
  };

  handler.current = (action, event) => {
    if (/^[1-9]$/.test(event.key)) {
      const classes = asking.prompt ? asking.mask?.classes : review.mask?.details.classes;
      const choice = classes?.[Number(event.key) - 1];
      if (choice && !event.repeat && !asking.isLooking) name(choice[0]);
      return Boolean(choice);
    }
    if (asking.prompt && event.key === "Escape") {
      asking.drop();
      return true;
    }
    if (asking.prompt && event.key === "Enter" && !(event.target as HTMLElement).closest("button")) {
      if (!event.repeat) keepFound();
      return true;
    }
    if (!action || !(action in acts)) return false;
    const repeats = ["back", "forward", "closer", "farther"].includes(action);
    return event.repeat && !repeats ? true : act(action); // a key that is held down decides once
  };

  const ended = !session.loading && session.question.field !== null && review.sample === null;
  return (
    <div className="glr-mode">
      <style>{PHOTO_STYLES}</style>
      <div className="glr-main">
        <div className="glr-stage">
          <Stage session={session} isOutlined={isOutlined} zoom={zoom} onZoom={setZoom} />
          {picture?.problem && <div className="glr-note">⚠ {picture.problem}</div>}
          {session.problem && (
            <div className="glr-note" role="alert">
              ⚠ {session.problem}{" "}
              <button type="button" onClick={() => void session.begin()}>
                Try again
              </button>
            </div>
          )}
          {(session.loading || (!picture && review.sample !== null && !session.problem)) && (
            <div className="glr-middle">Reading the photo …</div>
          )}
          {!session.loading && session.question.field === null && !session.problem && (
            <div className="glr-middle">No masks yet: label the photos first.</div>
          )}
          {ended && !session.problem && (
            <div className="glr-middle" role="status">
              <div>{review.list.length ? "This was the last photo." : "There is no photo of this choice."}</div>
              {review.list.length > 0 && (
                <div>
                  <kbd>{shown(keys.previousPhoto)}</kbd> looks back.
                </div>
              )}
            </div>
          )}
        </div>
        <Side session={session} keys={keys} onType={openTyping} />
      </div>
      <Toolbar session={session} keys={keys} act={act} />
      <div className="glr-hidden" aria-live="polite">
        {review.mask && `${review.mask.details.label ?? "no label"}, ${review.mask.details.state}`}
      </div>
      {typing && (
        <Typing
          classes={session.classes}
          onClose={closeTyping}
          onChoose={(label) => {
            name(label);
            closeTyping();
          }}
        />
      )}
    </div>
  );
}
