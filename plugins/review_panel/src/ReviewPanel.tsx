import * as React from "react";
import { useAppContext } from "./app";
import { actionOf, loadKeys } from "./keys";
import { MaskMode } from "./mask/MaskMode";
import type { KeyHandler, Mode, ModeName } from "./modes";
import { Help } from "./Overlays";
import { PageMode } from "./page/PageMode";
import { PhotoMode } from "./photo/PhotoMode";
import { Progress } from "./Progress";
import { QueueBar } from "./QueueBar";
import { Server, type Methods } from "./server";
import { Session } from "./session";
import { STYLES } from "./styles";
import { SummaryMode } from "./summary/SummaryMode";
import { useClaims } from "./useClaims";
import { useFreshGrid } from "./useFreshGrid";
import { useKeys } from "./useKeys";

const MODES: Record<ModeName, Mode> = {
  mask: { title: "One mask", component: MaskMode },
  page: { title: "A page", component: PageMode },
  photo: { title: "A photo", component: PhotoMode },
  summary: { title: "How it goes", component: SummaryMode },
};

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

/** What all modes have in common: what is reviewed, keys, progress and the list of keys. */
function Review({ session }: { session: Session }) {
  React.useSyncExternalStore(session.subscribe, session.getVersion);
  const [help, setHelp] = React.useState(false);
  const [keys, setKeys] = React.useState(loadKeys);
  const root = React.useRef<HTMLDivElement>(null);
  const handler = React.useRef<KeyHandler>(() => false);
  const focus = React.useCallback(() => root.current?.focus({ preventScroll: true }), []);
  const showHelp = React.useCallback(() => setHelp(true), []);
  const closeHelp = React.useCallback(() => {
    setHelp(false);
    focus();
  }, [focus]);
  const ModeComponent = MODES[session.mode].component;

  useClaims(session, root);
  useFreshGrid(session, root);
  useKeys(root, (event) => {
    const action = actionOf(keys, session.mode, event);
    if (action === "help") {
      showHelp();
      return true;
    }
    return handler.current(action, event);
  });

  return (
    <div
      className="glr"
      ref={root}
      tabIndex={0}
      role="application"
      aria-label="Review of masks; press ? for the keys"
      onMouseUp={(event) => {
        if (!(event.target as HTMLElement).closest("select, input, textarea, .glr-over")) focus();
      }}
    >
      <QueueBar session={session} modes={MODES} />
      <ModeComponent session={session} keys={keys} handler={handler} focus={focus} showHelp={showHelp} />
      <Progress session={session} />
      {help && (
        <Help
          keys={keys}
          mode={session.mode}
          onKeys={setKeys}
          author={session.author}
          onAuthor={(name) => session.setAuthor(name)}
          onClose={closeHelp}
        />
      )}
    </div>
  );
}
