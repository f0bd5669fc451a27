import * as React from "react";
import { openViewer, useAppContext, useIsViewerOpen } from "./app";
import { useCanvases, type Look } from "./Canvases";
import { MARGINS, USUAL_ZOOM } from "./drawing";
import { keyName, loadKeys, shown, type Action } from "./keys";
import { Help, Typing } from "./Overlays";
import { Progress } from "./Progress";
import { QueueBar } from "./QueueBar";
import { Server, type Methods } from "./server";
import { Session } from "./session";
import { Side } from "./Side";
import { STYLES } from "./styles";
import { Toolbar } from "./Toolbar";

const FILLED = 0.45;

/** What the App gives the component: the schema has the addresses of the panel's Python methods. */
export type PanelProperties = { schema: { view: Methods } };

/** The component of the panel; `sessions` are the reviews that were begun, by the ids of their datasets. */
export function ReviewPanel({ schema, sessions }: PanelProperties & { sessions: Map<string, Session> }) {
  const context = useAppContext();
  const { dataset_id, dataset_name } = context;
  const [session, setSession] = React.useState<Session | null>(null);
  if (session) session.server.context = context;
  React.useEffect(() => {
    if (!dataset_id || !dataset_name) return setSession(null);
    let found = sessions.get(dataset_id);
    if (found) void found.begin(); // labels may have changed since
    else sessions.set(dataset_id, (found = new Session(new Server(schema.view, context), dataset_id, dataset_name)));
    setSession(found);
  }, [dataset_id, dataset_name]);
  return (
    <>
      <style>{STYLES}</style>
      {session && <Review session={session} key={session.datasetId} />}
    </>
  );
}

function Review({ session }: { session: Session }) {
  React.useSyncExternalStore(session.subscribe, session.getVersion);
  const [look, setLook] = React.useState<Look>({ zoom: USUAL_ZOOM, opacity: 0, outlined: true });
  const [overlay, setOverlay] = React.useState<"help" | "typing" | null>(null);
  const [keys, setKeys] = React.useState(loadKeys);
  const root = React.useRef<HTMLDivElement>(null);
  const picture = session.picture;
  const { stage, photo } = useCanvases(picture, look);
  const focus = React.useCallback(() => root.current?.focus({ preventScroll: true }), []);
  const close = React.useCallback(() => {
    setOverlay(null);
    focus();
  }, [focus]);

  // once the first mask is drawn: the App gives the focus to the panel's tab when it opens it
  const hasPicture = picture !== null;
  React.useEffect(() => {
    if (hasPicture && !document.activeElement?.closest("input, textarea, select, [role=dialog]")) focus();
  }, [hasPicture, focus]);
  useReturn(() => {
    session.readAgain();
    focus();
  });

  const act = (action: Action) => {
    const zoom = (by: number) =>
      setLook((now) => ({ ...now, zoom: Math.min(Math.max(now.zoom + by, 0), MARGINS.length - 1) }));
    const acts: Record<Action, () => void> = {
      accept: () => {
        const label = picture?.details.label;
        if (label) session.decide(label);
        else if (picture) setOverlay("typing"); // a mask without a label needs one first
      },
      reject: () => session.decide(null),
      type: () => picture && setOverlay("typing"),
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
      help: () => setOverlay("help"),
    };
    acts[action]();
  };

  useKeys(root, (event) => {
    if (/^[1-9]$/.test(event.key)) {
      const choice = picture?.details.classes[Number(event.key) - 1];
      if (choice && !event.repeat) session.decide(choice[0]);
      return Boolean(choice);
    }
    const name = keyName(event);
    const action = (Object.keys(keys) as Action[]).find((each) => keys[each] === name);
    if (!action) return false;
    const repeats = ["back", "forward", "closer", "farther"].includes(action);
    if (!event.repeat || repeats) act(action); // a key that is held down decides once
    return true;
  });

  const ended = !session.loading && session.question.field !== null && session.position >= session.masks.length;
  return (
    <div
      className="glr"
      ref={root}
      tabIndex={0}
      role="application"
      aria-label="Review of masks; press ? for the keys"
      onMouseUp={(event) => {
        if (!(event.target as HTMLElement).closest("select, input, .glr-over")) focus();
      }}
    >
      <QueueBar session={session} />
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
          {session.loading && <div className="glr-middle">Looking for masks …</div>}
          {!session.loading && session.question.field === null && !session.problem && (
            <div className="glr-middle">No masks yet: label the photos first.</div>
          )}
          {ended && !session.problem && <End session={session} backKey={shown(keys.back)} />}
        </div>
        <Side session={session} details={picture?.details ?? null} photo={photo} ended={ended} />
      </div>
      <Toolbar session={session} keys={keys} act={act} look={look} onLook={setLook} />
      <Progress session={session} />
      <div className="glr-hidden" aria-live="polite">
        {picture && `${picture.details.label ?? "no label"}, ${picture.details.state}`}
      </div>
      {overlay === "help" && (
        <Help
          keys={keys}
          onKeys={setKeys}
          author={session.author}
          onAuthor={(name) => session.setAuthor(name)}
          onClose={close}
        />
      )}
      {overlay === "typing" && (
        <Typing
          classes={session.classes}
          onClose={close}
          onChoose={(name) => {
            session.decide(name);
            close();
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
      <div>
        {remaining
          ? `This is the end of the queue. ${remaining} masks of this choice are undecided.`
          : "All masks of this choice are decided."}
      </div>
      {skipped > 0 && <div>{skipped} were skipped.</div>}
      <div>
        <kbd>{backKey}</kbd> looks back.
      </div>
      {remaining > 0 && (
        <button type="button" onClick={() => void session.begin()}>
          Review those
        </button>
      )}
    </div>
  );
}

/** Keys that are pressed inside an element, and that FiftyOne's own shortcuts do not get. */
function useKeys(root: React.RefObject<HTMLElement>, press: (event: KeyboardEvent) => boolean): void {
  const latest = React.useRef(press);
  latest.current = press;
  React.useEffect(() => {
    const element = root.current!;
    const listen = (event: KeyboardEvent) => {
      event.stopPropagation();
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input[type=text], input[type=number], .glr-over")) return;
      // in a list of choices, letters and arrows are its own
      if (target.closest("select, input[type=range]")) return;
      if (latest.current(event)) event.preventDefault();
    };
    element.addEventListener("keydown", listen);
    return () => element.removeEventListener("keydown", listen);
  }, [root]);
}

/** Calls back when FiftyOne's viewer was closed. */
function useReturn(back: () => void): void {
  const isOpen = useIsViewerOpen();
  const wasOpen = React.useRef(isOpen);
  React.useEffect(() => {
    if (wasOpen.current && !isOpen) back();
    wasOpen.current = isOpen;
  });
}
