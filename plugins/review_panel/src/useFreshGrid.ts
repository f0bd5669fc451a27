import * as React from "react";
import { reloadGrid } from "./app";
import type { Session } from "./session";

/** Loads the grid again, with what was decided, when the mouse leaves the panel or the panel is closed. */
export function useFreshGrid(session: Session, root: React.RefObject<HTMLElement>): void {
  React.useEffect(() => {
    const element = root.current!;
    const leave = () => {
      if (session.takeStaleGrid()) reloadGrid();
    };
    element.addEventListener("pointerleave", leave);
    return () => {
      element.removeEventListener("pointerleave", leave);
      leave();
    };
  }, [session, root]);
}
