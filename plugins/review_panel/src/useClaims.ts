import * as React from "react";
import type { Session } from "./session";

const EVERY = 60_000; // milliseconds between renewals: a third of a claim's time
const IDLE = 10 * 60_000; // who does nothing for so long gives the masks back

/** Keeps the masks of a review for this tab while somebody works in the panel, and gives them back at its end. */
export function useClaims(session: Session, root: React.RefObject<HTMLElement>): void {
  const active = React.useRef(Date.now());
  React.useEffect(() => {
    const element = root.current!;
    const act = () => {
      const wasIdle = Date.now() - active.current > EVERY;
      active.current = Date.now();
      if (wasIdle) void session.renewClaims(); // before the reviewer decides about what others have now
    };
    const timer = setInterval(() => {
      if (Date.now() - active.current < IDLE) void session.renewClaims();
    }, EVERY);
    const events = ["keydown", "pointermove"] as const;
    for (const event of events) element.addEventListener(event, act, { capture: true, passive: true });
    return () => {
      clearInterval(timer);
      for (const event of events) element.removeEventListener(event, act, { capture: true });
      void session.server.releaseClaims();
    };
  }, [session, root]);
  const ended = !session.loading && session.masks.length > 0 && session.position >= session.masks.length;
  React.useEffect(() => {
    if (ended) void session.server.releaseClaims();
  }, [ended, session]);
}
