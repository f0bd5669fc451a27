import * as React from "react";
import { openViewer } from "../app";
import { MARGINS, USUAL_ZOOM } from "../drawing";
import { shown, type Action } from "../keys";
import type { ModeProperties } from "../modes";
import { Typing } from "../Overlays";
import type { Session } from "../session";
import { useFirstFocus, useReturn } from "../useFocus";
import { Grid } from "./Grid";
import { Classes, Head } from "./Head";
import type { Layout } from "./layout";
import { classesFor } from "./marks";
import { PAGE_STYLES } from "./styles";
import { Toolbar } from "./Toolbar";

/** A page of masks of one class: one key accepts all that are not marked. */
export function PageMode({ session, keys, handler, focus, showHelp }: ModeProperties) {
  const { pages } = session;
  const [zoom, setZoom] = React.useState(USUAL_ZOOM);
  const [layout, setLayout] = React.useState<Layout>({ columns: 10, side: 100 });
  const [typing, setTyping] = React.useState(false);
  const closeTyping = React.useCallback(() => {
    setTyping(false);
    focus();
  }, [focus]);
  React.useEffect(() => {
    const pixels = layout.side * (window.devicePixelRatio || 1);
    pages.fit(Math.min(Math.max(32 * Math.ceil(pixels / 32), 64), 320), zoom); // in steps, so that few are drawn again
  }, [pages, layout.side, zoom]);
  useFirstFocus(pages.isReady, focus);
  useReturn(() => {
    session.readAgain();
    focus();
  });

  const walk = (by: number, isMarking: boolean) => {
    const last = (pages.page?.masks.length ?? 0) - 1;
    const from = pages.cursor;
    const to = from === null ? 0 : from + by;
    if (to < 0 || to > last) return;
    pages.walk(to);
    if (isMarking) pages.mark(from === null ? [to] : [from, to], true);
  };
  const markAll = () => {
    const places = [...(pages.page?.masks.keys() ?? [])];
    pages.mark(places, !places.every((place) => pages.isMarked(place)));
  };
  const mark = () => pages.cursor !== null && pages.mark([pages.cursor], !pages.isMarked(pages.cursor));
  const open = () => {
    const mask = pages.cursor === null ? undefined : pages.page?.masks[pages.cursor];
    if (mask) openViewer(mask[0]);
  };
  const acts: Partial<Record<Action, (isMarking?: boolean) => void>> = {
    acceptPage: () => pages.accept(),
    mark,
    markAll,
    rejectMarked: () => pages.set({ kind: "rejected" }),
    leave: () => pages.set({ kind: "later" }),
    type: () => pages.meant.length && setTyping(true),
    undo: () => session.undo(),
    redo: () => session.redo(),
    left: (isMarking = false) => walk(-1, isMarking),
    right: (isMarking = false) => walk(1, isMarking),
    up: (isMarking = false) => walk(-layout.columns, isMarking),
    down: (isMarking = false) => walk(layout.columns, isMarking),
    previousPage: () => pages.turn(-1),
    nextPage: () => pages.turn(1),
    edit: open,
    closer: () => setZoom((now) => Math.min(now + 1, MARGINS.length - 1)),
    farther: () => setZoom((now) => Math.max(now - 1, 0)),
    help: showHelp,
  };
  const act = (action: Action): boolean => {
    acts[action]?.();
    return action in acts;
  };
  handler.current = (action, event) => {
    if (/^[1-9]$/.test(event.key)) {
      const choice = classesFor(pages.meant)[Number(event.key) - 1];
      if (choice && !event.repeat) pages.set({ kind: "class", label: choice[0] });
      return Boolean(choice);
    }
    if (!action || !(action in acts)) return false;
    const walks = ["left", "right", "up", "down"].includes(action);
    if (event.repeat && !walks && !["closer", "farther"].includes(action)) return true; // a held key decides once
    acts[action]!(walks && event.shiftKey);
    return true;
  };

  const walked = pages.cursor === null ? undefined : pages.page?.masks[pages.cursor];
  return (
    <div className="glr-page">
      <style>{PAGE_STYLES}</style>
      <Head session={session} keys={keys} />
      <div className="glr-place">
        <Grid session={session} layout={layout} onLayout={setLayout} />
        <Message session={session} backKey={shown(keys.previousPage)} />
      </div>
      <Classes session={session} />
      <Toolbar session={session} keys={keys} act={act} zoom={zoom} onZoom={setZoom} focus={focus} />
      <div className="glr-hidden" aria-live="polite">
        {walked && `mask ${pages.cursor! + 1}${pages.isMarked(pages.cursor!) ? ", marked" : ""}`}
      </div>
      {typing && (
        <Typing
          classes={session.classes}
          onClose={closeTyping}
          onChoose={(name) => {
            pages.set({ kind: "class", label: name });
            closeTyping();
          }}
        />
      )}
    </div>
  );
}

/** What is seen where there is no page. */
function Message({ session, backKey }: { session: Session; backKey: string }) {
  const { pages } = session;
  if (session.problem) {
    return (
      <div className="glr-note" role="alert">
        ⚠ {session.problem}{" "}
        <button type="button" onClick={() => void session.begin()}>
          Try again
        </button>
      </div>
    );
  }
  if (session.question.field === null && !session.loading) return <Over>No masks yet: label the photos first.</Over>;
  if (session.loading || (!pages.page && !pages.hasEnded)) return <Over>Making pages …</Over>;
  if (!pages.hasEnded) return null;
  const { remaining } = session.counts;
  return (
    <Over>
      <div role="status">
        {remaining ? `This was the last page. ${remaining} masks are undecided.` : "All masks of this choice are decided."}
      </div>
      <div>
        <kbd>{backKey}</kbd> looks back.
      </div>
      {remaining > 0 && (
        <button type="button" onClick={() => void session.begin()}>
          Review those
        </button>
      )}
    </Over>
  );
}

function Over({ children }: { children: React.ReactNode }) {
  return (
    <div className="glr-over-page">
      <div className="glr-middle">{children}</div>
    </div>
  );
}
